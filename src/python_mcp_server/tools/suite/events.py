"""Follows a test run by the file of its events: progress, and the stream of failures.

events.jsonl ──> Tally ──> progress
                   └─────> the file `failures`, which `py_job_output` reads while the tests run


What is known of a test run: its events, added up while they come."""

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
from python_mcp_server.runner.output import open_stream

_LOOK_S: Final = 0.1
_SAVE_S: Final = 1.0
_PIECE_BYTES: Final = 1 << 20


class Follower:
    """Reads the events of one run as they come.

    Attributes:
        tally: What they add up to.
    """

    def __init__(self, events: Path, failures: Path, save: Callable[[RunSummary], None]) -> None:
        """Remember where things are.

        Args:
            events: The file that the plugin appends to; it need not be there yet.
            failures: The stream that failures are appended to.
            save: Called when tests have failed since the last call, at most once a second.
        """
        self.tally = RunSummary()
        self._events, self._failures, self._save = events, failures, save
        self._offset, self._rest = 0, b""
        self._lines: deque[bytes] = deque()
        self._unsaved, self._saved_at = False, time.monotonic()
        self._report = create_progress_callback()
        self._over = threading.Event()

    @contextmanager
    def watch(self, _pid: int) -> Generator[None]:
        """Follow until the context ends; what was told until then has been read."""
        thread = threading.Thread(target=self._run, name="follower of tests", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self.look()

    def look(self) -> None:
        """Take the events that are new, and tell of them."""
        before = self.tally.done, self.tally.total, self.tally.failure_count
        while piece := self._read():
            *lines, self._rest = (self._rest + piece).split(b"\n")
            self._lines.extend(lines)
        while self._lines:
            self._take(self._lines[0])
            self._lines.popleft()  # not before: what could not be taken is met again by the next look
        if (self.tally.done, self.tally.total, self.tally.failure_count) != before:
            self._report(self.tally.done, self.tally.total, self.tally.progress())
        if self._unsaved and time.monotonic() - self._saved_at > _SAVE_S:
            self._unsaved, self._saved_at = False, time.monotonic()
            self._save(self.tally)

    def _run(self) -> None:
        self._report(0, None, self.tally.progress())
        try:
            while not self._over.wait(_LOOK_S):
                self.look()
        except OSError:
            return  # the last look is that of the caller: it meets the same, and can raise it

    def _read(self) -> bytes:
        try:
            with self._events.open("rb") as file:
                file.seek(self._offset)
                piece = file.read(_PIECE_BYTES)
        except FileNotFoundError:
            return b""
        self._offset += len(piece)
        return piece

    def _take(self, line: bytes) -> None:
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            return  # a process was killed while it wrote this
        failure = failure_in(event)
        if failure is not None:
            with open_stream(self._failures) as descriptor, open(descriptor, "wb", closefd=False) as file:
                file.write(_shown(failure).encode("utf-8", errors="replace"))
            self._unsaved = True
        self.tally.add(event)


def _shown(failure: Failure) -> str:
    where = "" if failure.when == "call" else f" ({failure.when})"
    where = f" {failure.subtest}" if failure.subtest else where
    parts = [f"{failure.category.upper()} {failure.id}{where}\n{failure.text.rstrip()}\n"]
    parts += [f"--- {name}\n{text.rstrip()}\n" for name, text in failure.sections]
    return "".join(parts) + "\n"


FAILURES: Final = ("failed", "error")
KEPT: Final = 20
"""Failures that a result can show; guessed: more is too much to read at once."""
_SLOWEST: Final = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure, with all its texts.

    Attributes:
        id: The test.
        category: "failed" or "error".
        when: The phase.
        message: What was raised.
        location: Where, as `path:line`; empty where unknown.
        text: The traceback.
        sections: What was printed and logged: name and text of each stream.
        subtest: Which part of the test, in pytest's words; empty for the test itself.
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
        failures: The first of them.
        failed: Ids of all that failed, in order.
        finished: Ids of all tests that came to their end.
        running: Ids of the tests that are under way.
        total: How many are to run; None until that is known.
        done: How many came to their end.
        collection_errors: How many files could not be collected.
        workers: Processes of xdist.
        lost: How many of them ended before their time.
        alone: Why xdist takes no part; empty where it does, or need not.
        idle: The option for which pytest runs no test; empty where there is none.
        pytest_version: Empty until the session started.
        rootdir: What ids are relative to.
        usage: Why pytest refused its arguments; empty where it did not.
        stopped: Why the session ended early; empty where it did not.
        internal: The error of pytest itself or of a plugin; empty where there was none.
        ended: Whether the session came to its end.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[Failure] = []
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
        """How many tests were left out; every worker of xdist counts them all."""
        return max(self._deselected.values(), default=0)

    @property
    def collecting(self) -> list[str]:
        """Files in which processes last looked for tests that did not come to the end of that."""
        return sorted({nodeid for nodeid in self._collecting.values() if nodeid})

    @property
    def complete(self) -> bool:
        """Whether every test had its turn, and every process came to its end."""
        whole = self.total is not None and self.done >= self.total
        return whole and self.ended and not (self.stopped or self.internal or self.lost)

    @property
    def slowest(self) -> list[tuple[float, str]]:
        """Seconds and ids of the tests that took longest."""
        return sorted(self._slowest, reverse=True)

    @property
    def failure_count(self) -> int:
        """How many failures and errors there are."""
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
        """Take one event; kinds that are not known here are left alone."""
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


def failure_in(event: Mapping[str, Any]) -> Failure | None:
    """Return the failure that an event tells of, if it does."""
    if event["e"] != "report" or event["as"] not in FAILURES:
        return None
    return Failure(
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
