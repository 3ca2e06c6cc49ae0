"""What a script hears when it is to end, by a cancel or at its time limit, and how long it may clean up."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from python_mcp_server.runner.python.uv import find_uv
from tests.helpers import environment, eventually, python
from tests.helpers.marks import thorough

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")

FAMILY = Path(__file__).parents[2] / "helpers" / "family.py"
LONG = "100"
UP = "open('up', 'w').close()\n"
SLOW_CLEANUP = f"""
import time
try:
    {UP}    time.sleep(600)
finally:
    time.sleep(1)
    print("cleaned up")
"""
HANDLED = f"""
import time
try:
    {UP}    time.sleep(600)
except KeyboardInterrupt:
    print("handled")
"""
WITH_CHILD = f"""
import multiprocessing, time
def work(ready):
    try:
        ready.set()
        time.sleep(600)
    except KeyboardInterrupt:
        print("child handled")
ready = multiprocessing.get_context("fork").Event()
child = multiprocessing.get_context("fork").Process(target=work, args=(ready,))
child.start()
ready.wait()
try:
    {UP}    time.sleep(600)
except KeyboardInterrupt:
    child.join()
    print("parent handled")
"""
ONLY_SIGTERM = f"""
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("told to end")))
{UP}while True: time.sleep(1)
"""
SIGNALS = f"""
import signal, time
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(print("told to end", flush=True)))
{UP}while not told: time.sleep(0.1)
time.sleep(0.5)
print("cleaned up")
"""
IN_C = f"import re\n{UP}re.match('(a*)*b', 'a' * 60)\n"
DEAF = f"""
import os, signal, subprocess, sys, time
family = [sys.executable, {str(FAMILY)!r}, "plain", "session", "daemon", "deaf"]
subprocess.Popen(family, stdout=open("family", "w"))
while open("family").read().count("\\n") < 6: time.sleep(0.01)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
{UP}while True: time.sleep(1)
"""
SUITE = """
import time
def test_fails():
    assert 1 == 2
def test_stays():
    open('up', 'w').close()
    time.sleep(600)
"""


class Place:
    """A directory, a job, and the environment of its worker."""

    def __init__(self, tmp_path: Path) -> None:
        self.job = tmp_path / "job"
        self.directory = tmp_path / "dir"
        self.directory.mkdir()

    def start(self, grace_s: str, tool: str = "scripts:run_script_in_dir", **kwargs: Any) -> Any:
        given = {"directory": str(self.directory), **kwargs}
        body = f"python_mcp_server.tools.{tool}"
        env = environment(PYTHON_MCP_CANCEL_GRACE_SECONDS=grace_s)
        return python("-m", "tests.helpers.worker_call", str(self.job), body, _json(given), env=env)

    def cancel(self, grace_s: str, tool: str = "scripts:run_script_in_dir", **kwargs: Any) -> None:
        """Start a call, and cancel it when its script is up."""
        with self.start(grace_s, tool, timeout_seconds=0, **kwargs) as process:
            eventually((self.directory / "up").exists)
            process.send_signal(signal.SIGUSR1)
            answer = answer_of(process)
        assert answer["error"].startswith("JobCancelled")
        assert answer["children"] == []

    def cancelled(self, grace_s: str, code: str) -> str:
        """Cancel this script; return what it wrote to stdout."""
        self.cancel(grace_s, script_content=code)
        return (self.job / "stdout").read_text()


def _json(given: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in given.items() if value is not None})


def answer_of(process: Any) -> Any:
    out, err = process.communicate(timeout=90)
    assert err == ""
    return json.loads(out)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (SLOW_CLEANUP, "cleaned up\n"),
        (HANDLED, "handled\n"),
        (WITH_CHILD, "child handled\nparent handled\n"),
    ],
)
def test_a_cancelled_script_hears_an_interrupt_and_cleans_up(place: Place, code: str, said: str) -> None:
    assert place.cancelled(LONG, code) == said


@pytest.mark.parametrize("start", [[sys.executable], [], None])
def test_a_command_hears_sigterm_once_and_no_interrupt(place: Place, start: list[str] | None) -> None:
    argv: Any = f"{shlex.quote(sys.executable)} script.py; true" if start is None else [*start, "script.py"]
    (place.directory / "script.py").write_text(SIGNALS)
    if start == []:
        argv = [find_uv(), "run", "--no-project", "--python", sys.executable, "script.py"]
    place.cancel(LONG, "commands:run_command", command=argv)
    assert (place.job / "stdout").read_text() == "told to end\ncleaned up\n"


@pytest.mark.parametrize(("code", "said"), [(ONLY_SIGTERM, "told to end\n"), (IN_C, "")])
def test_a_script_that_does_not_hear_the_interrupt_hears_sigterm(place: Place, code: str, said: str) -> None:
    assert place.cancelled("6", code) == said


@pytest.mark.parametrize("grace_s", ["0", thorough("1")])
def test_a_script_that_hears_nothing_is_killed_with_its_tree(place: Place, grace_s: str) -> None:
    assert place.cancelled(grace_s, DEAF) == ""
    lines = (place.directory / "family").read_text().splitlines()
    pids = [int(line.split()[1]) for line in lines]
    assert len(pids) == 6
    assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def test_a_time_limit_lets_the_script_clean_up(place: Place) -> None:
    with place.start(LONG, script_content=SLOW_CLEANUP, timeout_seconds=3) as process:
        result = answer_of(process)["result"]
    assert (result["timed_out"], result["stdout"]) == (True, "cleaned up\n")
    assert result["exit_code"] == -signal.SIGINT


def test_a_script_that_the_limit_cut_off_is_no_success(place: Place) -> None:
    with place.start(LONG, script_content=HANDLED, timeout_seconds=3) as process:
        result = answer_of(process)["result"]
    assert (result["timed_out"], result["stdout"], result["exit_code"]) == (True, "handled\n", 124)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is looked at less often")
def test_the_memory_limit_holds_while_a_script_cleans_up(place: Place) -> None:
    code = "import time\ntry: time.sleep(600)\nfinally:\n    held = b'x' * 400_000_000\n    time.sleep(600)\n"
    with place.start("600", script_content=code, timeout_seconds=2, memory_limit_mb=200) as process:
        result = answer_of(process)["result"]
    assert (result["timed_out"], result["exit_code"]) == (True, -signal.SIGKILL)


def test_an_item_of_a_cancelled_batch_cleans_up(place: Place) -> None:
    (place.directory / "script.py").write_text(SLOW_CLEANUP)
    place.cancel(LONG, "batch.tool:map_script", script_path="script.py", args_list=[[]])
    assert (place.job / "outputs" / "0.stdout").read_text() == "cleaned up\n"


def test_a_cancelled_benchmark_lets_its_script_clean_up(place: Place) -> None:
    (place.directory / "script.py").write_text(SLOW_CLEANUP)
    place.cancel(
        LONG,
        "benchmark.tool:benchmark_script",
        script_path=str(place.directory / "script.py"),
        directory=None,
    )
    assert (place.job / "stdout").read_text() == "cleaned up\n"


@pytest.mark.parametrize("workers", [0, thorough(2)])
def test_a_cancelled_suite_tells_what_failed_until_then(place: Place, workers: int) -> None:
    (place.directory / "test_it.py").write_text(SUITE)
    place.cancel(LONG, "suite.tool:run_tests", workers=workers)
    assert "1 failed" in (place.job / "stdout").read_text()
    assert "assert 1 == 2" in (place.job / "failures").read_text()
