"""How a worker is started, and what a program may be short of then."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from loky.backend import fork_exec, spawn

from python_mcp_server import processes
from python_mcp_server.pool.spawning import fit_to_spawn
from tests.helpers import run_python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sessions and descriptors are those of POSIX")


@pytest.mark.parametrize("ours", [True, False])
def test_a_worker_of_ours_has_a_session_of_its_own_from_its_first_instant_on(ours: bool):
    code = "import os; print(os.getsid(0) == os.getpid())"
    reading, writing = os.pipe()
    program = [sys.executable, "-c", f"import os; os.dup2({writing}, 1); {code}"]
    env = {processes.LANE_VARIABLE: "x"} if ours else {}
    pid = fork_exec.fork_exec(program, [writing], env)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read() == f"{ours}\n"
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("closed", [None, io.StringIO()])
def test_a_stream_that_cannot_be_flushed_is_replaced_for_that_time_only(
    closed: Any, monkeypatch: pytest.MonkeyPatch
):
    if closed is not None:
        closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    with fit_to_spawn():
        sys.stdout.flush()
    assert sys.stdout is closed


def test_a_worker_of_a_program_whose_directory_is_gone_begins_at_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path / "own")
    (tmp_path / "own").rmdir()
    assert spawn.get_preparation_data("worker", init_main_module=False)["dir"] == os.sep


def test_a_worker_hears_a_cancel_though_who_started_it_did_not():
    code = """
import signal
from python_mcp_server.pool.cancellation import SIGNAL
from python_mcp_server.pool.spawning import hear_signals
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, SIGNAL, signal.SIGUSR1})
hear_signals()
print([number.name for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())])
"""
    assert run_python("-c", code).stdout == "['SIGUSR1']\n"


def test_a_program_without_standard_descriptors_hands_on_the_null_device():
    code = """
import os, subprocess, sys
os.close(0)
from python_mcp_server.pool.confinement import confine
from python_mcp_server.pool.spawning import open_standard_descriptors
open_standard_descriptors()
print(os.get_inheritable(0), os.path.samestat(os.fstat(0), os.stat(os.devnull)))
os.close(0)
confine()
print(os.get_inheritable(0), os.path.samestat(os.fstat(0), os.stat(os.devnull)))
"""
    assert run_python("-c", code).stdout == "True True\nTrue True\n"
