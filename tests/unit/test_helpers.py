"""The guards of the tests themselves: a guard that never barks guards nothing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest

from tests.helpers import LoopBlocked, leftovers, run


def test_a_coroutine_that_blocks_its_loop_fails_with_the_place() -> None:
    async def blocks() -> None:
        time.sleep(1.5)  # noqa: ASYNC251 - blocking is what is tested

    with pytest.raises(LoopBlocked, match=r"time\.sleep"):
        run(blocks(), blocked_s=0.5)


def test_a_coroutine_that_waits_returns_its_value() -> None:
    async def waits() -> int:
        await asyncio.sleep(0.3)
        return 7

    assert run(waits(), blocked_s=0.2) == 7
    assert "loop-watchdog" not in {thread.name for thread in threading.enumerate()}


def test_a_child_that_is_left_behind_is_found_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE_S", 0.0)
    before = leftovers.processes()
    child = subprocess.Popen([sys.executable, "-c", "input()"], env={}, stdin=subprocess.PIPE)
    try:
        assert [process.pid for process in leftovers.left_behind("nobody", before)] == [child.pid]
        leftovers.end(leftovers.left_behind("nobody", before)[0])
        assert leftovers.left_behind("nobody", before) == []
    finally:
        child.communicate()


def test_a_process_that_carries_the_test_id_is_found_wherever_it_is() -> None:
    leave = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'print(flush=True); input()'])"
    before = leftovers.processes()
    elder = subprocess.Popen(
        [sys.executable, "-c", leave],
        env={leftovers.TEST_VARIABLE: "mine"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert elder.stdout is not None
        elder.stdout.readline()
        elder.wait(60)
        (orphan,) = leftovers._found("mine", before)
        assert orphan.ppid() != os.getpid()
        assert list(leftovers._found("another's", before)) == []
    finally:
        elder.communicate(b"\n")
