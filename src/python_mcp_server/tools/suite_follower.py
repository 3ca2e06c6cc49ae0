"""Follows a test run by the file of its events: progress, and the stream of failures.

events.jsonl ──> Tally ──> progress
                   └─────> the file `failures`, which `py_job_output` reads while the tests run
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from python_mcp_server.context import create_progress_callback
from python_mcp_server.runner.output import open_stream
from python_mcp_server.tools.suite_tally import Failure, Tally, failure_in

_LOOK_S: Final = 0.1
_SAVE_S: Final = 1.0
_PIECE_BYTES: Final = 1 << 20


class Follower:
    """Reads the events of one run as they come.

    Attributes:
        tally: What they add up to.
    """

    def __init__(self, events: Path, failures: Path, save: Callable[[Tally], None]) -> None:
        """Remember where things are.

        Args:
            events: The file that the plugin appends to; it need not be there yet.
            failures: The stream that failures are appended to.
            save: Called when tests have failed since the last call, at most once a second.
        """
        self.tally = Tally()
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
