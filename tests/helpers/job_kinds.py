"""Kinds of jobs that the tests submit, in a module that workers can import."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from python_mcp_server import (
    AsyncJob,
    CommandJob,
    FunctionJob,
    JobProgress,
    JobResult,
    Retry,
    Snooze,
    smart_async,
)
from tests.helpers.bodies import note
from tests.helpers.waiting import eventually


class Resize(AsyncJob):
    """Reports each of its paths."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__("resize")
        self.paths = paths

    async def execute(self) -> JobResult:
        for done, path in enumerate(self.paths, 1):
            self.report_progress(done, len(self.paths), path)
        return JobResult(success=True, data=len(self.paths), metadata={"pid": os.getpid()})


class Answer(AsyncJob):
    """Returns what it was given, whatever that is."""

    def __init__(self, value: Any) -> None:
        super().__init__("answer")
        self.value = value

    async def execute(self) -> Any:
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Fails(Answer):
    async def execute(self) -> Any:
        raise ValueError(f"no {self.value}")


class Hold(AsyncJob):
    """Notes its start, and waits until the file `gate` exists."""

    def __init__(self, notes: str, gate: str) -> None:
        super().__init__("hold")
        self.notes = notes
        self.gate = gate

    async def execute(self) -> JobResult:
        note(self.notes, f"started {os.getpid()} as {self.id}, {self.state}")
        while not Path(self.gate).exists():
            await asyncio.sleep(0.01)
        return JobResult(success=True, data="held")

    async def cancel(self) -> None:
        if self.state == "running" and Path(self.notes).exists():
            note(self.notes, f"cleaned up, cancelled: {self.is_cancelled}")
        await super().cancel()


class InlineHold(Hold):
    isolation = "inline"


class HoldAndFail(Hold):
    async def execute(self) -> JobResult:
        await super().execute()
        return JobResult(success=False, data=[1], error="not enough", metadata={"of": 2})


class Busy(AsyncJob):
    """Never awaits; it looks at `is_cancelled` itself."""

    def __init__(self, notes: str) -> None:
        super().__init__("busy")
        self.notes = notes

    async def execute(self) -> JobResult:
        note(self.notes)
        while not self.is_cancelled:
            pass
        note(self.notes, "saw it")
        return JobResult(success=False, error="cancelled")


class Deaf(Busy):
    """Never awaits, and only reports."""

    async def execute(self) -> JobResult:
        note(self.notes)
        try:
            while True:
                self.report_progress(1)
        finally:
            note(self.notes, "interrupted")


class Counting(AsyncJob):
    """Says its progress where it is asked."""

    def __init__(self, gate: str) -> None:
        super().__init__("counting")
        self.gate = gate
        self.done = 1

    async def execute(self) -> int:
        eventually(Path(self.gate).exists, deadline_s=60)  # its loop stands still meanwhile
        self.done = 4
        return self.done

    def get_progress(self) -> JobProgress:
        return JobProgress(self.done, 4, "counted")


class InlineCounting(Counting):
    isolation = "inline"

    async def execute(self) -> int:
        while not Path(self.gate).exists():
            await asyncio.sleep(0.01)
        self.done = 4
        return self.done


class Unasked(Counting):
    def get_progress(self) -> JobProgress:
        raise ZeroDivisionError


class Short(AsyncJob):
    """Has a time limit of its kind."""

    timeout_seconds = 0.2

    def __init__(self) -> None:
        super().__init__("short")

    async def execute(self) -> str:
        await asyncio.sleep(0.5)
        return "late"


class Slotted(AsyncJob):
    __slots__ = ("width",)

    def __init__(self, width: int) -> None:
        super().__init__("slotted")
        self.width = width

    async def execute(self) -> int:
        return self.width


class Build(CommandJob):
    """A command, with more around it."""

    async def execute(self) -> JobResult:
        result = await super().execute()
        return JobResult(result.success, result.data["stdout"].upper(), metadata={"steps": 1})


class Twice(FunctionJob):
    async def execute(self) -> JobResult:
        result = await super().execute()
        return JobResult(success=True, data=[result.data, result.data])


def double(number: int, *, plus: int = 0) -> int:
    return 2 * number + plus


@smart_async
def decorated(number: int) -> int:
    return 2 * number


async def double_later(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def verdict(number: int) -> JobResult:
    error = None if number > 0 else f"{number} is too small"
    return JobResult(success=number > 0, data={number}, error=error)


class Flaky(AsyncJob):
    """Fails at its first attempts, in the way that it is told, then says how many it took."""

    retry = Retry(3, wait=0)

    def __init__(self, notes: str, way: str) -> None:
        super().__init__("flaky")
        self.notes = notes
        self.way = way

    async def execute(self) -> Any:
        note(self.notes)
        attempts = len(Path(self.notes).read_text(encoding="utf-8").splitlines())
        if attempts == 3:
            return attempts
        if self.way == "raise":
            raise OSError("busy")
        if self.way == "snooze":
            return Snooze(0)
        return JobResult(success=False, error="busy")


class AskedToExit(AsyncJob):
    """Raises SystemExit where it is asked for its progress."""

    async def execute(self) -> JobResult:
        return JobResult(success=True, data="done")

    def get_progress(self) -> JobProgress | None:
        raise SystemExit(3)


class InlineCancelled(AsyncJob):
    """Raises CancelledError, although no one has cancelled it."""

    isolation = "inline"

    async def execute(self) -> JobResult:
        raise asyncio.CancelledError


class TidySnooze(FunctionJob):
    """A function that may ask to run again, with a clean-up of its own."""

    async def cancel(self) -> None:
        await super().cancel()


def snooze_once(path: str) -> str | Snooze:
    """Ask to run again at the first call."""
    note(path, "called")
    return "done" if len(Path(path).read_text("utf-8").splitlines()) > 1 else Snooze(0)


class WithLock(AsyncJob):
    """Has an attribute that no worker can be sent."""

    def __init__(self) -> None:
        super().__init__("with a lock")
        self.lock = threading.Lock()

    async def execute(self) -> JobResult:
        return JobResult(success=True)


class BadCleanUp(Hold):
    """Fails where it cleans up."""

    async def cancel(self) -> None:
        await super().cancel()
        if self.state == "running":
            raise ValueError("no clean-up")
