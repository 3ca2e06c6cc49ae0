"""Many runs of one command at once, each with a tree of its own: nobody's end touches another's children.

worker ── a thread per slot ── item, answer (JSON lines) ──> slot ── run_child ──> script and its tree
   └─ main thread <── answers

`run_child` tells what a child leaves behind by the children of its own process. So each slot is a
process, which runs one item at a time.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, cast

from python_mcp_server import processes
from python_mcp_server.errors import ToolchainError
from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes import JOB_VARIABLE
from python_mcp_server.runner.child import end_leftovers, own_children
from python_mcp_server.tools.batch.slot import Setup, shown_args

_START: Final = """\
import json, sys
sys.path = json.loads(sys.argv.pop(1))
from python_mcp_server.tools.batch.slot import main
main()
"""
_SOURCES: Final = str(Path(__file__).resolve().parents[3])
_LEAVE_S: Final = 1.2
"""How long slots may take to end their items: what a child gets to react, and then its kill. The grace of
a cancelled body is longer."""

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One run.

    Attributes:
        index: Its number, from 0.
        args: What stands behind the command.
    """

    index: int
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Slot:
    """A process that runs items, and what it is known by."""

    process: subprocess.Popen[bytes]
    identity: ProcessIdentity | int

    def begin(self, item: Item, setup: bytes = b"") -> None:
        """Have an item run, the first with the setup."""
        line = json.dumps({"index": item.index, "args": item.args}).encode() + b"\n"
        with suppress(BrokenPipeError, ValueError):  # it is gone, or dismissed: that shows at its end
            self._input.write(setup + line)
            self._input.flush()

    def end(self) -> Answer | None:
        """Return how the item ended that was begun; None where the slot is gone. Blocks."""
        try:
            return json.loads(self._output.readline() or "null")
        except ValueError:  # half a line
            return None

    def dismiss(self) -> None:
        """Let it end what it runs, and go."""
        try:
            self._input.close()
        except BrokenPipeError:
            return  # it is gone

    @property
    def _input(self) -> IO[bytes]:
        return cast("IO[bytes]", self.process.stdin)

    @property
    def _output(self) -> IO[bytes]:
        return cast("IO[bytes]", self.process.stdout)


@dataclass(frozen=True, slots=True)
class _Lost:
    """A slot that went away while it ran an item; `at_once` where that was its first."""

    slot: _Slot
    item: Item
    at_once: bool


class SlotPool:
    """The slots of one batch. A context manager: at its end they and all that they ran are gone."""

    def __init__(
        self, setup: Setup, record: Callable[[Answer], None], is_last: Callable[[Answer], bool]
    ) -> None:
        """Remember what all items have in common.

        Args:
            setup: That.
            record: Called with each answer as it comes, by one thread at a time, and not by the main
                one, where a cancel would cut it off.
            is_last: Whether no item is to be started after this answer; those that run are seen through.
        """
        self._setup, self._record, self._is_last = setup, record, is_last
        self._slots: list[_Slot] = []
        self._threads: list[threading.Thread] = []
        self._items: Iterator[Item] = iter(())
        self._news: queue.SimpleQueue[Answer | _Lost | BaseException | None] = queue.SimpleQueue()
        self._lock, self._recording = threading.Lock(), threading.Lock()
        self._before = own_children()
        self._running = 0

    @property
    def running(self) -> int:
        """How many items run now."""
        return self._running

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._items = iter(())
        for slot in self._slots:
            slot.dismiss()
        deadline = time.monotonic() + _LEAVE_S
        for slot in self._slots:
            self._see_off(slot, deadline)
        for thread in self._threads:
            thread.join()
        if self._slots:
            end_leftovers(self._slots[0].identity, self._setup.job_id, self._before)

    def run(self, items: Iterable[Item], at_once: int) -> Generator[Answer]:
        """Run items, so many at once, and yield their answers as they come.

        Raises:
            ToolchainError: The processes that run them cannot be started.
        """
        self._items = iter(items)
        for _ in range(at_once):
            self._add_slot()
        busy = at_once
        while busy:
            news = self._news.get()
            if isinstance(news, BaseException):
                raise news
            if isinstance(news, _Lost):
                self._mourn(news)
                self._add_slot()
            elif news is None:
                busy -= 1
            else:
                yield news

    def _add_slot(self) -> None:
        slot = self._start()
        self._slots.append(slot)
        thread = threading.Thread(
            target=self._serve, args=(slot,), name=f"slot {slot.process.pid}", daemon=True
        )
        thread.start()
        self._threads.append(thread)

    def _start(self) -> _Slot:
        paths = json.dumps([_SOURCES, *sys.path])
        try:
            process = subprocess.Popen(
                (sys.executable, "-I", "-S", "-c", _START, paths),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, JOB_VARIABLE: self._setup.job_id},
                start_new_session=True,
            )
        except BaseException:
            # A cancel between fork and return: only the variable in its environment finds it.
            processes.kill_tree(-1, job_id=self._setup.job_id, with_root=False)
            raise
        processes.hand_on_priority(process.pid)
        return _Slot(process, processes.identify(process.pid) or process.pid)

    def _serve(self, slot: _Slot) -> None:
        """Give one slot items until there are no more. The body of its thread."""
        at_once = True
        try:
            if (item := self._next()) is not None:
                slot.begin(item, self._setup.to_line())
            while item is not None:
                answer = slot.end()
                if answer is None:
                    self._news.put(_Lost(slot, item, at_once=at_once))
                    return
                at_once = False
                if (item := self._next(answer)) is not None:
                    slot.begin(item)  # it runs while the answer is written down
                self._keep(answer)
            self._news.put(None)
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self._news.put(error)

    def _next(self, answer: Answer | None = None) -> Item | None:
        """Return the next item to run, after this answer to another one."""
        with self._lock:
            if answer is not None:
                self._note_end(answer)
            item = next(self._items, None)
            self._running += item is not None
            return item

    def _note_end(self, answer: Answer) -> None:
        self._running -= 1
        if self._is_last(answer):
            self._items = iter(())

    def _keep(self, answer: Answer) -> None:
        with self._recording:
            self._record(answer)
        self._news.put(answer)

    def _mourn(self, lost: _Lost) -> None:
        """Clear away what a slot left that was ended from outside, and answer for its item."""
        mark = f"{self._setup.job_id}.{lost.item.index}"
        processes.kill_tree(lost.slot.identity, job_id=mark)
        code = lost.slot.process.wait()
        if lost.at_once and code > 0:
            raise ToolchainError(f"a process that runs items ended with {code}; the job's stderr says why")
        answer: Answer = {
            "index": lost.item.index,
            "args": shown_args(list(lost.item.args)),
            "exit_code": None,
            "elapsed_seconds": 0.0,
            "stdout": "",
            "stderr": "",
            "error": f"the process that looked after it was ended from outside (exit code {code})",
        }
        with self._lock:
            self._note_end(answer)
        self._keep(answer)

    def _see_off(self, slot: _Slot, deadline: float) -> None:
        try:
            slot.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            processes.kill_tree(slot.identity, job_id=self._setup.job_id)
            slot.process.wait()
