"""What a session of ours weighs, read from the kernel where it weighs sessions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from python_mcp_server import processes
from python_mcp_server.processes import priority
from tests.helpers import eventually, python
from tests.helpers.sessions import STEP, session_nice, weighed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no sessions")
WAIT = "import sys; sys.stdin.read()"


def refuse(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let the kernel seem to want to be asked again, so often; return the tries, as they are made."""
    tries: list[int] = []
    real = os.write

    def busy(descriptor: int, data: bytes) -> int:
        tries.append(descriptor)
        if len(tries) <= times:
            raise BlockingIOError
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", busy)
    monkeypatch.setattr(priority, "_TURN_S", 0.01)
    return tries


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[str]]:
    with python("-c", WAIT, stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process


def test_a_session_weighs_what_it_is_told_to_and_may_be_told_again(leader: subprocess.Popen[str]):
    for nice in (7, 19, 0):
        processes.set_session_nice(leader.pid, nice)
        assert session_nice(leader.pid) == weighed(nice)


def test_a_session_that_was_lowered_weighs_less_than_ours_and_one_that_has_ours_as_much(
    leader: subprocess.Popen[str],
):
    processes.lower_priority(leader.pid)
    assert session_nice(leader.pid) == weighed(min(session_nice() + STEP, 19))
    processes.set_session_nice(leader.pid, 0)
    processes.hand_on_priority(leader.pid)
    assert session_nice(leader.pid) == session_nice()


def test_what_leads_no_session_is_left_alone():
    before = session_nice()
    with python("-c", WAIT, stdin=subprocess.PIPE) as process:
        processes.set_session_nice(process.pid, before + 1)
        assert session_nice(process.pid) == session_nice() == before


def test_a_process_that_is_gone_is_no_error(leader: subprocess.Popen[str]):
    leader.kill()
    leader.wait()
    processes.set_session_nice(leader.pid, 7)


@pytest.mark.skipif(not weighed(1), reason="this kernel weighs no sessions")
def test_a_kernel_that_wants_to_be_asked_again_is_asked_again(
    leader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    tries = refuse(monkeypatch, 2)
    processes.set_session_nice(leader.pid, 7)
    eventually(lambda: session_nice(leader.pid) == 7)
    assert len(tries) == 3


@pytest.mark.skipif(not weighed(1), reason="this kernel weighs no sessions")
def test_what_a_call_has_said_meanwhile_is_not_undone(
    leader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    tries = refuse(monkeypatch, 1)
    trying = threading.active_count() + 1
    monkeypatch.setattr(priority, "is_alive", lambda _leader: not processes.set_session_nice(leader.pid, 11))
    processes.lower_priority(leader.pid)
    eventually(lambda: len(tries) == 2 and threading.active_count() < trying)
    assert session_nice(leader.pid) == 11


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a file")
def test_an_account_that_may_not_is_no_error(leader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch):
    def forbid(_descriptor: int, _data: bytes) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "write", forbid)
    processes.set_session_nice(leader.pid, -5)
    assert session_nice(leader.pid) == 0
