"""What a session of ours weighs, read from the kernel where it weighs sessions."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from python_mcp_server import processes
from python_mcp_server.processes import host
from tests.helpers import environment, python
from tests.helpers.sessions import STEP, changes_are_rationed, session_nice, weighed

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="there are no sessions"),
    pytest.mark.skipif(changes_are_rationed(), reason="the kernel may refuse any change of this account"),
]
weighs_sessions = pytest.mark.skipif(not weighed(1), reason="this kernel weighs no sessions")
WAIT = "import sys; sys.stdin.read()"
IN_A_WORKER = """
import os, sys
from python_mcp_server import processes
from tests.helpers.sessions import session_nice
"""


@pytest.fixture
def leader() -> Iterator[subprocess.Popen[str]]:
    with python("-c", WAIT, stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process


def worker(code: str, **variables: str) -> list[int]:
    """Return the numbers that this code prints in a process like a worker, of a server that weighs 2 less."""
    env = environment(PYTHON_MCP_SERVER_NICE="2", PYTHON_MCP_SESSION_NICE="7", **variables)
    with python("-c", IN_A_WORKER + code, env=env, stdout=subprocess.PIPE, start_new_session=True) as process:
        said, _ = process.communicate()
    return [int(word) for word in said.split()]


def refuse(monkeypatch: pytest.MonkeyPatch, error: OSError) -> list[int]:
    """Let the kernel refuse; return the tries, as they are made."""
    tries: list[int] = []

    def write(descriptor: int, _data: bytes) -> int:
        tries.append(descriptor)
        raise error

    monkeypatch.setattr(os, "write", write)
    return tries


def test_a_worker_and_its_children_have_less_weight_than_the_server():
    lowered = min(session_nice() + STEP, 19)
    assert processes.worker_variables() == {
        "PYTHON_MCP_SERVER_NICE": str(session_nice()),
        "PYTHON_MCP_SESSION_NICE": str(lowered),
    }
    code = """
processes.keep_priority()
print(session_nice())
import subprocess
child = subprocess.Popen(["sleep", "60"], start_new_session=True)
processes.hand_on_priority(child.pid)
print(session_nice(child.pid))
processes.hand_on_priority(child.pid, os.getpriority(os.PRIO_PROCESS, 0))
print(session_nice(child.pid))
child.kill(); child.wait()
"""
    assert worker(code) == [weighed(7), weighed(7), weighed(2)]


@weighs_sessions
def test_a_server_without_a_session_has_the_weight_of_its_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    nothing = tmp_path / "autogroup"
    nothing.touch()
    monkeypatch.setattr(host, "open", lambda _file, mode: nothing.open(mode), raising=False)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert processes.worker_variables() == {
        "PYTHON_MCP_SERVER_NICE": str(own),
        "PYTHON_MCP_SESSION_NICE": str(own + STEP),
    }


def test_a_call_changes_the_weight_of_its_worker_and_its_children():
    code = """
own = os.getpriority(os.PRIO_PROCESS, 0)
for more in (3, 0, 40):
    processes.change_priority(own + more)
    print(session_nice())
"""
    assert worker(code) == [weighed(5), weighed(2), weighed(19)]


def test_a_body_that_changes_the_job_variables_does_no_harm():
    code = """
os.environ.update(PYTHON_MCP_SERVER_NICE="much", PYTHON_MCP_SESSION_NICE="")
before = session_nice()
processes.keep_priority()
print(session_nice() - before)
"""
    assert worker(code) == [0]


def test_the_priority_of_a_non_leader_is_not_changed():
    before = session_nice()
    with python("-c", WAIT, stdin=subprocess.PIPE) as process:
        processes.hand_on_priority(process.pid, 9)
        assert session_nice(process.pid) == session_nice() == before


def test_a_process_that_is_gone_is_no_error(leader: subprocess.Popen[str]):
    leader.kill()
    leader.wait()
    processes.hand_on_priority(leader.pid, 7)


@weighs_sessions
@pytest.mark.parametrize("error", [BlockingIOError(), PermissionError(), OSError(errno.EMFILE, "too many")])
def test_a_refusal_of_the_kernel_is_ignored(
    leader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, error: OSError
):
    before = session_nice(leader.pid)
    tries = refuse(monkeypatch, error)
    processes.hand_on_priority(leader.pid, 9)
    assert len(tries) == 1
    assert session_nice(leader.pid) == before


@pytest.mark.skipif(sys.platform != "linux", reason="looks at what only Linux tells")
def test_nothing_is_written_where_nothing_is_to_change(
    leader: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
):
    tries = refuse(monkeypatch, BlockingIOError())
    processes.hand_on_priority(leader.pid, os.getpriority(os.PRIO_PROCESS, 0) - session_nice())
    assert tries == []
