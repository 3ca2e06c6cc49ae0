"""What begins and ends between the looks of a search, at the worst moment: each step is set by the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from python_mcp_server.processes import identify, is_alive, kill_tree, tree
from python_mcp_server.processes.tree import TreeScan
from tests.helpers import python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the last pid")
INHERIT = "import ctypes, os, sys, time; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"
BEGINS_A_CHILD = """
import os, sys, time
print(flush=True)
sys.stdin.readline()
child = os.fork()
if child: print(child, flush=True)
time.sleep(60)
"""
BEGINS_A_THREAD = """
import subprocess, sys, threading, time
print(flush=True)
sys.stdin.readline()
thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
thread.start()
print(thread.native_id, flush=True)
time.sleep(60)
"""
FAR_YOUNGER = f"""{INHERIT}
print(flush=True)
sys.stdin.readline()
if os.fork() == 0:
    os.setsid()
    for _ in range(40): os.fork() or os._exit(0); os.wait()
    child = os.fork()
    if child: print(os.getpid(), child, flush=True)
time.sleep(60)
"""
ORPHANED = f"""{INHERIT}
if os.fork() == 0:
    os.setsid()
    child = os.fork()
    if child:
        print(child, flush=True)
        sys.stdin.readline()
        os._exit(0)
    time.sleep(60)
os.wait()
print("reaped", flush=True)
time.sleep(60)
"""


@dataclass(frozen=True)
class Program:
    process: subprocess.Popen[str]

    def line(self) -> list[int]:
        assert self.process.stdout is not None
        return [int(word) for word in self.process.stdout.readline().split()]

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def go_and_tell(self) -> list[int]:
        self.go()
        return self.line()


@contextmanager
def program(code: str) -> Iterator[Program]:
    with python("-c", code, start_new_session=True) as process:
        try:
            yield Program(process)
        finally:
            kill_tree(process.pid)


def after_look(number: int, step: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do this once a search has looked so often."""
    look, looks = TreeScan.look, 0

    def looked(search: TreeScan) -> Any:
        nonlocal looks
        looks += 1
        found = look(search)
        if looks == number:
            step()
        return found

    monkeypatch.setattr(TreeScan, "look", looked)


@pytest.mark.parametrize("looks", [1, 2])
def test_a_child_started_right_after_a_scan_is_killed_too(looks: int, monkeypatch: pytest.MonkeyPatch):
    with program(BEGINS_A_CHILD) as root:
        root.line()
        children: list[Any] = []
        after_look(looks, lambda: children.append(identify(*root.go_and_tell())), monkeypatch)
        assert kill_tree(root.process.pid, wait_s=30) == []
        (child,) = children
        assert child is not None
        assert not is_alive(child)


@pytest.mark.parametrize("pidfds", [True, False])
def test_a_new_thread_is_no_member(pidfds: bool, monkeypatch: pytest.MonkeyPatch):
    if not pidfds:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with program(BEGINS_A_THREAD) as root:
        root.line()
        threads: list[int] = []
        after_look(1, lambda: threads.extend(root.go_and_tell()), monkeypatch)
        assert kill_tree(root.process.pid, with_root=False, wait_s=30) == []
        search = TreeScan(root.process.pid)
        search.look()
        new = search.look_at_new()
        assert threads
        assert new is None or new.members == []
        assert root.process.poll() is None


def test_a_child_of_a_missed_parent_is_found_by_the_next_look():
    with program(FAR_YOUNGER) as root:
        root.line()
        search = TreeScan(root.process.pid, "a job that nobody carries")
        search.look()
        family = root.go_and_tell()
        search.look_at_new()
        assert sorted(member.pid for member in search.look().members) == sorted(family)


def test_a_child_of_a_parent_that_ends_meanwhile_is_found_next(
    monkeypatch: pytest.MonkeyPatch,
):
    with program(ORPHANED) as root:
        (child,) = root.line()
        read = vars(tree)["stat_of"]

        def read_then_end(pid: int) -> Any:
            stat = read(pid)
            if pid == child:
                root.go()
                assert root.process.stdout is not None
                root.process.stdout.readline()
            return stat

        search = TreeScan(root.process.pid, "a job that nobody carries")
        with monkeypatch.context() as patch:
            patch.setattr(tree, "stat_of", read_then_end)
            search.look()
        assert [member.pid for member in search.look().members] == [child]


def test_a_reused_pid_leads_to_no_member(monkeypatch: pytest.MonkeyPatch):
    with program(FAR_YOUNGER) as root:
        root.line()
        search = TreeScan(root.process.pid, "a job that nobody carries")
        search.look()
        begun = vars(search)["_newest_at_begin"]
        monkeypatch.setattr(tree, "newest_pid", lambda: begun - 1)  # once around, to just before
        vars(search)["_dead_session_leaders"] = frozenset({os.getpid()})
        search.look()
        assert vars(search)["_dead_session_leaders"] == frozenset()
