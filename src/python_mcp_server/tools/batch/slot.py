"""A program that runs the items of a batch one after the other, started by `tools.batch.slots`.

It speaks JSON lines: on stdin the setup and then the items, on stdout the result of each. It inherits the
orphans of its own items only: so each item has a process tree of its own, and what an item leaves behind is
known. At the end of stdin it kills the item that runs, and exits.
"""

from __future__ import annotations

import _thread
import json
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from python_mcp_server.context import mark_worker
from python_mcp_server.errors import InvalidInput, ToolchainError
from python_mcp_server.limits import Limits
from python_mcp_server.processes import JOB_VARIABLE, signal_name
from python_mcp_server.processes.inherited import become_subreaper
from python_mcp_server.runner.child import ChildExit, Command, run_child
from python_mcp_server.runner.inline import short_names
from python_mcp_server.runner.output import TIMEOUT_MARK, append_line, excerpt, size_of

_SHOWN_ARGS: Final = 20
_SHOWN_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Setup:
    """What all items of a batch have in common.

    Attributes:
        command: The command; the arguments of an item follow it.
        job_id: The job; the processes of item 7 carry its id with `.7` at the end.
        outputs: The directory that items write to.
        timeout_s: The time limit of an item; None for no limit.
        limits: The other limits of an item.
        chars: How many characters of each stream an item's result has.
        grace_s: How long an item may clean up when it is to end.
    """

    command: Command
    job_id: str
    outputs: Path
    timeout_s: float | None
    limits: Limits | None
    chars: int
    grace_s: float

    def to_line(self) -> bytes:
        """Return the setup as one line of JSON."""
        command, limits = self.command, self.limits
        facts = {
            "argv": command.argv,
            "cwd": str(command.cwd),
            "env": dict(command.env),
            "job_id": self.job_id,
            "outputs": str(self.outputs),
            "timeout_s": self.timeout_s,
            "limits": None if limits is None else limits.to_json(),
            "chars": self.chars,
            "grace_s": self.grace_s,
        }
        return json.dumps(facts).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Setup:
        """Return the setup that `to_line` wrote."""
        facts: dict[str, Any] = json.loads(line)
        command = Command(tuple(facts["argv"]), Path(facts["cwd"]), facts["env"])
        limits = Limits.given(**(facts["limits"] or {}))
        outputs = Path(facts["outputs"])
        last = (facts["timeout_s"], limits, facts["chars"], facts["grace_s"])
        return cls(command, facts["job_id"], outputs, *last)


class _InputClosed(BaseException):
    """Raised in the main thread when stdin closes, to end the current item."""


class _Inbox:
    """The lines of stdin; the end of stdin interrupts the main thread by a signal."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._busy = self._closed = False
        self._signal = signal.SIGINT if sys.platform == "win32" else signal.SIGTERM
        signal.signal(self._signal, self._on_signal)
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next(self) -> bytes:
        """Return the next line; an empty one at the end of stdin."""
        self._busy = False
        line = self._lines.get()
        self._busy = True
        return b"" if self._closed else line

    def _read(self) -> None:
        while line := sys.stdin.buffer.readline():
            self._lines.put(line)
        self._lines.put(b"")
        if sys.platform == "win32":
            _thread.interrupt_main(self._signal)
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, self._signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        first, self._closed = not self._closed, True
        if first and self._busy:
            raise _InputClosed


def main() -> None:
    """Run items until stdin ends."""
    become_subreaper()
    mark_worker()
    inbox = _Inbox()
    with suppress(_InputClosed, BrokenPipeError):
        first = inbox.next()
        setup = Setup.from_line(first) if first else None
        while setup is not None and (line := inbox.next()):
            item: dict[str, Any] = json.loads(line)
            answer = _run(setup, item["index"], item["args"])
            sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
            sys.stdout.buffer.flush()


def shown_args(args: list[str]) -> list[str]:
    """Return an item's arguments as its result shows them: cut where there are many or long ones."""
    short = [arg if len(arg) <= _SHOWN_CHARS else f"{arg[:_SHOWN_CHARS]}..." for arg in args[:_SHOWN_ARGS]]
    return short if len(args) <= _SHOWN_ARGS else [*short, f"... {len(args) - _SHOWN_ARGS} more"]


def _run(setup: Setup, index: int, args: list[str]) -> dict[str, Any]:
    streams = {name: setup.outputs / f"{index}.{name}" for name in ("stdout", "stderr")}
    answer: dict[str, Any] = {"index": index, "args": shown_args(args)}
    try:
        ending = _child(setup, index, args, streams)
    except (InvalidInput, ToolchainError, OSError) as error:
        unstarted = {"exit_code": None, "elapsed_seconds": 0.0, "stdout": "", "stderr": ""}
        return answer | unstarted | {"error": str(error)}
    answer |= {"exit_code": ending.exit_code, "elapsed_seconds": round(ending.elapsed_s, 6)}
    if ending.timed_out:
        append_line(streams["stderr"], TIMEOUT_MARK)
    paths: dict[str, str] = {}
    for name, path in streams.items():
        shown = excerpt(path, start=0, limit_chars=setup.chars, job_id=None)
        answer[name] = short_names(shown.text, setup.outputs.parent) if name == "stderr" else shown.text
        if shown.cut:
            paths[f"{name}_path"] = str(path)
        else:
            path.unlink()
    return answer | paths | _end_fields(ending)


def _child(setup: Setup, index: int, args: list[str], streams: dict[str, Path]) -> ChildExit:
    mark = f"{setup.job_id}.{index}"
    command = setup.command
    for path in streams.values():
        if size_of(path):
            path.unlink()  # an earlier start of this item was cut off
    return run_child(
        replace(command, argv=(*command.argv, *args), env={**command.env, JOB_VARIABLE: mark}),
        stdout=streams["stdout"],
        stderr=streams["stderr"],
        job_id=mark,
        deadline=None if setup.timeout_s is None else time.monotonic() + setup.timeout_s,
        limits=setup.limits,
        grace_s=setup.grace_s,
    )


def _end_fields(ending: ChildExit) -> dict[str, Any]:
    """Return the fields of the result for an end that was not the script's own."""
    if ending.breach is not None:
        return {"error": ending.breach.sentence, "error_kind": ending.breach.kind}
    if ending.timed_out:
        return {"timed_out": True}
    if ending.exit_code >= 0:
        return {}
    return {"ended_by_signal": signal_name(-ending.exit_code) or f"signal {-ending.exit_code}"}
