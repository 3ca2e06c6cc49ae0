"""How a worker is started, and what a program may be short of then."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import loky
import pytest

from python_mcp_server.pool.start import WorkerContext
from tests.helpers import environment, python, run_python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sessions and descriptors are those of POSIX")
STATE = """
import json, os, signal, sys
from tests.unit.pool.test_start import in_a_worker, state
print(json.dumps(in_a_worker(state)))
"""


def state() -> dict[str, Any]:
    """What a worker finds itself with."""
    ignored = [n for n in signal.valid_signals() if signal.getsignal(n) is signal.SIG_IGN]
    mask = os.umask(0)
    return {
        "leads": os.getsid(0) == os.getpid(),
        "ignored": sorted(signal.Signals(number).name for number in ignored),
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
        "umask": mask,
        "directory": os.getcwd(),
    }


def in_a_worker(body: Any) -> Any:
    """Run it in a worker process that was started as ours are."""
    executor = loky.ProcessPoolExecutor(1, context=WorkerContext())
    try:
        return executor.submit(body).result(60)
    finally:
        executor.shutdown(kill_workers=True)


def test_a_worker_inherits_no_state_that_could_change_results(tmp_path: Path):
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"""
import os, signal
for name in ("SIGCHLD", "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGINT, signal.SIGTERM, signal.SIGUSR2}})
os.umask(0o727)
os.chdir({str(gone)!r})
os.rmdir({str(gone)!r})
{STATE}
assert os.path.samestat(os.stat("."), os.fstat(os.open(".", os.O_RDONLY)))
try:
    print(os.getcwd())
except FileNotFoundError:
    print("still gone")
"""
    done = run_python(
        "-P", "-c", program
    )  # Python 3.13.0 fails where the directory it searches first is gone
    assert done.stdout.splitlines() == [
        '{"leads": true, "ignored": ["SIGPIPE", "SIGXFSZ"], "blocked": [], "umask": 23, "directory": "/"}',
        "still gone",
    ], done.stderr


def test_a_worker_starts_in_a_directory_that_may_not_be_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert in_a_worker(state)["directory"] == os.sep
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("stream", ["sys.stdout = None", "sys.stdout.close()", "os.dup2(wrong, 1)"])
def test_a_stream_that_cannot_be_flushed_keeps_no_worker_from_starting(stream: str):
    program = f"""
import os, sys
wrong = os.open("/dev/full", os.O_WRONLY)
print("not flushed", end="")
{stream}
from tests.unit.pool.test_start import in_a_worker, state
os.write(2, str(in_a_worker(state)["leads"]).encode())
os._exit(0)
"""
    done = run_python("-c", program)
    assert (done.returncode, done.stderr[:4]) == (0, "True")  # behind it, the tracker complains of the exit


def test_a_signal_to_the_programs_group_ends_no_starting_worker():
    """The worker is stopped before it has done anything, and gets the signals then."""
    program = """
import os, signal, sys, threading
from tests.unit.pool.test_start import in_a_worker, state
for name in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1"):
    signal.signal(getattr(signal, name), lambda *_: None)
from loky.backend import popen_loky_posix, fork_exec
def start(*how, real=fork_exec.fork_exec, **more):
    pid = real(*how, **more)
    for name in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1"):
        os.kill(pid, getattr(signal, name))
    return pid
fork_exec.fork_exec = start
print(in_a_worker(state)["leads"])
"""
    done = run_python("-c", program)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_start_does_not_wait_for_locks_that_a_forked_child_holds():
    program = """
import os, signal, sys
from loky.backend import fork_exec
children = []
def fork(*_):
    if (child := os.fork()) == 0:
        while True:
            signal.pause()
    children.append(child)
real = os.pipe
def pipe():
    ends = real()
    fork()
    return ends
os.pipe = pipe
from tests.unit.pool.test_start import in_a_worker, state
print(in_a_worker(state)["leads"], len(children) > 3, flush=True)
for child in children:
    os.kill(child, signal.SIGKILL)
os._exit(0)
"""
    with python("-c", program, env=environment()) as process:
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "True True\n")


def test_a_program_without_standard_descriptors_hands_on_the_null_device():
    code = """
import os, subprocess, sys
os.close(0)
from python_mcp_server.pool.worker.streams import confine
from python_mcp_server.processes.inherited import open_standard_descriptors
open_standard_descriptors()
print(os.get_inheritable(0), os.path.samestat(os.fstat(0), os.stat(os.devnull)))
os.close(0)
confine()
print(os.get_inheritable(0), os.path.samestat(os.fstat(0), os.stat(os.devnull)))
"""
    assert run_python("-c", code).stdout == "True True\nTrue True\n"


def test_no_module_of_loky_or_of_multiprocessing_is_patched():
    program = """
import importlib, sys, types
names = ["loky.backend.spawn", "loky.backend.fork_exec", "loky.backend.resource_tracker",
         "loky.backend.synchronize", "loky.backend.popen_loky_posix", "loky.process_executor",
         "multiprocessing.resource_tracker", "multiprocessing.util", "asyncio.base_events"]
modules = [importlib.import_module(name) for name in names]
def parts():
    for module in modules:
        for name, value in vars(module).items():
            yield module.__name__, name, value
            if isinstance(value, type):
                yield from ((module.__name__, f"{name}.{each}", part) for each, part in vars(value).items())
before = {(module, name): value for module, name, value in parts() if name != "__builtins__"}
import python_mcp_server.jobs.manager, python_mcp_server.pool.process
after = {(module, name): value for module, name, value in parts() if name != "__builtins__"}
print([key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)
       and callable(after.get(key))])
"""
    done = run_python("-c", program)
    assert done.stdout == "[]\n", done.stderr


def test_a_start_ends_with_its_worker_while_a_forked_child_has_the_pipe():
    program = """
import os, signal, sys
from loky.backend import fork_exec
def start(*how, real_start=fork_exec.fork_exec, **more):
    pid = real_start(*how, **more)
    os.kill(pid, signal.SIGKILL)
    return pid
fork_exec.fork_exec = start
children = []
def pipe(real_pipe=os.pipe):
    ends = real_pipe()
    if (child := os.fork()) == 0:
        while True:
            signal.pause()
    children.append(child)
    return ends
os.pipe = pipe
sys.argv.append("more than the pipe takes" * 100_000)
from python_mcp_server.pool.start import WorkerContext
process = WorkerContext().Process(target=print)
process.start()
print(process.exitcode, flush=True)
for child in children:
    os.kill(child, signal.SIGKILL)
os._exit(0)
"""
    with python("-c", program, env=environment()) as process:
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "-9\n")


def test_a_worker_reads_more_than_the_pipe_takes():
    program = """
import sys
sys.argv.append("x" * 300_000)
from tests.unit.pool.test_start import in_a_worker, state
print(in_a_worker(state)["leads"])
"""
    assert run_python("-c", program).stdout == "True\n"
