"""Identity, trees and their end, with real processes of every awkward kind."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes import (
    JOB_VARIABLE,
    WORKER_VARIABLE,
    boot_id,
    find_tree,
    identify,
    is_alive,
    kill_tree,
    send_signal,
)
from python_mcp_server.processes import identity as identity_module
from python_mcp_server.processes import kill as kill_module
from python_mcp_server.processes.tree import TreeScan
from tests.helpers import environment, eventually, python, run_python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the families are forked")
FAMILY = Path(__file__).parents[2] / "helpers" / "family.py"
KINDS = ["plain", "session", "orphan", "daemon", "deaf", "stopped"]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux says more about a process")


@dataclass(frozen=True)
class Family:
    root: subprocess.Popen[str]
    identities: dict[str, ProcessIdentity]
    job_id: str

    @property
    def pids(self) -> set[int]:
        """Everybody but the root."""
        return {one.pid for kind, one in self.identities.items() if kind != "root"}


@contextmanager
def family(*kinds: str) -> Iterator[Family]:
    """Start a root with these children, wait until all stand, and end whoever is left."""
    job_id = uuid.uuid4().hex
    expected = len(kinds) + 1 + kinds.count("session") - kinds.count("adopt")
    env = environment(**{JOB_VARIABLE: job_id})
    with python(FAMILY, *kinds, env=env, start_new_session=True) as root:
        try:
            assert root.stdout is not None
            lines = [root.stdout.readline().split() for _ in range(expected)]
            identities = {kind: _identity(int(pid), kind) for kind, pid in lines}
            yield Family(root, identities, job_id)
        finally:
            kill_tree(root.pid, job_id=job_id)


def _identity(pid: int, kind: str) -> ProcessIdentity:
    identity = identify(pid)
    return (
        ProcessIdentity(pid, 0)
        if identity is None and kind in ("hydra", "nomads", "guards")
        else _given(identity)
    )


def _given(identity: ProcessIdentity | None) -> ProcessIdentity:
    assert identity is not None
    return identity


@contextmanager
def waiting_child() -> Iterator[subprocess.Popen[str]]:
    """A process that lives until the end of the block."""
    with python("-c", "print(flush=True); input()") as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def test_a_tree_has_all_descendants_without_the_root() -> None:
    with family(*KINDS) as found:
        members = {process.pid for process in find_tree(found.root.pid, found.job_id)}
        assert members == found.pids


def test_a_process_with_the_worker_id_of_a_dead_root_is_of_its_tree() -> None:
    worker = uuid.uuid4().hex
    with waiting_child() as root:
        dead = replace(_given(identify(root.pid)), worker_id=worker)
    env = environment(**{WORKER_VARIABLE: worker})
    with python("-c", "print(flush=True); input()", env=env, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert [process.pid for process in find_tree(ProcessIdentity.from_json(dead.to_json()))] == [
            child.pid
        ]
        assert kill_tree(dead, with_root=False) == []
        assert child.wait(30) == -signal.SIGKILL


def test_without_a_job_id_all_but_a_daemon_are_found() -> None:
    with family(*KINDS) as found:
        members = {process.pid for process in find_tree(found.root.pid)}
        daemon = found.identities["daemon"].pid
        assert members - {daemon} == found.pids - {daemon}


def test_children_come_after_their_parents() -> None:
    with family("session") as found:
        order = [process.pid for process in find_tree(found.root.pid)]
        kinds = found.identities
        assert order.index(kinds["session"].pid) < order.index(kinds["session-child"].pid)


@pytest.mark.parametrize("kind", KINDS)
def test_killing_a_tree_leaves_no_process(kind: str) -> None:
    with family(kind) as found:
        assert kill_tree(found.root.pid, job_id=found.job_id, wait_s=30) == []
        assert [kind for kind, one in found.identities.items() if is_alive(one)] == []
        assert found.root.wait(30) == -signal.SIGKILL


RESTLESS = [["hydra"] * 2, ["nomads"] * 4, ["phoenix"] * 2, ["guards"] * 3]
UNREAPED = ["adopt", *["nomads"] * 4]  # the dead stay where they are, as under an init that is slow


@pytest.mark.parametrize("kinds", [*RESTLESS, pytest.param(UNREAPED, marks=linux_only)])
def test_a_tree_that_forks_while_it_is_killed_ends_too(kinds: list[str]) -> None:
    hunt = "from python_mcp_server.processes import kill_tree; import sys\n"
    hunt += "print(kill_tree(int(sys.argv[1]), job_id=sys.argv[2], wait_s=30))"
    with family(*kinds) as found:
        # In a process of its own: under the tracer of coverage the hunter is slower than its prey.
        ended = run_python("-c", hunt, str(found.root.pid), found.job_id)
        assert (ended.stdout, ended.stderr) == ("[]\n", "")
        search = TreeScan(found.identities["root"], found.job_id)
        assert [member for _ in range(30) for member in search.look().members] == []


@linux_only
def test_a_daemon_without_an_environment_is_found_below_its_subreaper() -> None:
    with family("adopt", "hidden") as found:
        assert kill_tree(found.root.pid, job_id=found.job_id, wait_s=30) == []
        assert not is_alive(found.identities["hidden"])


def test_no_process_is_killed_before_all_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    send = vars(kill_module)["send_signal"]

    def note(identity: ProcessIdentity, number: int) -> bool:
        sent.append((identity.pid, number))
        return send(identity, number)

    with family("session", "deaf") as found:
        monkeypatch.setattr(kill_module, "send_signal", note)
        kill_tree(found.root.pid, job_id=found.job_id, wait_s=30)
    numbers = [number for _, number in sent]
    assert numbers == sorted(numbers, key=lambda number: number == signal.SIGKILL)
    everybody = found.pids | {found.root.pid}
    assert {pid for pid, number in sent if number == signal.SIGSTOP} == everybody
    assert {pid for pid, number in sent if number == signal.SIGKILL} == everybody


def test_a_root_that_is_alone_is_never_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = vars(kill_module)["send_signal"]
    monkeypatch.setattr(
        kill_module, "send_signal", lambda one, number: sent.append(number) or send(one, number)
    )
    with waiting_child() as child:
        assert kill_tree(child.pid, wait_s=30) == []
    assert set(sent) == {signal.SIGKILL}


def test_a_script_goes_no_step_further_when_its_child_is_killed(tmp_path: Path) -> None:
    next_step = tmp_path / "next step"
    code = f"""
import os, time
if os.fork() == 0:
    print(flush=True)
    time.sleep(60)
os.wait()
os.close(os.open({str(next_step)!r}, os.O_CREAT))
"""
    with python("-c", code, start_new_session=True) as script:
        assert script.stdout is not None
        script.stdout.readline()
        assert kill_tree(script.pid, wait_s=30) == []
    assert not next_step.exists()


@linux_only
def test_a_failed_kill_leaves_no_process_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def fail(search: TreeScan) -> Any:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise OSError(errno.EIO, "the second look fails")
        return look(search)

    look = TreeScan.look
    with family("plain", "session") as found:
        with monkeypatch.context() as patch:
            patch.setattr(TreeScan, "look", fail)
            with pytest.raises(OSError, match="the second look fails"):
                kill_tree(found.root.pid, job_id=found.job_id)
        eventually(lambda: not any(is_alive(one) for one in found.identities.values()))


def test_a_kill_of_descendants_spares_the_root() -> None:
    with family(*KINDS) as found:
        assert kill_tree(found.root.pid, job_id=found.job_id, with_root=False, wait_s=30) == []
        living = [kind for kind, one in found.identities.items() if is_alive(one)]
        assert living == ["root"]


def test_what_a_dead_root_left_is_found_by_its_job() -> None:
    with family("session", "orphan", "daemon") as found:
        identity = found.identities["root"]
        found.root.kill()
        found.root.wait(30)
        assert kill_tree(identity, job_id=found.job_id, wait_s=30) == []
        assert [kind for kind, one in found.identities.items() if is_alive(one)] == []


def test_a_neighbour_with_another_job_is_not_touched() -> None:
    with family("plain", "daemon") as doomed, family("plain", "daemon") as neighbour:
        kill_tree(doomed.root.pid, job_id=doomed.job_id, wait_s=30)
        assert all(is_alive(one) for one in neighbour.identities.values())


def test_a_process_with_the_pid_of_a_dead_root_is_not_touched() -> None:
    with family("plain", "session") as found:
        former = replace(found.identities["root"], start_ticks=1)
        assert kill_tree(former, wait_s=30) == []
        assert find_tree(former) == []
        assert all(is_alive(one) for one in found.identities.values())


@pytest.mark.parametrize("change", [{"boot_id": "another"}, {"pid_namespace": "pid:[1]"}])
def test_a_process_of_another_boot_or_namespace_is_not_found(change: dict[str, str]) -> None:
    with family("plain") as found:
        root = identify(found.root.pid)
        assert root is not None
        assert kill_tree(replace(root, **change), with_root=False) == []
        assert is_alive(found.identities["plain"])


def test_a_killer_with_the_pid_of_a_dead_root_keeps_its_children() -> None:
    me = identify(os.getpid())
    assert me is not None
    with family("plain") as found:
        assert kill_tree(replace(me, start_ticks=me.start_ticks - 1), with_root=False) == []
        assert is_alive(found.identities["plain"])


def test_a_look_does_not_find_the_looker_itself() -> None:
    assert os.getpid() not in {one.pid for one in TreeScan(os.getppid()).look().members}


def test_the_same_process_has_the_same_identity_every_time() -> None:
    assert identify(os.getpid()) == identify(os.getpid())
    assert is_alive(_given(identify(os.getpid())))


@linux_only
def test_every_process_sees_the_same_boot() -> None:
    with python("-c", "from python_mcp_server.processes import boot_id; print(boot_id())") as child:
        assert child.communicate(timeout=60)[0].strip() == boot_id()


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}, {"pid_namespace": "pid:[1]"}])
def test_a_pid_alone_is_no_identity(change: dict[str, object]) -> None:
    with waiting_child() as child:
        identity = _given(identify(child.pid))
        stranger = replace(identity, **change)
        assert is_alive(identity)
        assert not is_alive(stranger)
        assert not send_signal(stranger, signal.SIGKILL)
        assert is_alive(identity)


@linux_only
def test_the_pidfd_of_a_signal_is_opened_before_the_process_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    def in_order(module: Any, name: str) -> None:
        original = getattr(module, name)

        def noted(*args: Any) -> Any:
            done.append(name)
            return original(*args)

        monkeypatch.setattr(module, name, noted)

    with waiting_child() as child:
        meant = _given(identify(child.pid))
        in_order(os, "pidfd_open")
        in_order(identity_module, "is_alive")
        in_order(signal, "pidfd_send_signal")
        monkeypatch.delattr(os, "kill")
        assert send_signal(meant, signal.SIGTERM)
        monkeypatch.undo()
        assert done == ["pidfd_open", "is_alive", "pidfd_send_signal"]


LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@linux_only
@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="only root says which pid comes next")
def test_a_pid_reused_between_look_and_signal_is_not_signalled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ExitStack() as stack:
        meant = stack.enter_context(waiting_child())
        former, look = _given(identify(meant.pid)), identity_module.is_alive
        heirs: list[subprocess.Popen[str]] = []

        def replaced_after_the_look(one: ProcessIdentity) -> bool:
            seen = look(one)
            meant.kill()
            meant.wait(30)
            for _ in range(200):  # others start processes too
                LAST_PID.write_text(str(one.pid - 1))
                heirs.append(stack.enter_context(waiting_child()))
                if heirs[-1].pid == one.pid:
                    break
                heirs[-1].kill()
            return seen

        monkeypatch.setattr(identity_module, "is_alive", replaced_after_the_look)
        assert not send_signal(former, signal.SIGKILL)
        if heirs[-1].pid != former.pid:
            pytest.skip("the pid was not to be had again")
        assert heirs[-1].poll() is None


def test_a_signal_reaches_the_process_that_is_meant() -> None:
    with waiting_child() as child:
        assert send_signal(_given(identify(child.pid)), signal.SIGTERM)
        assert child.wait(30) == -signal.SIGTERM


def test_a_dead_process_has_no_identity_before_and_after_it_is_reaped() -> None:
    with waiting_child() as child:
        identity = _given(identify(child.pid))
        child.kill()
        eventually(lambda: not is_alive(identity))
        assert identify(child.pid) is None
        child.wait(30)
        assert identify(child.pid) is None
        assert not send_signal(identity, signal.SIGTERM)


def test_a_name_full_of_parentheses_hides_nothing(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 (x) Z"
    program.symlink_to("/bin/sh")
    with subprocess.Popen([program, "-c", "read x"], stdin=subprocess.PIPE) as child:
        assert child.pid in {process.pid for process in find_tree(os.getpid())}
        child.kill()


EXIT_CALLS = {"x86_64": 60, "aarch64": 93}
WITHOUT_FIRST_THREAD = """
import ctypes, sys, threading
def rest():
    threading.main_thread()
    while open("/proc/self/stat").read().rpartition(")")[2].split()[0] != "Z":
        pass
    print("first thread is gone", flush=True)
    sys.stdin.readline()
threading.Thread(target=rest).start()
ctypes.CDLL(None).syscall(int(sys.argv[1]), 0)
"""


@linux_only
@pytest.mark.skipif(platform.machine() not in EXIT_CALLS, reason="the number of the call is not known")
def test_a_process_without_its_first_thread_can_be_killed() -> None:
    with python("-c", WITHOUT_FIRST_THREAD, str(EXIT_CALLS[platform.machine()])) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "first thread is gone\n"
        identity = _given(identify(child.pid))
        assert kill_tree(child.pid, wait_s=30) == []
        assert not is_alive(identity)


@linux_only
def test_a_shortage_of_descriptors_only_delays_the_end_of_a_tree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = 0

    def short(path: str, *args: int) -> int:
        nonlocal refused
        if refused < 20:
            refused += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, *args)

    opened = os.open
    with family("plain") as found:
        monkeypatch.setattr(os, "open", short)
        assert kill_tree(found.identities["root"], job_id=found.job_id) == []
        assert refused == 20
        assert not any(is_alive(one) for one in found.identities.values())


@linux_only
def test_a_lasting_shortage_of_descriptors_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with waiting_child() as child:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", short)
            with pytest.raises(OSError, match="Too many open files"):
                kill_tree(child.pid, wait_s=0.01)
        assert kill_tree(child.pid) == []


@linux_only
def test_an_unreadable_process_is_no_member(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(path: str, *args: int) -> int:
        if path.startswith("/proc/") and path != f"/proc/{child.pid}/stat":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, *args)

    opened = os.open
    with waiting_child() as child:
        monkeypatch.setattr(os, "open", hidden)
        assert identify(os.getpid()) is None
        assert TreeScan(child.pid).look()[:2] == ([], True)
