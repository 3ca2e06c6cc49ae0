"""Where there is no /proc, psutil tells of processes what the kernel's files tell here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from python_mcp_server.processes import identity
from python_mcp_server.processes import portable as elsewhere
from python_mcp_server.processes import tree as table
from tests.helpers import eventually, python

WAIT = "import sys; sys.stdin.read()"


def forget() -> None:
    """Forget what is known of this machine: it is told otherwise elsewhere."""
    identity.boot_id.cache_clear()
    identity._pid_namespace.cache_clear()


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """What lets the modules do without /proc until the test ends."""

    def leave() -> None:
        forget()
        for module in (identity, table):
            monkeypatch.setattr(module, "LINUX", False)

    yield leave
    monkeypatch.undo()
    forget()


@pytest.mark.skipif(sys.platform != "linux", reason="looks at what only Linux tells")
def test_psutil_gives_the_same_facts_as_proc(no_files: Callable[[], None]):
    pid = os.getpid()
    real, environment = identity.read_stat(pid), table.environment_of(pid)
    assert real is not None
    no_files()
    told = table.stat_of(pid)
    assert told is not None
    assert told._replace(start_ticks=0) == real._replace(start_ticks=0)
    assert set(table.environment_of(pid)) == set(environment)
    assert pid in table.all_pids()
    mine = identity.identify(pid)
    assert mine is not None
    assert identity.is_alive(mine)
    assert mine.start_ticks == told.start_ticks
    assert identity.boot_id().isdigit()


def test_a_gone_process_is_reported_as_gone(no_files: Callable[[], None]):
    no_files()
    with python("-c", WAIT, stdin=subprocess.PIPE) as process:
        pid = process.pid
        eventually(lambda: identity.identify(pid))
        process.kill()
        process.wait()
    assert (identity.identify(pid), table.stat_of(pid), table.environment_of(pid)) == (None, None, [])
    with pytest.raises(ProcessLookupError):
        elsewhere.set_class(pid, 5)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at what only Linux tells")
def test_a_process_is_bound_by_psutil_too():
    core = min(os.sched_getaffinity(0))
    with python("-c", WAIT, stdin=subprocess.PIPE) as process:
        elsewhere.bind(process.pid, [core])
        elsewhere.set_class(process.pid, 7)
        assert os.sched_getaffinity(process.pid) == {core}
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 7
        process.kill()
        process.wait()
        with pytest.raises(ProcessLookupError):
            elsewhere.bind(process.pid, [core])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is needed")
def test_on_linux_the_batch_supervisor_loads_no_psutil():
    code = "import sys, python_mcp_server.tools.batch.slot; print('psutil' in sys.modules)"
    with python("-c", code, stdout=subprocess.PIPE) as process:
        assert process.communicate()[0] == "False\n"
