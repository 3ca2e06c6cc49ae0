"""The wait for the end of a child, in a process that inherits orphans as a worker does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import environment, python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nobody else inherits orphans")

AS_A_WORKER = """
import ctypes, json, os, resource, sys, threading
from pathlib import Path
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
if sys.argv[2] == "without pidfd":
    del os.pidfd_open
from python_mcp_server import Limits, context
from python_mcp_server.runner import child, orphans
context.mark_worker()
folder = Path(sys.argv[1])
orphans.Orphans.pause_s = 0.01
def run(code, limits=None, watch=None):
    argv = (sys.executable, "-I", "-S", "-c", code, str(folder / "go"))
    command = child.Command(argv, folder, dict(os.environ))
    streams = {"stdout": folder / "stdout", "stderr": folder / "stderr"}
    ending = child.run_child(command, **streams, job_id="a-job", limits=limits, watch=watch)
    print(json.dumps([ending.exit_code, streams["stdout"].read_text(), sorted(orphans.own_children())]))
"""
WAIT = """
import os, sys, time
until = time.monotonic() + 120
while not os.path.exists(sys.argv[1]) and time.monotonic() < until:
    time.sleep(0.01)
"""
SHORTAGE = """
real, looks, met, held = orphans.own_children, threading.Semaphore(0), threading.Semaphore(0), []
def watched():
    looks.release()
    try:
        return real()
    except OSError:
        met.release()
        raise
orphans.own_children = watched
def take_free():
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
def take_all():
    for _ in range(6):
        looks.acquire()  # more than there are before the wait
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    for _ in range(3):
        take_free()
        while not met.acquire(timeout=0.01):
            take_free()  # the main thread had one open when all others were taken, and has closed it
    for descriptor in held:
        os.close(descriptor)
    (folder / "go").touch()
threading.Thread(target=take_all, daemon=True).start()
run(sys.argv[3], Limits(memory_limit_mb=500) if sys.argv[4] == "limits" else None)
"""
ORPHANS = """
import os, sys, time
def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
orphans = []
for _ in range(20):
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        if os.fork() == 0:
            os.write(writer, b"%d" % os.getpid())
            while os.getppid() == child:
                time.sleep(0.001)
        os._exit(0)
    os.waitpid(child, 0)
    orphans.append(int(os.read(reader, 99)))
until = time.monotonic() + 60
while any(map(is_there, orphans)) and time.monotonic() < until:
    time.sleep(0.01)
print("some are left" if any(map(is_there, orphans)) else "all gone")
"""

LATE = """
import contextlib, time
@contextlib.contextmanager
def watch(_pid):
    while len(orphans.own_children()) < 21:  # the script and its orphans
        time.sleep(0.01)
    yield
"""


def as_a_worker(tmp_path: Path, code: str, *args: str) -> object:
    command = ("-c", AS_A_WORKER + code, str(tmp_path), *args)
    with python(*command, env=environment(), stdout=subprocess.PIPE) as process:
        return json.loads(process.communicate(timeout=90)[0])


@pytest.mark.parametrize("limits", ["limits", "none"])
@pytest.mark.parametrize("wait", ["with pidfd", "without pidfd"])
def test_a_script_outlives_a_shortage_of_descriptors_in_its_worker(tmp_path: Path, wait: str, limits: str):
    assert as_a_worker(tmp_path, SHORTAGE, wait, WAIT, limits) == [0, "", []]


@pytest.mark.parametrize("wait", ["with pidfd", "without pidfd"])
def test_orphaned_processes_are_reaped_while_the_script_runs(tmp_path: Path, wait: str):
    assert as_a_worker(tmp_path, "run(sys.argv[3])", wait, ORPHANS) == [0, "all gone\n", []]


def test_orphans_from_before_the_wait_are_reaped_too(tmp_path: Path):
    code = f"{LATE}run(sys.argv[3], watch=watch)"
    assert as_a_worker(tmp_path, code, "with pidfd", ORPHANS) == [0, "all gone\n", []]
