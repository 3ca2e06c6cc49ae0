"""A job as the bytes of its record and back. Used by every store that keeps records.

A record is one JSON object: the job's own fields, the version of this format, and where the result
is too large for a listing, its size instead of it: such a result lies in a file of the job's folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, cast

from python_mcp_server.atomic import read_file
from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.model import Job, JobState
from python_mcp_server.store.layout import Layout, tree_of

FORMAT: Final = 1
LARGE_BYTES: Final = 64 * 1024
"""A result above this lies in a file of its own."""
_FORMAT_KEY: Final = "format"
_APART_KEY: Final = "result_bytes"
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_CLOCK_KEY: Final = "clock"
"""The name of this field in records of earlier versions."""


class Unreadable(Exception):
    """A file is not a record; the text says why. Raised and caught inside the store only."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A job as its record has it.

    Attributes:
        job: The job; without its result where that lies in a file of its own.
        result_bytes: The size of a result that listings leave out; 0 where they show it.
    """

    job: Job
    result_bytes: int = 0

    @property
    def listed(self) -> Job:
        """The job as listings show it, with a note in the place of a large result."""
        if not self.result_bytes:
            return self.job
        return self.job.without_result(self.result_bytes, "ask for the job itself")


def encode(job: Job) -> tuple[bytes, bytes | None]:
    """Return the record, and the result where it needs a file of its own.

    Raises:
        InvalidInput: The job holds data that is not JSON.
    """
    record = {_FORMAT_KEY: FORMAT} | job.to_record()
    whole = to_json(record, job.id)
    if len(whole) <= LARGE_BYTES or job.result is None:
        return whole, None
    result = to_json(job.result, job.id)
    if len(result) <= LARGE_BYTES:
        return whole, None
    return to_json(record | {"result": None, _APART_KEY: len(result)}, job.id), result


def to_json(value: object, job_id: str) -> bytes:
    """Return the value as JSON.

    Raises:
        InvalidInput: The value cannot be written as JSON.
    """
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"Job {job_id} holds a value that is no JSON ({error}); pass plain data"
        ) from error


def decode(data: bytes, job_id: str, tree: str) -> Stored:
    """Decode the bytes of `encode`.

    Raises:
        Unreadable: The bytes are not a record, or not one that belongs there.
        StoreError: A newer version wrote it.
    """
    try:
        record: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is not JSON ({error})" if data else "it is empty") from error
    if not isinstance(record, dict):
        raise Unreadable("it is not a JSON object")
    record = cast("dict[str, Any]", record)
    version = record.pop(_FORMAT_KEY, None)
    if isinstance(version, int) and version > FORMAT:
        raise StoreError(
            f"The record {job_id} has format {version}, and this version reads up to {FORMAT}: "
            "upgrade python-mcp-server"
        )
    result_bytes = record.pop(_APART_KEY, 0)
    record.pop(_CLOCK_KEY, None)
    try:
        job = Job.from_record(record)
        fits = tree_of(job.status) == tree and job.id == job_id
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Unreadable(f"it is not the record of a job ({error!r})") from error
    if version != FORMAT or not fits or not isinstance(result_bytes, int):
        raise Unreadable("it is not the record that belongs in its place")
    return Stored(job, result_bytes)


def decode_row(job_id: str, status: str, record: object) -> Stored:
    """Decode a record of a store that keeps the state beside it.

    Raises:
        Unreadable, StoreError: As `decode`.
    """
    try:
        tree = tree_of(JobState(status))
    except ValueError as error:
        raise Unreadable(f"its state is {status!r:.40}") from error
    if not isinstance(record, bytes):
        raise Unreadable("it is not JSON")
    return decode(record, job_id, tree)


def with_result(stored: Stored, layout: Layout) -> Job:
    """Return the job with its result, also where that is in a file of its own."""
    if not stored.result_bytes:
        return stored.job
    path = layout.result(stored.job.id)
    try:
        layout.refuse_links(path)
        data = read_file(path)
        if data is None:
            loss = "gone"
        elif len(data) == stored.result_bytes:
            return stored.job.evolve(result=json.loads(data))
        else:
            loss = f"damaged ({len(data)} bytes are there)"
    except (ValueError, RecursionError):
        loss = "damaged"
    except OSError as error:
        loss = f"unreadable ({error.strerror or error})"
    return stored.job.evolve(result_note=f"result of {stored.result_bytes} bytes is {loss}")
