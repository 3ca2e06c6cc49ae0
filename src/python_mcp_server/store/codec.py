"""A job as the bytes of its record, and back. Used by the stores only.

A record is one JSON object: the job's own fields, the version of this format, and where the result
is too large for a listing, its size instead of it. That of a job that has ended says, too, where
the clocks of the machine stood.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, cast

from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.model import Job
from python_mcp_server.store.clock import Reading, on_present_clock
from python_mcp_server.store.keys import id_of
from python_mcp_server.store.layout import tree_of

FORMAT: Final = 1
LARGE_BYTES: Final = 64 * 1024
"""A result above this lies in a file of its own."""
_FORMAT_KEY: Final = "format"
_APART_KEY: Final = "result_bytes"
_CLOCK_KEY: Final = "clock"


class Unreadable(Exception):
    """A file is no record; the text says why. It stays inside the store."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A job as its record has it.

    Attributes:
        job: The job; without its result where that lies apart.
        result_bytes: The size of a result that lies apart; 0 where none does.
        clock: Where the clocks stood when its end was written.
    """

    job: Job
    result_bytes: int = 0
    clock: Reading | None = None

    @property
    def listed(self) -> Job:
        """The job as listings show it, with a note in the place of a large result."""
        if not self.result_bytes:
            return self.job
        note = f"result of {self.result_bytes} bytes; ask for the job itself"
        return self.job.evolve(
            result_note=f"{self.job.result_note}; {note}" if self.job.result_note else note
        )

    @property
    def dated(self) -> Job:
        """The job as listings show it, its end told by the wall clock of now."""
        return on_present_clock(self.listed, self.clock)


def encode(job: Job) -> tuple[bytes, bytes | None]:
    """Return the record, and the result where it must lie apart.

    Raises:
        InvalidInput: The job holds something that is no JSON.
    """
    record = {_FORMAT_KEY: FORMAT} | job.to_record()
    if job.status.terminal and (clock := Reading.now()):
        record[_CLOCK_KEY] = clock.to_json()
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
        InvalidInput: It cannot be written as JSON.
    """
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"Job {job_id} holds a value that is no JSON ({error}); pass plain data"
        ) from error


def decode(data: bytes, key: str, tree: str) -> Stored:
    """Read what `encode` wrote.

    Args:
        data: The bytes of the file.
        key: The key that the file is named by.
        tree: The directory that it was found in.

    Raises:
        Unreadable: It is no record, or not one that belongs there.
        StoreError: A newer version wrote it.
    """
    try:
        record = _object(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no JSON object ({error})" if data else "it is empty") from error
    version = record.pop(_FORMAT_KEY, None)
    if isinstance(version, int) and version > FORMAT:
        raise StoreError(
            f"The record {key} has format {version}, and this version reads up to {FORMAT}: "
            "upgrade python-mcp-server"
        )
    result_bytes = record.pop(_APART_KEY, 0)
    clock = Reading.from_json(record.pop(_CLOCK_KEY, None))
    try:
        job = Job.from_record(record)
        fits = tree_of(job.status) == tree and job.id == id_of(key)
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Unreadable(f"it is no record of a job ({error!r})") from error
    if version != FORMAT or not fits or not isinstance(result_bytes, int):
        raise Unreadable("it is not the record that belongs in its place")
    return Stored(job, result_bytes, clock)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("something else")
    return cast("dict[str, Any]", value)
