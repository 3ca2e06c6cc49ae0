"""Bodies of queued jobs, which note their starts in a file. A worker imports them by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from python_mcp_server.context import current_job
from python_mcp_server.job_result import JobResult
from python_mcp_server.options import Cancel, Snooze
from python_mcp_server.settings import Settings
from python_mcp_server.store.opening import open_store
from tests.helpers.bodies import note
from tests.helpers.waiting import eventually


def said(path: str, word: str) -> str:
    """Note a word, and return it."""
    note(path, word)
    return word


def hold_named(path: str, word: str, gate: str) -> str:
    """Note the begin and the end; between them wait until the file `gate` exists."""
    note(path, f"+{word}")
    eventually(Path(gate).exists, deadline_s=60)
    note(path, f"-{word}")
    return word


def return_with_gate(path: str, gate: str) -> str:
    """Return if the file `gate` exists at the start; else run until the cancel, and note that it came."""
    note(path, f"started {os.getpid()}")
    if Path(gate).exists():
        return "done"
    try:
        eventually(lambda: False, deadline_s=60)
    finally:
        note(path, "cleaned up")
    return "not cancelled"


def said_if(path: str, word: str, gate: str) -> str:
    """Note a word, and return it; raise ValueError unless the file `gate` exists."""
    if not Path(gate).exists():
        raise ValueError(f"{gate} is missing")
    return said(path, word)


def said_twice(path: str, word: str) -> None:
    """Note the begin and the end."""
    note(path, f"+{word}")
    note(path, f"-{word}")


def fail_until(path: str, attempts: int) -> int:
    """Raise ValueError until so many attempts were made."""
    note(path)
    made = len(Path(path).read_text(encoding="utf-8").splitlines())
    if made < attempts:
        raise ValueError(f"attempt {made} fails")
    return made


def burn_and_fail_once(path: str) -> int:
    """Use some CPU time at the first attempt, and raise ValueError there."""
    first, until = not Path(path).exists(), time.process_time() + 1.0
    while first and time.process_time() < until:
        pass
    return fail_until(path, 2)


def die_once(path: str) -> str:
    """Kill the worker at the first attempt."""
    note(path)
    if len(Path(path).read_text(encoding="utf-8").splitlines()) == 1:
        os.kill(os.getpid(), signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    return "lived"


def snooze_once(path: str) -> str | Snooze:
    note(path)
    return Snooze(0.2) if len(Path(path).read_text(encoding="utf-8").splitlines()) == 1 else "awake"


def snooze_at_gate(path: str, gate: str) -> str | Snooze:
    """At the first call wait until the file `gate` exists, and ask for another one."""
    note(path)
    eventually(Path(gate).exists, deadline_s=60)
    return Snooze(1) if len(Path(path).read_text(encoding="utf-8").splitlines()) == 1 else "awake"


def snooze_for(seconds: Any) -> Snooze:
    return Snooze(seconds)


def of_no_use() -> Cancel:
    return Cancel("the file is gone")


def of_no_use_because(reason: Any) -> Cancel:
    return Cancel(reason)


def fail() -> None:
    raise RuntimeError("for good")


def hold_and_fail(path: str, word: str, gate: str) -> None:
    """Fail once the file `gate` exists."""
    hold_named(path, word, gate)
    raise ValueError(word)


def cancel_with_record(*, recorded: bool) -> Cancel:
    """Find that the job is of no use, once it has a record or at once."""
    job = current_job()
    if recorded:
        eventually(lambda: open_store(Settings.from_environ()).peek(job.id if job else ""))
    return of_no_use()


def record_and_fail(path: str) -> None:
    """Fail once this job has a record."""
    job = current_job()
    note(path)
    eventually(lambda: open_store(Settings.from_environ()).peek(job.id if job else ""))
    raise ValueError("it failed after its record was written")


def fail_unless(path: str, word: str = "bad", *, also: str = "") -> str:
    """Note a word; raise ValueError unless it is good."""
    note(path, word + also)
    if word != "good":
        raise ValueError(f"{word} is not good")
    return word + also


def verdict(word: str) -> JobResult:
    """Fail with a result of its own where the word is "bad", and with an exception where it is "worse"."""
    if word == "worse":
        raise ValueError(word)
    return JobResult(success=word != "bad", data=word, error="not good" if word == "bad" else None)


def noted(path: str, word: str, *values: object, **named: object) -> object:
    """Note a word, and return the arguments as they came."""
    note(path, word)
    return {"values": list(values), "named": named}


def many(count: int) -> list[int]:
    return list(range(count))


def total(numbers: list[int]) -> int:
    return sum(numbers)


def not_json() -> object:
    return object()
