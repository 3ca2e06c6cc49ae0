"""What limits say, and who looks whether they are kept."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import InMemoryJobStore
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs import capacity
from python_mcp_server.jobs.capacity import Capacity, SlotLimits
from python_mcp_server.jobs.queue_rules import QueueRules
from python_mcp_server.jobs.rates import Rates
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.spec import from_spec, to_spec
from python_mcp_server.limits import CPU, DISK, MEMORY, TIME, Limits, disk_breach
from python_mcp_server.model import Job, JobState, utc_now
from python_mcp_server.pool.references import refer
from python_mcp_server.processes import host
from python_mcp_server.processes import usage as meter
from python_mcp_server.processes.host import THREAD_VARIABLES, Memory, entry_in, memory_group, number_in
from python_mcp_server.processes.usage import TreeUsage
from python_mcp_server.runner import enforce
from python_mcp_server.runner.enforce import (
    LimitChecker,
    check_here,
    keep_threads_to_cores,
    met_by_kernel,
    rlimits,
    thread_variables,
)
from python_mcp_server.tools.commands import run_command_job
from tests.helpers import python

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
MB = 1_000_000


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("memory_limit_mb", -1, "a positive number of MB, or unset"),
        ("memory_limit_mb", 0, "a positive number of MB, or unset"),
        ("cpu_time_limit_seconds", float("nan"), "a positive number of seconds, or unset"),
        ("timeout_seconds", "5", "a positive number of seconds, or unset"),
        ("timeout_seconds", True, "a positive number of seconds, or unset"),
        ("disk_limit_mb", 0, "a positive number of MB, or unset"),
        ("memory_limit_mb", True, "a positive number of MB, or unset"),
        ("cpus", True, "how many cores, such as 2, or their numbers, such as [0, 1]"),
        ("nice", 20, "a whole number from -20 to 19"),
        ("nice", 1.5, "a whole number from -20 to 19"),
        ("cpus", 0, "how many cores, such as 2, or their numbers, such as [0, 1]"),
        ("cpus", [], "how many cores, such as 2, or their numbers, such as [0, 1]"),
        ("cpus", [-1], "how many cores, such as 2, or their numbers, such as [0, 1]"),
        ("cpus", "0", "how many cores, such as 2, or their numbers, such as [0, 1]"),
    ],
)
def test_a_meaningless_limit_is_refused_by_value(name: str, value: Any, right: str):
    with pytest.raises(InvalidInput) as caught:
        Limits(**{name: value})
    assert str(caught.value) == f"{name} is {value!r}; it must be {right}"


@pytest.mark.parametrize(
    ("name", "most", "unit"),
    [("memory_limit_mb", 1e12, "MB"), ("cpu_time_limit_seconds", 1e9, "seconds")],
)
def test_a_limit_that_the_kernel_cannot_count_is_refused(name: str, most: Any, unit: str):
    with rlimits(Limits(**{name: most})):
        pass
    too_much: tuple[Any, ...] = (most * 1.01, 1e308, 10**400)
    for value in too_much:
        with pytest.raises(InvalidInput) as caught:
            Limits(**{name: value})
        assert f"it may be at most {most:g} {unit}, or unset for no limit" in str(caught.value)


def test_limits_travel_and_come_back_from_a_record():
    limits = Limits.given(memory_limit_mb=1.5, cpus=[3, 1, 3], nice=None)
    assert limits is not None
    assert limits == Limits(memory_limit_mb=1.5, cpus=(1, 3))
    assert limits.memory_bytes == 1_500_000
    assert limits.to_json() == {"memory_limit_mb": 1.5, "cpus": [1, 3]}
    assert Limits.given(**limits.to_json()) == pickle.loads(pickle.dumps(limits)) == limits
    assert Limits.given(memory_limit_mb=None, nice=None) is None


@pytest.mark.skipif(host.usable_cpus() is None, reason="this system binds no process to cores")
def test_cores_that_are_not_there_are_refused_with_those_that_are():
    cpus = host.usable_cpus() or []
    names = ", ".join(map(str, cpus))
    check_here(Limits(cpus=(cpus[0],)))
    with pytest.raises(InvalidInput, match=f"^cpus is 4096; there are {len(cpus)} to be used here: {names}$"):
        check_here(Limits(cpus=4096))
    with pytest.raises(
        InvalidInput, match=f"^cpus has 4095, which is not to be used here; there are {names}$"
    ):
        check_here(Limits(cpus=(cpus[0], 4095)))


def test_a_system_that_binds_no_process_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("python_mcp_server.runner.enforce.usable_cpus", lambda: None)
    with pytest.raises(InvalidInput, match="this system binds no process to cores"):
        check_here(Limits(cpus=1))


@linux
def test_a_priority_that_the_account_may_not_give_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("python_mcp_server.runner.enforce._may_raise_priority", lambda _nice: False)
    with pytest.raises(InvalidInput, match=r"^nice is -5; this account may not go below \d+"):
        check_here(Limits(nice=-5))


def readings(monkeypatch: pytest.MonkeyPatch, *made: TreeUsage) -> None:
    left = list(made)
    monkeypatch.setattr(enforce, "measure", lambda _roots, _limit, *_: left.pop(0))


def guard(limits: Limits, **options: Any) -> LimitChecker:
    return LimitChecker(limits, lambda: (1,), **options)


def test_a_memory_breach_has_peak_and_limit(monkeypatch: pytest.MonkeyPatch):
    readings(monkeypatch, TreeUsage(500 * MB, 0.0, 1), TreeUsage(501 * MB, 0.0, 1))
    over = guard(Limits(memory_limit_mb=500))
    assert over.look() is None
    breach = over.look()
    assert breach is not None
    assert breach.kind == MEMORY
    assert breach.sentence == "ended at its memory limit: its processes held 501 MB, the limit is 500 MB"


def test_samples_come_sooner_near_the_limit(monkeypatch: pytest.MonkeyPatch):
    readings(monkeypatch, *(TreeUsage(used * MB, 0.0, 1) for used in (10, 400, 499)))
    near = guard(Limits(memory_limit_mb=500))
    pauses = [near.pause_s for _ in range(3) if near.look() is None]
    assert pauses == sorted(pauses, reverse=True)
    assert pauses[0] > 0.2
    assert pauses[-1] <= 0.05


def test_cpu_time_includes_ended_processes(monkeypatch: pytest.MonkeyPatch):
    readings(monkeypatch, TreeUsage(0, 0.4, 2), TreeUsage(0, 0.1, 1))
    reaped = [0.0, 1.0]
    over = guard(Limits(cpu_time_limit_seconds=1), cpu_base_s=lambda: reaped.pop(0))
    assert over.look() is None
    breach = over.look()
    assert breach is not None
    assert (breach.kind, breach.sentence) == (
        CPU,
        "ended at its CPU time limit: its processes used 1.10 s, the limit is 1 s",
    )


def test_usage_before_the_call_is_left_out(monkeypatch: pytest.MonkeyPatch):
    readings(monkeypatch, TreeUsage(0, 50.0, 1), TreeUsage(0, 50.9, 1), TreeUsage(0, 51.1, 1))
    over = guard(Limits(cpu_time_limit_seconds=1), from_now=True)
    assert [over.look() is None for _ in range(3)] == [True, True, False]


def test_the_time_limit_counts_from_the_given_start():
    breach = guard(Limits(timeout_seconds=5), started_s=0.0).look()
    assert breach is not None
    assert (breach.kind, breach.sentence) == (TIME, "ended at its time limit of 5 s")
    assert guard(Limits(timeout_seconds=5)).look() is None


@linux
def test_shared_pages_count_once_only_where_the_sum_is_over_the_limit():
    code = "import os; block = bytearray(30_000_000); os.fork(); os.write(1, b'there\\n'); input()"
    with python("-c", code) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["there\n"] * 2
        twice = meter.measure((parent.pid,), None)
        once = meter.measure((parent.pid,), 55 * MB)
        surely = meter.measure((parent.pid,), 30 * MB)
        parent.communicate("\n\n")
    assert twice.processes == once.processes == 2
    assert twice.memory_bytes > 60 * MB
    assert 30 * MB < surely.memory_bytes <= once.memory_bytes < 50 * MB


@linux
@pytest.mark.parametrize(("kind", "error"), [(DISK, "OSError"), (MEMORY, "MemoryError"), (CPU, None)])
def test_a_tree_over_its_limit_is_kept_from_taking_more(tmp_path: Path, kind: str, error: str | None):
    code = "import sys\nfile = open(sys.argv[1], 'wb', buffering=0)\nfor line in sys.stdin:\n"
    code += f"  try: {'bytearray(50_000_000)' if kind == MEMORY else 'file.write(bytes(5))'}\n"
    code += "  except Exception as error: print(type(error).__name__, flush=True)\n"
    code += "  else: print(None, flush=True)"
    with python("-c", code, str(tmp_path / "file")) as child:
        told: list[str] = []
        for kinds in ((), (kind,)):
            for given in kinds:
                LimitChecker(Limits(), lambda: (child.pid,)).freeze(given)
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            told.append(child.stdout.readline())
    assert told == ["None\n", f"{error}\n"]


PARENT = """
import os, signal, sys, time
if sys.argv[1] == "ignores":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child = os.fork()
if child == 0:
    while time.process_time() < 0.3:
        pass
    print("burnt", flush=True)
    time.sleep(600)
for line in sys.stdin:
    os.kill(child, signal.SIGKILL)
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        pass  # it was reaped by the kernel, and has ended
    print("reaped", flush=True)
"""


@linux
@pytest.mark.parametrize("way", ["ignores", "waits"])
def test_cpu_time_of_a_child_counts_once_whoever_reaps_it(way: str):
    with python("-c", PARENT, way) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "burnt\n"
        unreaped = meter.AutoReaped()
        seen = [meter.measure((parent.pid,), None, None, unreaped)]
        expected = unreaped.expected
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "reaped\n"
        seen += [meter.measure((parent.pid,), None, None, unreaped) for _ in range(3)]
        without = meter.measure((parent.pid,), None)
    assert expected == (way == "ignores")
    assert [usage.processes for usage in seen] == [2, 1, 1, 1]
    assert all(0.25 < usage.cpu_s < 0.5 for usage in seen)
    assert (without.cpu_s < 0.25) == (way == "ignores")


@linux
def test_a_gone_process_uses_no_memory():
    assert meter.measure((2**22 + 1,), 1) == TreeUsage(0, 0.0, 1)


@linux
def test_without_proc_psutil_gives_the_same_usage(monkeypatch: pytest.MonkeyPatch):
    there = meter.measure((os.getpid(),), None)
    monkeypatch.setattr(meter, "LINUX", False)
    here = meter.measure((os.getpid(), 2**22 + 1), None)
    assert here.processes == there.processes
    assert here.memory_bytes >= there.memory_bytes  # with the pages of files
    assert here.cpu_s == pytest.approx(there.cpu_s, abs=1)


@pytest.mark.parametrize(
    ("exit_code", "said", "kind"),
    [
        (1, "Traceback\nMemoryError\n", MEMORY),
        (1, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7 GiB\n", MEMORY),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'\n", MEMORY),
        (1, "MemoryError\nValueError: another\n", None),
        (0, "MemoryError\n", None),
        (1, "", None),
        (-int(getattr(signal, "SIGXCPU", 24)), "", CPU),
    ],
)
def test_a_child_that_met_the_kernels_limit_is_told_from_one_that_failed(
    tmp_path: Path, exit_code: int, said: str, kind: str | None
):
    stderr = tmp_path / "stderr"
    stderr.write_text("x" * 5000 + "\n" + said)
    breach = met_by_kernel(exit_code, 2.0, stderr, Limits(memory_limit_mb=5, cpu_time_limit_seconds=1))
    assert (breach and breach.kind) == kind
    assert met_by_kernel(exit_code, 2.0, stderr, Limits(nice=1)) is None


@linux
def test_the_kernels_limits_are_as_before_after_a_call():
    import resource

    former = [resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)]
    with rlimits(Limits(memory_limit_mb=1000, cpu_time_limit_seconds=3000)):
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == 2 * 1000 * MB + (1 << 30)
        assert resource.getrlimit(resource.RLIMIT_CPU)[0] > 3000
    assert former == [resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_CPU)]


def test_a_queued_jobs_limits_are_in_its_spec():
    limits = Limits(memory_limit_mb=100, cpus=(0,))
    recipe = to_spec(Request(run_command_job, (["true"], "/"), limits=limits), refer(run_command_job))
    job = Job("an-id", "a label", JobState.PENDING, utc_now(), call=json.loads(json.dumps(recipe)))
    request = from_spec(job)
    assert request is not None
    assert request.limits == limits


def test_libraries_start_one_thread_per_core_unless_the_user_says(
    monkeypatch: pytest.MonkeyPatch,
):
    for name in THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("PYTHON_MCP_THREAD_VARIABLES", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    keep_threads_to_cores()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["MKL_NUM_THREADS"] == str(host.usable_cores())
    assert thread_variables(None) == {}
    fewer = thread_variables(Limits(cpus=1))
    assert fewer["MKL_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in fewer


def group(root: Path, name: str, **files: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text)
    return folder


@linux
def test_a_group_is_found_in_both_versions_and_in_a_container(tmp_path: Path):
    listing = tmp_path / "cgroup"
    old = group(tmp_path, "memory/here", tasks="")
    new = group(tmp_path, "user/me", cgroup__controllers="memory")
    listing.write_text("4:cpu,memory:/elsewhere\n5:memory:/here\n0::/user/me\n")
    assert memory_group(tmp_path, listing) == old
    listing.write_text("0::/user/me\n")
    assert memory_group(tmp_path, listing) == new
    listing.write_text("0::/not/seen/from/here\n")
    assert memory_group(tmp_path, listing) is None
    (tmp_path / "cgroup.controllers").write_text("memory")
    assert memory_group(tmp_path, listing) == tmp_path
    assert memory_group(tmp_path, tmp_path / "no listing") is None


@linux
def test_a_container_has_its_own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    new = group(
        tmp_path, "new", memory__max="1000", memory__current="900",
        memory__stat="anon 5\ninactive_file 300\n",
    )  # fmt: skip
    monkeypatch.setattr(host, "memory_group", lambda: new)
    assert host.memory() == Memory(400, 1000)
    old = group(
        tmp_path, "old", memory__limit_in_bytes=f"{2**63 - 4096}", memory__usage_in_bytes="5",
    )  # fmt: skip
    monkeypatch.setattr(host, "memory_group", lambda: old)
    assert host.memory().total > 1000
    assert number_in(old, "nothing") is None
    assert entry_in(old, "nothing", "key") is None


@linux
def test_a_process_that_is_bound_can_keep_as_many_cores_busy():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    code += "from python_mcp_server.processes.host import usable_cores; print(usable_cores())"
    with python("-c", code, stdout=subprocess.PIPE) as process:
        assert process.communicate()[0] == "1\n"


def test_a_machine_short_of_memory_starts_one_job_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(capacity, "memory", lambda: Memory(80 * MB, 20_000 * MB))
    limits = SlotLimits(8, 500 * MB)
    short = capacity.pressure(limits)
    assert short == "waiting for memory: 80 MB are free, 500 MB must be"
    no_rates = Rates(InMemoryJobStore(), ())
    none, one, eight = (Capacity(limits, QueueRules(), no_rates, running, short) for running in (0, 1, 8))
    assert (none.free_slots, none.full()) == (1, None)
    assert (one.free_slots, one.full()) == (0, "waiting for memory: 80 MB are free, 500 MB must be")
    assert eight.free_slots == 0
    assert "the limit is 8" in (eight.full() or "")
    assert capacity.pressure(SlotLimits(8)) is None
    monkeypatch.setattr(capacity, "memory", lambda: Memory(80 * MB, 500 * MB))
    assert capacity.pressure(limits) is None, "a small machine keeps a tenth free"


def test_a_busy_machine_starts_one_job_at_a_time(monkeypatch: pytest.MonkeyPatch):
    limits, load = SlotLimits(8, most_load=1.5), 6.5
    monkeypatch.setattr(capacity, "load_average", lambda: load)
    monkeypatch.setattr(capacity, "usable_cores", lambda: 4)
    assert (
        capacity.pressure(limits)
        == "waiting for free cores: the load average is 6.5, the limit is 6 on 4 cores"
    )
    assert capacity.pressure(SlotLimits(8)) is None
    load = 6.0
    assert capacity.pressure(limits) is None


def test_a_system_without_a_load_average_checks_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert host.load_average() is None
    assert capacity.pressure(SlotLimits(8, most_load=0.001)) is None


def test_a_large_limit_is_named_in_full():
    assert disk_breach(3 * 10**12, Limits(disk_limit_mb=2_000_000)).sentence.endswith("is 2000000 MB")
