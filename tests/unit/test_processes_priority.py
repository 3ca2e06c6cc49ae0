"""What a session of ours weighs, read from the kernel where it weighs sessions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from python_mcp_server import processes
from python_mcp_server.processes import priority
from tests.helpers import eventually, python
from tests.helpers.sessions import STEP, session_nice, weighed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no sessions")
WAIT = "import sys; sys.stdin.read()"


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[str]]:
    with python("-c", WAIT, stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process


def test_a_session_weighs_what_it_is_told_to_and_may_be_told_again(leader: subprocess.Popen[str]):
    for nice in (7, 19, 0):
        processes.set_session_nice(leader.pid, nice)
        assert session_nice(leader.pid) == weighed(nice)


def test_whoever_leads_a_session_makes_it_weigh_less_than_the_one_it_left():
    code = (
        "from python_mcp_server.processes import lead_session\n"
        "from tests.helpers.sessions import session_nice\n"
        "before = session_nice(); lead_session(); print(before, session_nice())"
    )
    with python("-c", code, stdout=subprocess.PIPE) as process:
        said, _ = process.communicate()
    before = session_nice()
    assert said.split() == [str(before), str(weighed(min(before + STEP, 19)))]


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
    tries: list[int] = []
    real = os.write

    def busy(descriptor: int, data: bytes) -> int:
        tries.append(descriptor)
        if len(tries) < 3:
            raise BlockingIOError
        return real(descriptor, data)

    monkeypatch.setattr(priority.os, "write", busy)
    monkeypatch.setattr(priority, "_TURN_S", 0.01)
    processes.set_session_nice(leader.pid, 7)
    eventually(lambda: session_nice(leader.pid) == 7)
    assert len(tries) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a file")
def test_an_account_that_may_not_is_no_error(leader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch):
    def refuse(_descriptor: int, _data: bytes) -> int:
        raise PermissionError

    monkeypatch.setattr(priority.os, "write", refuse)
    processes.set_session_nice(leader.pid, -5)
    assert session_nice(leader.pid) == 0
