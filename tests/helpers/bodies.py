"""Bodies that workers run, each of a kind that is easy to get wrong. A worker imports them by name."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from python_mcp_server import create_progress_callback, current_job, emit, report_progress, smart_async
from python_mcp_server.cancelled import JobCancelled
from python_mcp_server.context import in_worker
from tests.helpers.waiting import eventually

LIFETIME_S = 60.0
"""How long bodies live that their test should end, so that a failed test leaves none."""


def add(left: int, right: int = 1) -> int:
    return left + right


async def add_async(left: int, right: int = 1) -> int:
    await asyncio.sleep(0)
    return left + right


def pid() -> int:
    return os.getpid()


def note(path: str, line: str = "started") -> None:
    """Append a line, whole, so that starts can be counted."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def count_and_wait(starts: str, gate: str) -> str:
    """Note the start; return once the file `gate` exists."""
    note(starts)
    eventually(Path(gate).exists, deadline_s=LIFETIME_S)
    return "done"


def emit_some(count: int, folder: str = "") -> int:
    """Emit items; where there is a folder, once more as many after the file `on` exists in it."""
    for number in range(count):
        emit({"n": number, "status": "odd" if number % 2 else "even"})
    if folder:
        eventually(Path(folder, "on").exists, deadline_s=LIFETIME_S)
        for number in range(count, 2 * count):
            emit({"n": number, "status": "late"})
    return count


def emit_and_die(how: str) -> None:
    emit("the last one")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exited":
        os._exit(3)
    if how == "raised":
        raise ValueError("no")
    time.sleep(LIFETIME_S)


async def emit_some_async(count: int) -> int:
    for number in range(count):
        emit({"n": number})
        await asyncio.sleep(0)
    return count


def emit_until_killed(folder: str) -> None:
    """Emit items of many sizes, as fast as that goes."""
    note(f"{folder}/starts", f"started {os.getpid()}")
    deadline = time.monotonic() + LIFETIME_S
    number = 0
    while time.monotonic() < deadline:
        emit({"n": number, "data": "x" * (number * 37 % 5_000)})
        number += 1


def sleep_and_count(starts: str, seconds: float) -> str:
    note(starts)
    time.sleep(seconds)
    return "done"


def spin(starts: str) -> None:
    """Burn CPU until cancelled; note whether `finally` ran."""
    note(starts, f"started {os.getpid()}")
    try:
        while True:
            sum(range(1000))
    finally:
        note(starts, "cleaned up")


def sleep_long(starts: str) -> None:
    note(starts, f"started {os.getpid()}")
    try:
        time.sleep(LIFETIME_S)
    finally:
        note(starts, "cleaned up")


async def sleep_long_async(starts: str) -> None:
    note(starts, f"started {os.getpid()}")
    try:
        await asyncio.sleep(LIFETIME_S)
    finally:
        note(starts, "cleaned up")


def report_forever(starts: str) -> None:
    """Spend nearly all the time in code that a cancel must not interrupt."""
    note(starts, f"started {os.getpid()}")
    step = 0
    try:
        while True:
            step += 1
            report_progress(step)
    finally:
        note(starts, "cleaned up")


def deaf(starts: str) -> None:
    """One C call that lets no signal handler run."""
    note(starts, f"started {os.getpid()}")
    re.match(r"(a+)+$", "a" * 60 + "b")


def swallow(starts: str) -> str:
    """Catch the cancel and go on."""
    note(starts, f"started {os.getpid()}")
    try:
        time.sleep(LIFETIME_S)
    except JobCancelled:
        note(starts, "swallowed")
    return "finished all the same"


def ignore_sigterm(starts: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(starts, f"started {os.getpid()}")
    end = time.monotonic() + LIFETIME_S
    while time.monotonic() < end:
        time.sleep(0.05)


def family(starts: str) -> None:
    """Start a child, and a grandchild in a session of its own that ignores SIGTERM; then wait."""
    code = (
        "import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    start = f"subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)"
    outer = f"import subprocess, sys, time; {start}; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        grandchild = child.stdout.readline().strip()
        note(starts, f"started {os.getpid()} {child.pid} {grandchild}")
        child.wait()


# ---- ends that are no plain return


class Unpicklable(Exception):
    def __reduce__(self) -> NoReturn:
        raise TypeError("not this one")


class BrokenText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BrokenRebuild(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def raise_value_error() -> NoReturn:
    raise ValueError("seven is right out")


def raise_unpicklable() -> NoReturn:
    raise Unpicklable("a lock inside")


def raise_broken_text() -> NoReturn:
    raise BrokenText


def raise_broken_rebuild() -> NoReturn:
    raise BrokenRebuild("one", "two")


def raise_local() -> NoReturn:
    class Local(Exception):
        pass

    raise Local("known here only")


def raise_system_exit() -> NoReturn:
    sys.exit(3)


def raise_keyboard_interrupt() -> NoReturn:
    raise KeyboardInterrupt


def return_lock() -> Any:
    return threading.Lock()


@dataclass
class Homebound:
    """Its pickle can be read in a worker only."""

    rows: int
    last: bool = False

    def __reduce__(self) -> Any:
        return _at_home, (self.rows, self.last)


@dataclass
class Mortal(Homebound):
    """Inspecting it ends the process."""

    def model_dump(self, **_: object) -> NoReturn:
        os._exit(3)


def _at_home(rows: int, last: bool) -> Homebound:
    if not in_worker():
        raise LookupError(f"{rows} rows are not at home here")
    return Homebound(rows, last)


def return_homebound(size: int) -> Homebound:
    return Homebound(size)


def return_mortal() -> Homebound:
    return Mortal(1)


def exit_at_once(code: int) -> NoReturn:
    os._exit(code)


def segfault() -> None:
    ctypes.string_at(0)


class Opaque:
    def __repr__(self) -> str:
        return "<an opaque thing>"


class Trap:
    """Its own code fails when it is converted to JSON."""

    def model_dump(self, **_: object) -> NoReturn:
        raise LookupError("no dump")


def opaque() -> Any:
    return Opaque()


def trap() -> Any:
    return Trap()


def not_a_number() -> float:
    return float("nan")


def huge(size: int) -> bytes:
    return b"x" * size


def length(data: bytes) -> int:
    return len(data)


# ---- what touches the descriptors


def print_everywhere() -> str:
    print("from python")
    print("to stderr", file=sys.stderr)
    libc = ctypes.CDLL(None)
    libc.puts(b"from c")
    os.write(1, b"to fd 1\n")
    return "said"


def read_stdin() -> str:
    return sys.stdin.read() + os.read(0, 10).decode()


def close_stdout() -> str:
    print("before")
    sys.stdout.close()
    return "closed"


def close_descriptors() -> str:
    os.close(1)
    os.close(2)
    return "closed"


def no_stdout() -> str:
    sys.stdout = None  # type: ignore[assignment]
    sys.stderr = "nonsense"  # type: ignore[assignment]
    return "gone"


def say(text: str) -> str:
    print(text)
    return text


# ---- forks, threads, progress


def end_children_as_they_start(count: int) -> set[int]:
    """Send SIGTERM to forked children in their first microseconds; return how they ended."""
    ends: set[int] = set()
    for _ in range(count):
        if (child := os.fork()) == 0:
            while True:
                signal.pause()
        os.kill(child, signal.SIGTERM)
        ends.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return ends


def fork_that_returns() -> str:
    child = os.fork()
    if child == 0:
        return "from the child"
    os.waitpid(child, 0)
    return "from the parent"


def fork_that_raises() -> str:
    child = os.fork()
    if child == 0:
        raise RuntimeError("from the child")
    os.waitpid(child, 0)
    return "from the parent"


def report_steps(count: int) -> int:
    for step in range(1, count + 1):
        report_progress(step, count, f"step {step}")
    return count


def report_from_thread() -> None:
    thread = threading.Thread(target=report_progress, args=(5, 10, "from a thread"))
    thread.start()
    thread.join()


def report_two_and_wait(gate: str) -> None:
    report_progress(1)
    report_progress(2, 2, "held")
    eventually(Path(gate).exists, deadline_s=LIFETIME_S)


class Number:
    """Like a NumPy number: neither int nor float, but convertible to one."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value


def report_odd_numbers() -> None:
    report_progress(Number(3.0), Number(4.0), "odd")  # type: ignore[arg-type]


def report_not_finite() -> None:
    report_progress(float("nan"), float("inf"), "endless")


class _Left:
    callback: Any = None


def leave_a_callback() -> None:
    _Left.callback = create_progress_callback()


def use_the_callback() -> None:
    report_progress(1)
    _Left.callback(99, 99, "from the job before")


def own_job() -> str | None:
    job = current_job()
    return job.id if job else None


def exit_variable() -> str | None:
    return os.environ.get("PYTHON_MCP_JOB_ID")


def environment_of_job(secret: str) -> int:
    return len(secret)


def loaded(*names: str) -> list[str]:
    return [name for name in names if name in sys.modules]


# ---- decorated


@smart_async(default_timeout=30.0)
def decorated(left: int, right: int = 1) -> int:
    """Add two numbers."""
    return left + right


@smart_async
async def decorated_async(left: int) -> int:
    return left + 1


@smart_async(default_timeout=30.0)
async def calls_another(left: int) -> tuple[int, int, int]:
    """A decorated function inside a worker runs its body directly."""
    here = os.getpid()
    there = await decorated_pid()
    return await decorated(left), here, there


@smart_async(default_timeout=30.0)
def decorated_pid() -> int:
    return os.getpid()


@smart_async(timeout_env="MY_BUDGET", default_timeout=30.0)
def own_budget(async_mode: str = "mine") -> str:
    return async_mode


@smart_async(default_timeout=0.3)
def slow(starts: str, seconds: float, env_vars: dict[str, str] | None = None) -> str:
    note(starts)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        report_progress(1, 2, "half")
        print("tick", flush=True)
        time.sleep(0.02)
    return f"done with {len(env_vars or {})}"


@smart_async(default_timeout=0.1, isolation="inline")
async def inline_wait(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()


def anything(*args: Any, **kwargs: Any) -> None:
    """Accept any arguments."""
