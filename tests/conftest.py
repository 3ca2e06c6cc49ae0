"""Fixtures of all tests: a home of its own for each, and no process left behind."""

from __future__ import annotations

import gc
import inspect
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from python_mcp_server.processes.host import THREAD_VARIABLES
from python_mcp_server.settings import BUDGET_VARIABLE
from tests.helpers import leftovers, redis_server

MEMORY: Final = "/dev/shm"
ROOM_BYTES: Final = 2_000_000_000  # far more than all tests need at a time


def pytest_configure() -> None:
    """Keep the files of the tests in memory where there is room: a disk that others use takes its time."""
    if os.path.isdir(MEMORY) and may_be_used(MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)


def hear_signals() -> None:
    """Hear what a start in the background (`nohup`, `&` in a script) has left ignored: what the tests start
    would inherit it, and not hear Ctrl-C or the end of its terminal."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.name == "posix":
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def may_be_used(place: str) -> bool:
    """Tell whether a file system lets us write much and run programs."""
    forbids_programs = os.statvfs(place).f_flag & os.ST_NOEXEC
    return os.access(place, os.W_OK) and not forbids_programs and shutil.disk_usage(place).free > ROOM_BYTES


def pytest_collection() -> None:
    """Get ready to load the tests; xdist's first process, which loads none, never comes here."""
    hear_signals()
    from hypothesis import settings

    settings.register_profile("shared-machine", deadline=None, max_examples=50)  # no timings: they are
    settings.load_profile("shared-machine")  # for benchmarks
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare each later collection the objects of all the modules and tests that were loaded; start the server
    that tests of the store on Redis share."""
    gc.enable()
    gc.freeze()
    if redis_server.PROGRAM and any("redis" in item.nodeid for item in session.items):
        redis_server.start_shared()


def pytest_sessionfinish() -> None:
    """End the server."""
    redis_server.end_shared()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what needs a Redis server, where there is none."""
    return True if "redis" in collection_path.name and not redis_server.PROGRAM else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was left out."""
    if not redis_server.PROGRAM:
        terminalreporter.write_line(
            "Left out the tests of the store on Redis: redis-server is missing (apt-get install redis-server)"
        )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test on a loop of its own, with the deadline and the watchdog of `helpers.run`."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    from tests.helpers import run

    names = inspect.signature(pyfuncitem.obj).parameters
    run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: the tests wait for other processes about as long as they compute."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out so that few servers are started; another `--dist` is left alone."""
    if config.getvalue("dist") != "load":
        return None
    from tests.helpers.xdist_scheduler import SharingScheduler  # only who has xdist comes here

    return SharingScheduler(config, log)


@pytest.fixture(autouse=True)
def no_process_left(home: Path) -> Iterator[None]:
    """Fail the test that leaves a process behind: a child, or whoever carries the test's id.

    Its files are there until the processes are gone.
    """
    test_id = uuid.uuid4().hex
    before = leftovers.processes()
    os.environ[leftovers.TEST_VARIABLE] = test_id
    try:
        yield
        found = leftovers.left_behind(test_id, before)
    finally:
        del os.environ[leftovers.TEST_VARIABLE]
    report = "\n".join(map(leftovers.describe, found))
    for process in found:
        leftovers.end(process)
    if found:
        pytest.fail(f"the test left these processes behind:\n{report}", pytrace=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of this test; nothing is there yet."""
    path = tmp_path / "home"
    for name in (BUDGET_VARIABLE, "MCP_DEBUG", *THREAD_VARIABLES):  # a server that runs the tests sets some
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHON_MCP_HOME", str(path))
    monkeypatch.setenv("PYTHON_MCP_SPARE_WORKERS", "0")  # each costs 0.2 s of CPU, called or not
    monkeypatch.setenv("PYTHON_MCP_MIN_FREE_MEMORY_MB", "0")  # the machine may be short of it, for others
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, where this user may mount one."""
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount")):
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine mounts nothing")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
