"""The slots of a batch: processes that run its items at the same time, each item with its own process tree.

worker ── a thread per slot ── item, answer (JSON lines) ──> slot ── run_child ──> script and its tree
   └─ main thread <── answers

`run_child` finds what a child leaves behind among the children of its own process. So each slot is a
process that runs one item at a time.
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
from python_mcp_server.runner.orphans import end_leftovers, own_children
from python_mcp_server.tools.batch.slot import Setup, shown_args

_START: Final = """\
import json, sys
sys.path = json.loads(sys.argv.pop(1))
from python_mcp_server.tools.batch.slot import main
main()
"""
_SOURCES: Final = str(Path(__file__).resolve().parents[3])
_KILL_TIMEOUT_S: Final = 0.7
"""How long slots may take beyond the grace of their items, to kill them."""

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One run of the command, with its index from 0 and its arguments."""

    index: int
    args: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Slot:
    """A process that runs items, and its identity for a kill."""

    process: subprocess.Popen[bytes]
    identity: ProcessIdentity | int

    def send(self, item: Item, setup: bytes = b"") -> None:
        """Start an item; the first one comes with the setup."""
        line = json.dumps({"index": item.index, "args": item.args}).encode() + b"\n"
        with suppress(BrokenPipeError, ValueError):  # a dead or closed slot: `receive` returns None
            self._input.write(setup + line)
            self._input.flush()

    def receive(self) -> Answer | None:
        """Return the result of the item that was sent; None where the slot has died. Blocking."""
        try:
            return json.loads(self._output.readline() or "null")
        except (ValueError, RecursionError):  # half a line
            return None

    def close(self) -> None:
        """Ask the slot to end its item and to exit."""
        try:
            self._input.close()
        except BrokenPipeError:
            return  # the slot has died

    @property
    def _input(self) -> IO[bytes]:
        return cast("IO[bytes]", self.process.stdin)

    @property
    def _output(self) -> IO[bytes]:
        return cast("IO[bytes]", self.process.stdout)


@dataclass(frozen=True, slots=True)
class _SlotLost:
    """A slot that died while it ran an item; `first` if that was the slot's first item."""

    slot: _Slot
    item: Item
    first: bool


class SlotPool:
    """The slots of one batch. At the end of its context, the slots and all they started are dead."""

    def __init__(
        self, setup: Setup, record: Callable[[Answer], None], is_last: Callable[[Answer], bool]
    ) -> None:
        """Prepare the pool.

        Args:
            setup: What all items have in common.
            record: Called with each answer when it comes, by one thread at a time, and never by the main
                thread, where a cancel would interrupt it.
            is_last: Whether no item may start after this answer; items that run go on to their ends.
        """
        self._setup, self._record, self._is_last = setup, record, is_last
        self._slots: list[_Slot] = []
        self._threads: list[threading.Thread] = []
        self._items: Iterator[Item] = iter(())
        self._events: queue.SimpleQueue[Answer | _SlotLost | BaseException | None] = queue.SimpleQueue()
        self._lock, self._recording = threading.Lock(), threading.Lock()
        self._before = own_children()
        self._running = 0

    @property
    def running(self) -> int:
        """The number of items that run now."""
        return self._running

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._items = iter(())
        for slot in self._slots:
            slot.close()
        deadline = time.monotonic() + self._setup.grace_s + _KILL_TIMEOUT_S
        for slot in self._slots:
            self._stop(slot, deadline)
        for thread in self._threads:
            thread.join()
        if self._slots:
            end_leftovers(self._slots[0].identity, self._setup.job_id, self._before)

    def run(self, items: Iterable[Item], at_once: int) -> Generator[Answer]:
        """Run items, `at_once` at the same time, and yield their answers as they come.

        Raises:
            ToolchainError: A slot cannot be started.
        """
        self._items = iter(items)
        for _ in range(at_once):
            self._add_slot()
        busy = at_once
        while busy:
            event = self._events.get()
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, _SlotLost):
                self._on_slot_lost(event)
                self._add_slot()
            elif event is None:
                busy -= 1
            else:
                yield event

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
            # A cancel between fork and return: only the variable in its environment leads to the process.
            processes.kill_tree(-1, job_id=self._setup.job_id, with_root=False)
            raise
        processes.hand_on_priority(process.pid)
        return _Slot(process, processes.identify(process.pid) or process.pid)

    def _serve(self, slot: _Slot) -> None:
        """Feed one slot with items until there are no more. The body of the slot's thread."""
        first = True
        try:
            if (item := self._next()) is not None:
                slot.send(item, self._setup.to_line())
            while item is not None:
                answer = slot.receive()
                if answer is None:
                    self._events.put(_SlotLost(slot, item, first=first))
                    return
                first = False
                if (item := self._next(answer)) is not None:
                    slot.send(item)  # the next item runs while the answer is recorded
                self._take(answer)
            self._events.put(None)
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self._events.put(error)

    def _next(self, answer: Answer | None = None) -> Item | None:
        """Note the answer to an item, and return the next item."""
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

    def _take(self, answer: Answer) -> None:
        with self._recording:
            self._record(answer)
        self._events.put(answer)

    def _on_slot_lost(self, lost: _SlotLost) -> None:
        """Kill the processes that a dead slot left, and record an error for its item."""
        mark = f"{self._setup.job_id}.{lost.item.index}"
        processes.kill_tree(lost.slot.identity, job_id=mark)
        code = lost.slot.process.wait()
        if lost.first and code > 0:
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
        self._take(answer)

    def _stop(self, slot: _Slot, deadline: float) -> None:
        try:
            slot.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            processes.kill_tree(slot.identity, job_id=self._setup.job_id)
            slot.process.wait()
