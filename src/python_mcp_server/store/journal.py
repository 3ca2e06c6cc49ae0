"""The journal of a home: one line of JSON for each transition of a job, whichever process writes it.

    home/events/000000001.jsonl      the lines; up to 10 files of 10 MB, the oldest goes first

A store writes a record inside `Journal.noting`. The record holds the number of its last transition; the line
is appended after the record is written, under the lock of the job. So a line is always true, and a process
that is killed in between leaves one line missing: the last one of this record. Before the next transition of
the record is written, its writer appends that line, unless it has appended it itself. A reader may do so
earlier (`mend`). A line may therefore be there twice, and readers drop the second: the numbers of a job only
grow.

Lines are appended without a lock of their own: the kernel puts each at the end. A line begins and ends with a
line break, so one that is cut off by a full disk or a kill spoils no other.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import Final, NamedTuple, Self

from python_mcp_server.atomic import make_directory, remove_file
from python_mcp_server.errors import InvalidInput, StoreError, quoted
from python_mcp_server.model import Job, Transition, utc_now
from python_mcp_server.regular import open_own, open_regular, refuse_links
from python_mcp_server.store.events import JobEvent, kind_of

FILE_BYTES: Final = 10_000_000
FILES: Final = 10
_PAGE_BYTES: Final = 1 << 20
_REMEMBERED: Final = 16_384
"""Jobs of which this process knows that their last line is there. For others it is written again: a cost."""

_DIGITS: Final = 9
_POSITION_CHARS: Final = 40
_SUFFIX: Final = ".jsonl"
_APPEND: Final = os.O_WRONLY | os.O_APPEND
_WINDOWS: Final = sys.platform == "win32"
_log: Final = logging.getLogger(__name__)


class Position(NamedTuple):
    """A place in a journal, between two lines.

    Attributes:
        number: The number of the file.
        offset: The place in it, in bytes.
    """

    number: int
    offset: int

    def __str__(self) -> str:
        return f"{self.number}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives.

        Raises:
            InvalidInput: The text is no position.
        """
        number, _, offset = str(text).partition(":")
        if not (number.isdecimal() and offset.isdecimal() and len(str(text)) <= _POSITION_CHARS):
            raise InvalidInput(f"the cursor is {quoted(str(text))}; it must be one that an event came with")
        return cls(int(number), int(offset))


class Journal:
    """Appends and reads the lines of one home. Every method blocks for a moment, and may be called from any
    thread of any process.

    Attributes:
        listeners: Called after each line that this process appends, in the thread that does.
    """

    def __init__(self, home: str, exclusive: Callable[[str], AbstractContextManager[None]]) -> None:
        """Make the journal; nothing is opened yet.

        Args:
            home: The directory of the store.
            exclusive: The store's lock of this name.
        """
        self.listeners: Final = set[Callable[[], object]]()
        self._directory = f"{home}/events"
        self._exclusive = exclusive
        self._newest = 1
        self._appended = dict[str, int]()

    @contextmanager
    def noting(self, job: Job, former: Job | None = None) -> Generator[Job]:
        """Yield the job with its transition counted, for the block to write it; append the event after that.
        The caller holds the lock of the job.

        Args:
            job: The job as it is to be written.
            former: The job as its record has it; None where there is no record.
        """
        job, is_transition = counted(job, former)
        if not is_transition:
            yield job
            return
        if former is not None:
            self.mend(former, self._appended.get(job.id, 0))
        yield job
        self._append(job)

    def mend(self, job: Job, number: int) -> None:
        """Append the last event of a record, where a reader knows only those up to this number."""
        if job.event is not None and job.event.number > number:
            self._append(job)

    def _append(self, job: Job) -> None:
        if job.event is None:
            return
        try:
            line = json.dumps(JobEvent.of(job, job.event).to_json(), separators=(",", ":"))
            with self._exclusive("events") if _WINDOWS else nullcontext():  # it has no append of the kernel's
                self._write(f"\n{line}\n".encode())
        except (OSError, StoreError) as error:
            self._appended.pop(job.id, None)
            _log.warning("The event %s of job %s is written later: %s", job.event.kind, job.id, error)
            return
        self._remember(job.id, job.event.number, ended=job.status.terminal)
        for tell in tuple(self.listeners):
            tell()

    def _remember(self, job_id: str, number: int, *, ended: bool) -> None:
        if ended:
            self._appended.pop(job_id, None)
            return
        if len(self._appended) >= _REMEMBERED:
            self._appended = {}
        self._appended[job_id] = number

    def _write(self, data: bytes) -> None:
        while True:
            number, descriptor = self._open_newest()
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            finally:
                os.close(descriptor)
            if not os.path.lexists(self._path(number + 1)):
                return  # otherwise a reader may have left this file before the line was in it

    def _open_newest(self) -> tuple[int, int]:
        """Return the number and the descriptor of the file that takes the next line."""
        number = self._newest
        refuse_links(self._directory, 1)
        while True:
            try:
                descriptor = open_own(self._path(number), _APPEND)
            except FileNotFoundError:
                number = self._next(number)
                continue
            if os.fstat(descriptor).st_size < FILE_BYTES:
                self._newest = number
                return number, descriptor
            os.close(descriptor)
            number += 1

    def _next(self, number: int) -> int:
        """Return the number of the newest file; the one with this number is made where it is the next."""
        numbers = self.numbers()
        newest = numbers[-1] if numbers else 0
        if number != newest + 1:
            return max(newest, 1)
        make_directory(self._directory)
        os.close(open_own(self._path(number), _APPEND | os.O_CREAT))
        for old in numbers[: 1 - FILES]:
            self._drop(old)
        return number

    def _drop(self, number: int) -> None:
        try:
            remove_file(self._path(number))
        except OSError as error:  # on Windows a reader keeps it
            _log.info("The old events in %s stay for now: %s", self._path(number), error)

    def _path(self, number: int) -> str:
        return f"{self._directory}/{number:0{_DIGITS}}{_SUFFIX}"

    # ---- reading

    def numbers(self) -> list[int]:
        """Return the numbers of the files, the oldest first."""
        try:
            names = os.listdir(self._directory)
        except (FileNotFoundError, NotADirectoryError):
            return []
        stems = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
        return sorted(int(stem) for stem in stems if stem.isdecimal() and len(stem) == _DIGITS)

    def start_of(self, since: datetime) -> tuple[Position, bool]:
        """Return a position before the events since this time, and whether the journal surely goes back so
        far. Files that were written last before this time are passed over.
        """
        numbers, since_ns = self.numbers(), since.timestamp() * 1e9
        recent = [number for number in numbers if self._changed_ns(number) >= since_ns]
        position = Position(recent[0], 0) if recent else self.end()
        return position, not numbers or numbers[0] == 1 or recent != numbers

    def end(self) -> Position:
        """Return the position after the last line."""
        numbers = self.numbers()
        if not numbers:
            return Position(1, 0)
        try:
            return Position(numbers[-1], os.stat(self._path(numbers[-1])).st_size)
        except FileNotFoundError:
            return Position(numbers[-1], 0)

    def read(self, position: Position) -> tuple[list[JobEvent], Position]:
        """Return the next events, perhaps some twice, and the position to go on from.

        At most about 1 MB is read. Files that were dropped meanwhile are passed over.

        Raises:
            OSError: They cannot be read.
        """
        is_followed = os.path.lexists(self._path(position.number + 1))  # looked at before the last read
        data = self._page(position)
        if data is None:
            numbers = self.numbers()
            later = [number for number in numbers if number > position.number]
            first = (later or numbers)[:1]  # none is later where the journal was removed, and begins anew
            return [], Position(first[0], 0) if first else position
        whole = data.rfind(b"\n") + 1 or (len(data) if len(data) == _PAGE_BYTES else 0)
        lines, offset = data[:whole].splitlines(keepends=True), position.offset
        events = list[JobEvent]()
        for line in lines:
            offset += len(line)
            if (event := decoded_event(line, Position(position.number, offset))) is not None:
                events.append(event)
        if is_followed and len(data) < _PAGE_BYTES:
            return events, Position(position.number + 1, 0)
        return events, Position(position.number, offset)

    def _page(self, position: Position) -> bytes | None:
        """Return what comes next in a file; None where the file is missing, or ends before the position."""
        try:
            refuse_links(self._directory, 1)
            descriptor = open_regular(self._path(position.number), follow=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            if os.lseek(descriptor, 0, os.SEEK_END) < position.offset:
                return None
            os.lseek(descriptor, position.offset, os.SEEK_SET)
            return os.read(descriptor, _PAGE_BYTES)
        finally:
            os.close(descriptor)

    def _changed_ns(self, number: int) -> int:
        try:
            return os.stat(self._path(number)).st_mtime_ns
        except FileNotFoundError:
            return 0


class JournalReader:
    """Reads a journal from a position on, each event once. For one thread at a time."""

    def __init__(self, journal: Journal, position: Position) -> None:
        self.position = position
        self._journal = journal
        self._numbers = dict[str, tuple[int, datetime]]()

    def read(self) -> list[JobEvent] | None:
        """Return the next events, up to 1 MB; None where the end of the journal is reached.

        Raises:
            OSError, StoreError: The journal cannot be read.
        """
        before = self.position
        events, self.position = self._journal.read(before)
        return None if self.position == before else [event for event in events if self._is_new(event)]

    def read_all(self) -> list[JobEvent]:
        """Return all events up to the end of the journal.

        Raises:
            OSError, StoreError: The journal cannot be read.
        """
        found = list[JobEvent]()
        while (events := self.read()) is not None:
            found += events
        return found

    def _is_new(self, event: JobEvent) -> bool:
        number, at = self._numbers.pop(event.job_id, (0, event.at))
        is_new = event.number > number or (event.number == 1 and event.at > at)  # an id may be given again
        self._numbers[event.job_id] = (event.number, event.at) if is_new else (number, at)
        if len(self._numbers) > 2 * _REMEMBERED:
            self._numbers = dict(list(self._numbers.items())[_REMEMBERED:])
        return is_new


def counted(job: Job, former: Job | None) -> tuple[Job, bool]:
    """Return a job as it is to be written, with its last transition, and whether that is a new one.

    Args:
        job: The job as it is to be written.
        former: The job as its record has it; None where there is no record.
    """
    known = None if former is None else former.event
    kind = kind_of(job, former)
    if kind is None:
        return (job if job.event is known else job.evolve(event=known)), False
    number = 1 if known is None else known.number + 1
    before = None if former is None else former.status.value
    return job.evolve(event=Transition(number, kind.value, before, utc_now())), True


def decoded_event(line: bytes, after: Position) -> JobEvent | None:
    """Return the event of a line, with the position after it; None where the line holds no event."""
    if line.isspace():
        return None
    try:
        return JobEvent.from_json(json.loads(line), str(after))
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # cut off, or of a newer version
        _log.debug("left out a line of the journal: %s", error)
        return None
