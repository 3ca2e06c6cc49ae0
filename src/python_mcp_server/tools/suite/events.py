"""Follows a test run by the file of its events: counts, progress, and the stream of failures.

events.jsonl ──> RunSummary ──> progress
       └───────> the file `failures`, which `py_job_output` reads while the tests run
"""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from python_mcp_server.context import create_progress_callback
from python_mcp_server.regular import own_file
from python_mcp_server.runner.output import open_stream

_POLL_S: Final = 0.1
_SAVE_S: Final = 1.0
_PIECE_BYTES: Final = 1 << 20


class EventFollower:
    """Reads the events of one run as they come."""

    def __init__(self, events: Path, failures: Path, save: Callable[[RunSummary], None]) -> None:
        """Prepare to follow.

        Args:
            events: The file that the plugin appends to; it may not exist yet.
            failures: The stream that failures are appended to.
            save: Called when tests have failed since the last call, at most once a second.
        """
        self.summary = RunSummary()
        self._events, self._failures, self._save = events, failures, save
        self._offset, self._rest = 0, b""
        self._lines: deque[bytes] = deque()
        self._unsaved, self._saved_at = False, time.monotonic()
        self._report = create_progress_callback()
        self._over = threading.Event()

    @contextmanager
    def watch(self, _pid: int) -> Generator[None]:
        """Follow until the context ends; all events written until then have been read."""
        thread = threading.Thread(target=self._run, name="follower of tests", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self.read_new()

    def read_new(self) -> None:
        """Add the new events to the summary, and report progress."""
        before = self.summary.done, self.summary.total, self.summary.failure_count
        while piece := self._read():
            *lines, self._rest = (self._rest + piece).split(b"\n")
            self._lines.extend(lines)
        while self._lines:
            self._take(self._lines[0])
            self._lines.popleft()  # only now: a line that raised an error is read again
        if (self.summary.done, self.summary.total, self.summary.failure_count) != before:
            self._report(self.summary.done, self.summary.total, self.summary.progress())
        if self._unsaved and time.monotonic() - self._saved_at > _SAVE_S:
            self._unsaved, self._saved_at = False, time.monotonic()
            self._save(self.summary)

    def _run(self) -> None:
        self._report(0, None, self.summary.progress())
        try:
            while not self._over.wait(_POLL_S):
                self.read_new()
        except OSError:
            return  # the caller's last read meets the same error, and can raise it

    def _read(self) -> bytes:
        try:
            with open(self._events, "rb", opener=own_file) as file:
                file.seek(self._offset)
                piece = file.read(_PIECE_BYTES)
        except FileNotFoundError:
            return b""
        self._offset += len(piece)
        return piece

    def _take(self, line: bytes) -> None:
        try:
            event: dict[str, Any] = json.loads(line)
        except (ValueError, RecursionError):
            return  # a process was killed while it wrote this
        failure = failure_in(event)
        if failure is not None:
            with open_stream(self._failures) as descriptor, open(descriptor, "wb", closefd=False) as file:
                file.write(_shown(failure).encode("utf-8", errors="replace"))
            self._unsaved = True
        self.summary.add(event)


def _shown(failure: FailureDetails) -> str:
    where = "" if failure.when == "call" else f" ({failure.when})"
    where = f" {failure.subtest}" if failure.subtest else where
    parts = [f"{failure.category.upper()} {failure.id}{where}\n{failure.text.rstrip()}\n"]
    parts += [f"--- {name}\n{text.rstrip()}\n" for name, text in failure.sections]
    return "".join(parts) + "\n"


FAILURES: Final = ("failed", "error")
KEPT: Final = 20
"""The number of failures that a result shows; guessed: more is too much to read at once."""
_SLOWEST: Final = 10
_SLOW_S: Final = 0.005
"""As `--durations` has it."""


@dataclass(frozen=True, slots=True)
class FailureDetails:
    """One failure of a test, with its texts.

    Attributes:
        id: The test.
        category: "failed" or "error".
        when: The phase.
        message: The text of the exception.
        location: The line that raised it, as `path:line`; empty if unknown.
        text: The traceback.
        sections: The captured output: name and text of each stream.
        subtest: The subtest, in pytest's words; empty for the test itself.
    """

    id: str
    category: str
    when: str
    message: str
    location: str
    text: str
    sections: tuple[tuple[str, str], ...] = ()
    subtest: str = ""


class RunSummary:
    """The state of a run.

    Attributes:
        counts: Category, as pytest names it, to number.
        failures: The first failures, with details.
        failed: Ids of all failed tests, in order.
        finished: Ids of all tests that have ended.
        running: Ids of the tests that run now.
        total: The number of tests to run; None until pytest has collected them.
        done: The number of tests that have ended.
        collection_errors: The number of files that could not be collected.
        workers: The number of xdist processes.
        lost: How many of them died.
        alone: Why xdist is not used; empty if it is used, or the caller did not want it.
        idle: The option that keeps pytest from running tests; empty without one.
        pytest_version: Empty until the session started.
        rootdir: The directory that ids are relative to.
        usage: Why pytest refused its arguments; empty if it did not.
        stopped: Why the session ended early; empty if it did not.
        internal: The error of pytest itself or of a plugin; empty without one.
        ended: Whether the session has ended.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[FailureDetails] = []
        self.failed: dict[str, None] = {}
        self.finished: set[str] = set()
        self.running: dict[str, None] = {}
        self.total: int | None = None
        self.done = self.collection_errors = self.workers = self.lost = 0
        self.pytest_version = self.rootdir = self.usage = self.alone = self.idle = ""
        self.stopped = self.internal = ""
        self.ended = False
        self._collecting: dict[str, str] = {}
        self._deselected: Counter[str] = Counter()
        self._slowest: list[tuple[float, str]] = []

    @property
    def deselected(self) -> int:
        """The number of deselected tests; every worker of xdist counts them all."""
        return max(self._deselected.values(), default=0)

    @property
    def collecting(self) -> list[str]:
        """Files whose collection began and did not end."""
        return sorted({nodeid for nodeid in self._collecting.values() if nodeid})

    @property
    def complete(self) -> bool:
        """Whether every test ran and every process ended as it should."""
        whole = self.total is not None and self.done >= self.total
        return whole and self.ended and not (self.stopped or self.internal or self.lost)

    @property
    def slowest(self) -> list[tuple[float, str]]:
        """Seconds and ids of the slowest tests."""
        return sorted(self._slowest, reverse=True)

    @property
    def failure_count(self) -> int:
        """The number of failures and errors."""
        return sum(self.counts[category] for category in FAILURES)

    def progress(self) -> str:
        """Return the state in a few words."""
        if self.total is None:
            return "collecting tests"
        words = [f"{self.counts['passed']} of {self.total} passed"]
        if self.counts["failed"]:
            words.append(f"{self.counts['failed']} failed")
        if self.counts["error"]:
            words.append(errors(self.counts["error"]))
        return ", ".join(words)

    def add(self, event: Mapping[str, Any]) -> None:
        """Add one event; unknown kinds are ignored."""
        take: Callable[[Mapping[str, Any]], None] | None = getattr(self, f"_on_{event['e']}", None)
        if take is not None:
            take(event)

    def _on_report(self, event: Mapping[str, Any]) -> None:
        self.counts[event["as"]] += 1
        failure = failure_in(event)
        if failure is None:
            return
        self.failed[failure.id] = None
        self.collection_errors += failure.when == "collect"
        if len(self.failures) < KEPT:
            self.failures.append(failure)

    def _on_start(self, event: Mapping[str, Any]) -> None:
        self.pytest_version, self.rootdir = event["pytest"], event["rootdir"]
        self.idle, self.alone = event["idle"], event["alone"]

    def _on_worker(self, _event: Mapping[str, Any]) -> None:
        self.workers += 1

    def _on_lost(self, _event: Mapping[str, Any]) -> None:
        self.lost += 1

    def _on_collecting(self, event: Mapping[str, Any]) -> None:
        self._collecting[event["by"]] = event["id"]

    def _on_collected(self, event: Mapping[str, Any]) -> None:
        self.total = event["n"]

    def _on_deselected(self, event: Mapping[str, Any]) -> None:
        self._deselected[event["by"]] += event["n"]

    def _on_usage(self, event: Mapping[str, Any]) -> None:
        self.usage = self.usage or event["text"]

    def _on_began(self, event: Mapping[str, Any]) -> None:
        self.running[event["id"]] = None

    def _on_done(self, event: Mapping[str, Any]) -> None:
        nodeid: str = event["id"]
        self.running.pop(nodeid, None)
        self.finished.add(nodeid)
        self.done += 1
        if event["s"] < _SLOW_S:
            return
        keep = heapq.heappush if len(self._slowest) < _SLOWEST else heapq.heappushpop
        keep(self._slowest, (event["s"], nodeid))

    def _on_passed_by(self, event: Mapping[str, Any]) -> None:
        self.running.pop(event["id"], None)

    def _on_warning(self, _event: Mapping[str, Any]) -> None:
        self.counts["warnings"] += 1

    def _on_stopped(self, event: Mapping[str, Any]) -> None:
        self.stopped = self.stopped or event["text"]

    def _on_internal(self, event: Mapping[str, Any]) -> None:
        lines = [line for line in event["text"].split("\n") if line.strip()]
        self.internal = self.internal or (lines[-1] if lines else "an internal error")

    def _on_end(self, _event: Mapping[str, Any]) -> None:
        self.ended = True


def failure_in(event: Mapping[str, Any]) -> FailureDetails | None:
    """Return the failure that an event reports; None for other events."""
    if event["e"] != "report" or event["as"] not in FAILURES:
        return None
    return FailureDetails(
        event["id"],
        event["as"],
        event["when"],
        event["message"],
        event["at"],
        event["text"],
        tuple((name, text) for name, text in event["sections"]),
        event["sub"],
    )


def errors(count: int) -> str:
    """Return a number of errors in words."""
    return "1 error" if count == 1 else f"{count} errors"
