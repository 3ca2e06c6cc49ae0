"""Jobs whose server is gone: they show what they do, end, and can be cancelled, and nothing stays behind."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import Job, JobProgress, JobState
from python_mcp_server.processes import identify
from python_mcp_server.store.files import FileJobStore
from tests.helpers import eventually, python
from tests.helpers.managers import lines, started_pids
from tests.helpers.stores import store_of, url_in
from tests.helpers.survival import BLOCK_BYTES, CODE, Server, ended, look, server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and sessions are those of POSIX")
QUICK = {"PYTHON_MCP_CANCEL_GRACE_SECONDS": "0.3", "PYTHON_MCP_LOCK_SECONDS": "0.3"}


def output(job_id: str) -> str:
    return JobManager().blocking.output(job_id).text


def reached(job_id: str, home: Path, message: str) -> Job:
    """Return the job once its progress says so."""

    def seen() -> Job | None:
        job = look(home, job_id)
        return job if job.usage and job.progress and job.progress.message == message else None

    return eventually(seen)


def grown(job_id: str, home: Path) -> Job:
    """Return the job once its memory says so."""

    def seen() -> Job | None:
        job = look(home, job_id)
        return job if job.usage and job.usage.rss_bytes > BLOCK_BYTES else None

    return eventually(seen)


def started(folder: Path) -> Path:
    """Wait until the body of this folder has started."""
    eventually(lambda: lines(folder / "starts"))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


def gone(pid: int) -> bool:
    return identify(pid) is None


# ---- it goes on, shows what it does, and ends


def test_an_orphan_shows_progress_memory_and_output_and_ends(folder: Path, home: Path):
    with server(["work", str(folder)]) as killed:
        started(folder)
        killed.kill()
        (job_id,) = killed.ids
        assert reached(job_id, home, "begun").usage
        assert output(job_id) == "before\n"
        (folder / "on").touch()
        assert reached(job_id, home, "grown").progress == JobProgress(2, 3, "grown")
        assert grown(job_id, home).status is JobState.RUNNING
        assert output(job_id) == "before\nbetween\n"
        (folder / "end").touch()
        job = ended(home, job_id)
    assert (job.status, job.result) == (JobState.COMPLETED, {"bytes": BLOCK_BYTES})
    assert output(job_id) == "before\nbetween\nafter\n"


def test_an_orphans_record_is_as_complete_as_one_whose_server_lived(tmp_path: Path, home: Path):
    records: list[Job] = []
    for name in ("alive", "killed"):
        (folder := tmp_path / name).mkdir()
        with server(["work", str(folder)]) as run:
            started(folder)
            if name == "killed":
                run.kill()
            (folder / "on").touch()
            grown(run.ids[0], home)
            (folder / "end").touch()
            eventually(lambda: look(home, run.ids[0]).status.terminal)
            records.append(look(home, run.ids[0]))
            if name == "alive":
                run.leave()
    alive, killed = (job.to_json() for job in records)
    assert [key for key in alive if (alive[key] is None) != (killed[key] is None)] == []
    assert {key: alive[key] for key in ("status", "result", "progress")} == {
        key: killed[key] for key in ("status", "result", "progress")
    }
    assert killed["usage"]["peak_rss_mb"] > BLOCK_BYTES / 1e6
    assert killed["usage"]["cpu_seconds"] > 0
    assert killed["usage"]["source"] == alive["usage"]["source"]
    assert len({output(job.id) for job in records}) == 1


@contextmanager
def killed_group(folder: Path) -> Iterator[str]:
    with server(["work", str(folder)]) as run:
        started(folder)
        run.kill(group=True)
        yield run.ids[0]


@contextmanager
def orderly_end(folder: Path) -> Iterator[str]:
    with server(["work", str(folder)]) as run:
        started(folder)
        run.leave()
        yield run.ids[0]


LEAD = f"import fcntl, os, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); {CODE}"


@contextmanager
def closed_terminal(folder: Path) -> Iterator[str]:
    ours, theirs = pty.openpty()
    with python("-c", LEAD, json.dumps([["work", str(folder)]]), stdin=theirs, stderr=None) as process:
        os.close(theirs)
        run = Server(process)
        started(folder)
        os.close(ours)
        assert process.wait(30) == -signal.SIGHUP
        yield run.ids[0]


ENDS = {
    "its group is killed": killed_group,
    "it leaves": orderly_end,
    "its terminal closes": closed_terminal,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_job_outlives_its_server_however_that_ends(end: str, folder: Path, any_home: Path):
    with ENDS[end](folder) as job_id:
        (folder / "on").touch()
        (folder / "end").touch()
        job = ended(any_home, job_id)
    assert (job.status, job.result, job.error) == (JobState.COMPLETED, {"bytes": BLOCK_BYTES}, None)
    assert job.progress
    assert job.progress.message == "done"
    assert output(job.id) == "before\nbetween\nafter\n"
    assert lines(folder / "starts") == [f"started {job.worker and job.worker.pid}"]
    nothing_left(any_home)


def nothing_left(home: Path) -> None:
    store = store_of(home)
    assert store.live() == ()
    assert list((store.home / "jobs" / "tmp").iterdir()) == []
    eventually(lambda: not list((store.home / "lanes").glob("*/*")))
    store.close()


def test_what_a_job_leaves_running_goes_with_its_orphan_and_cleans_up(folder: Path, home: Path):
    with server(["leave_a_child", str(folder)]) as killed:
        _, child = started_pids(folder / "starts")
        killed.kill(group=True)
        (folder / "end").touch()
        job = ended(home, killed.ids[0])
    assert job.status is JobState.COMPLETED
    eventually(lambda: gone(child))
    if os.path.isdir("/dev/shm"):
        eventually(lambda: not os.path.exists(f"/dev/shm/{job.result}"))
    nothing_left(home)


RESULTS: dict[str, tuple[Callable[[Any], bool], str | None]] = {
    "large": (lambda result: result == "x" * 300_000, None),
    "opaque": (lambda result: result == "<an opaque thing>", "has no form in JSON"),
    "trap": (lambda result: result == "<its text cannot be made: SystemExit>", "is not JSON"),
}


def test_values_of_any_kind_and_size_are_kept_without_a_server(tmp_path: Path, home: Path):
    folders = {kind: tmp_path / kind for kind in RESULTS}
    for folder in folders.values():
        folder.mkdir()
    with server(*[["return_after", str(folder), kind] for kind, folder in folders.items()]) as killed:
        for folder in folders.values():
            started(folder)
        killed.kill()
        for job_id, (kind, folder) in zip(killed.ids, folders.items(), strict=True):
            (folder / "end").touch()
            job = ended(home, job_id)
            fits, note = RESULTS[kind]
            assert job.status is JobState.COMPLETED
            assert fits(job.result)
            assert (note in (job.result_note or "")) if note else job.result_note is None


# ---- cancelled


def test_an_orphan_can_be_cancelled_by_another_process(folder: Path, any_home: Path):
    with server(["family", f"{folder}/starts"]) as killed:
        pids = started_pids(folder / "starts")
        killed.kill()
        job = JobManager().blocking.cancel(killed.ids[0])
    assert job.status is JobState.CANCELLED
    assert [pid for pid in pids if not gone(pid)] == []
    assert look(any_home, job.id) == job
    nothing_left(any_home)


@pytest.mark.parametrize(("body", "grace_s"), [("spin", "25"), ("ignore_sigterm", "0.3")])
def test_an_orphan_ends_when_its_canceller_died_after_the_end_reason(
    body: str, grace_s: str, folder: Path, any_home: Path
):
    with server([body, f"{folder}/starts"], PYTHON_MCP_CANCEL_GRACE_SECONDS=grace_s) as killed:
        (worker,) = started_pids(folder / "starts")
        killed.kill()
        (job_id,) = killed.ids
        store = store_of(any_home)
        store.update(job_id, lambda job: job.evolve(ending="cancelled"))
        eventually(lambda: gone(worker))
    assert lines(folder / "starts")[1:] == (["cleaned up"] if body == "spin" else [])
    assert look(any_home, job_id).status is JobState.CANCELLED
    nothing_left(any_home)


def test_a_cancel_that_races_the_end_of_an_orphan_leaves_one_truth(tmp_path: Path, home: Path):
    folders = [tmp_path / str(number) for number in range(6)]
    for folder in folders:
        folder.mkdir()
    with server(*[["return_after", str(folder), "plain"] for folder in folders], **QUICK) as killed:
        for folder in folders:
            started(folder)
        killed.kill()
        for delay_ms, job_id, folder in zip((0, 2, 5, 9, 14, 20), killed.ids, folders, strict=True):
            (folder / "end").touch()
            time.sleep(delay_ms / 1000)
            told = JobManager().blocking.cancel(job_id)
            job = ended(home, job_id)
            assert job == told
            assert (job.status, job.result) in [(JobState.COMPLETED, "done"), (JobState.CANCELLED, None)]


# ---- trouble with the store


def settled_in(home: Path, job_id: str) -> None:
    """Wait until the orphan writes its record itself, and the other workers are gone."""
    before = look(home, job_id).usage
    eventually(lambda: look(home, job_id).usage != before)
    eventually(lambda: not list((home / "lanes").glob("*/*")))


@contextmanager
def moved(home: Path, _job_id: str) -> Iterator[None]:
    aside = home.with_name("aside")
    home.rename(aside)
    yield
    assert not home.exists()
    aside.rename(home)  # fails if somebody has made it anew


@contextmanager
def no_place_to_write(home: Path, _job_id: str) -> Iterator[None]:
    place, aside = home / "jobs" / "completed", home / "jobs" / "aside"
    place.rename(aside)
    place.touch()
    yield
    place.unlink()
    aside.rename(place)


HOLD = """
import os, signal, sys
from pathlib import Path
from tests.helpers.stores import store_of
def hold(job):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    return job
store_of(Path(sys.argv[1])).update(sys.argv[2], hold)
"""


@contextmanager
def locked(home: Path, job_id: str) -> Iterator[None]:
    with python("-c", HOLD, home, job_id) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.kill()


TROUBLES: dict[str, Any] = {"moved": moved, "no place to write": no_place_to_write, "locked": locked}


@pytest.mark.parametrize("trouble", [*TROUBLES, "moved database", "locked database"])
def test_an_orphans_outcome_waits_for_a_home_that_works_again(
    trouble: str, folder: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = trouble.removesuffix(" database")
    monkeypatch.setenv("PYTHON_MCP_STORE", url_in(home, "file" if name == trouble else "sqlite"))
    with server(["return_after", str(folder), "plain"], **QUICK) as killed:
        started(folder)
        killed.kill()
        (job_id,) = killed.ids
        settled_in(home, job_id)
        with TROUBLES[name](home, job_id):
            (folder / "end").touch()
            eventually(lambda: any("later" in log.read_text() for log in tmp_path.rglob(f"{job_id}/stderr")))
        job = ended(home, job_id)
    assert (job.status, job.result) == (JobState.COMPLETED, "done")
    assert lines(folder / "starts")[1:] == ["ended"]
    nothing_left(home)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, where this user may mount one."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount a small disk")
    (disk := tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@contextmanager
def full(home: Path) -> Iterator[None]:
    with open(home / "filler", "wb", buffering=0) as filler, suppress(OSError):
        while filler.write(b"x" * 4096):
            continue
    yield
    (home / "filler").unlink()


@contextmanager
def read_only(home: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(home), str(home)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(home)], check=True)
    yield
    subprocess.run(["umount", str(home)], check=True)


DISKS: dict[str, Any] = {"full": full, "read-only": read_only}


@pytest.mark.parametrize("state", DISKS)
def test_an_orphans_outcome_waits_for_a_disk_that_works_again(
    state: str, folder: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
):
    home = small_disk / "home"
    monkeypatch.setenv("PYTHON_MCP_HOME", str(home))
    with server(["return_after", str(folder), "plain"], **QUICK) as killed:
        started(folder)
        killed.kill()
        (job_id,) = killed.ids
        settled_in(home, job_id)
        with DISKS[state](home):
            (folder / "end").touch()
            eventually(lambda: lines(folder / "starts")[1:] == ["ended"])
            time.sleep(1.5)  # it tries in vain, and has no place to say so
            assert look(home, job_id).status is JobState.RUNNING
        job = ended(home, job_id)
    assert (job.status, job.result) == (JobState.COMPLETED, "done")
    nothing_left(home)


def test_an_orphan_whose_record_was_removed_ends_its_work_and_leaves(folder: Path, home: Path):
    with server(["return_after", str(folder), "plain"]) as killed:
        started(folder)
        killed.kill()
        (worker,) = started_pids(folder / "starts")
        (record,) = (home / "jobs" / "live").iterdir()
        record.unlink()
        (folder / "end").touch()
        eventually(lambda: gone(worker))
    assert lines(folder / "starts")[1:] == ["ended"]
    assert FileJobStore(home).get(killed.ids[0]) is None


# ---- workers that have nothing to do


STARTING = """
import os, signal, sys
from pathlib import Path
from python_mcp_server.pool.process import WorkerProcess
print(WorkerProcess(Path(sys.argv[1])).pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_is_being_started_leaves_when_its_server_is_killed(tmp_path: Path):
    (tmp_path / "worker").mkdir()
    with python("-c", STARTING, tmp_path / "worker", stderr=None) as killed:
        assert killed.stdout is not None
        worker = int(killed.stdout.readline())
    eventually(lambda: gone(worker))


def test_a_call_without_a_record_leaves_no_file_when_its_server_is_killed(folder: Path, home: Path):
    with server(["call:use_its_folder", str(folder)], PYTHON_MCP_RECORD_AFTER_SECONDS="600") as killed:
        (worker,) = started_pids(folder / "starts")
        killed.kill()
        eventually(lambda: gone(worker))
    assert list((home / "output").rglob("notes")) == []


@pytest.mark.parametrize("group", [False, True])
def test_workers_without_a_kept_job_leave_when_their_server_is_killed(group: bool, folder: Path, home: Path):
    with server(["call:family", f"{folder}/starts"]) as killed:
        pids = started_pids(folder / "starts")
        killed.kill(group=group)
        eventually(lambda: all(map(gone, [killed.idle, *pids])))
        eventually(lambda: not list((home / "lanes").iterdir()))


def test_a_worker_stays_while_its_server_is_stopped(folder: Path):
    with server(["call:return_after", str(folder), "plain"]) as stopped:
        (worker,) = started_pids(folder / "starts")
        os.kill(stopped.process.pid, signal.SIGSTOP)
        eventually(lambda: psutil.Process(stopped.process.pid).status() == psutil.STATUS_STOPPED)
        (folder / "end").touch()
        eventually(lambda: lines(folder / "starts")[1:] == ["ended"])
        assert not gone(worker)
        os.kill(stopped.process.pid, signal.SIGCONT)
        assert json.loads(stopped.line()) == "done"
        assert not gone(worker)
        stopped.leave()


AS_SOON_AS_SENT = """
import asyncio, os, signal
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.pool.protocol import Kind
from python_mcp_server.pool.handle import WorkerHandle
from tests.helpers import survival

send = WorkerHandle._send
def send_and_die(self, writer, frame):
    send(self, writer, frame)
    if frame[4:5] == Kind.CALL:
        os.kill(os.getpid(), signal.SIGKILL)
WorkerHandle._send = send_and_die

async def main():
    async with JobManager() as jobs:
        await jobs.submit_request(Request(survival.return_after, (FOLDER, "plain")))
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_job_whose_server_dies_right_after_the_send_runs_to_its_end(folder: Path, home: Path):
    (folder / "end").touch()
    with python("-c", f"FOLDER = {str(folder)!r}\n{AS_SOON_AS_SENT}") as process:
        assert process.wait(60) == -signal.SIGKILL
    ((job,), _) = FileJobStore(home).list()
    assert ended(home, job.id).result == "done"
    assert lines(folder / "starts")[1:] == ["ended"]
    nothing_left(home)


SLOW_MODULE = """
import os, time
from python_mcp_server.context import in_worker
from python_mcp_server.pool.worker import main as worker

if in_worker():
    worker._UNREAD_S = 0.05
    while os.getppid() == int(os.environ["SERVER"]):
        time.sleep(0.01)
    time.sleep(20 * worker._UNREAD_S)
"""
PRELOADED = """
    jobs = JobManager()
    (await jobs._engine()).pool.preload("slow_module")
    async with jobs:
"""


def test_a_call_behind_an_import_when_its_server_dies_runs_to_its_end(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "end").touch()
    (folder / "slow_module.py").write_text(SLOW_MODULE)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    program = AS_SOON_AS_SENT.replace("    async with JobManager() as jobs:\n", PRELOADED)
    head = f"import os; os.environ['SERVER'] = str(os.getpid()); FOLDER = {str(folder)!r}"
    with python("-c", f"{head}\n{program}") as process:
        assert process.wait(60) == -signal.SIGKILL
    ((job,), _) = FileJobStore(home).list()
    assert ended(home, job.id).result == "done"
    nothing_left(home)
