"""The file store alone: where things lie, and what it makes of files that are not its own."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server import atomic
from python_mcp_server.errors import StoreError, StoreLocked
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.contract import Pruned
from python_mcp_server.store.files import FileJobStore
from tests.helpers.records import a_job, record_of, records_opened, replace
from tests.helpers.waiting import eventually


@pytest.fixture
def store(home: Path) -> Iterator[FileJobStore]:
    made = FileJobStore(home)
    yield made
    made.close()


def end(job: Job) -> Job:
    return job.evolve(status=JobState.COMPLETED, completed_at=utc_now())


def test_another_store_of_the_same_home_sees_every_write_at_once(store: FileJobStore, home: Path):
    other, job = FileJobStore(home), a_job()
    store.create(job)
    assert other.get(job.id) == job
    done = other.update(job.id, end)
    assert store.get(job.id) == done
    assert store.list() == ([done], False)
    other.close()


def test_everything_is_private_whatever_the_umask(home: Path):
    before = os.umask(0)
    try:
        store = FileJobStore(home)
        live, done = a_job(), a_job()
        store.create(live)
        store.create(done)
        store.update(done.id, lambda job: end(job).evolve(result="x" * 100_000))
        store.close()
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*") if path.is_file()}
    directories = {stat.S_IMODE(path.stat().st_mode) for path in [home, *home.rglob("*")] if path.is_dir()}
    assert (modes, directories) == ({0o600}, {0o700})


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_a_home_that_was_there_keeps_its_mode(tmp_path: Path):
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "shared").chmod(0o755)
    FileJobStore(tmp_path / "shared").close()
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "shared" / "jobs").stat().st_mode) == 0o700


@pytest.mark.parametrize("status", [JobState.RUNNING, JobState.COMPLETED])
@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b'{"format":1}', b"\xff\xfe", b"[" * 100_000, b'{"format":1,"id":5}', None],
)
def test_a_damaged_record_is_set_aside_with_a_warning(
    store: FileJobStore, home: Path, caplog: pytest.LogCaptureFixture, status: JobState, damage: bytes | None
):
    bad, good = a_job(status), a_job(status)
    for job in (bad, good):
        store.create(job)
    path = record_of(home, bad)
    replace(path, path.read_bytes()[:100] if damage is None else damage)
    assert store.list() == ([good], False)
    assert store.get(bad.id) is None
    assert not path.exists()
    (moved,) = store.damaged()
    assert moved.name.startswith(path.name)
    eventually(lambda: str(path) in caplog.text)  # the thread of meta/jobs.json may have met it first
    assert str(moved) in caplog.text


def test_a_record_under_a_foreign_name_is_set_aside(store: FileJobStore, home: Path):
    job = a_job()
    store.create(job)
    path = record_of(home, job)
    replace(path.with_name(new_job_id() + ".json"), path.read_bytes())
    path.with_name("notes.json").write_text("{}")
    path.with_name("directory.json").mkdir()
    assert store.list() == ([job], False)
    assert len(store.damaged()) == 3


def test_a_finished_record_among_the_live_is_set_aside(store: FileJobStore, home: Path):
    job = a_job(JobState.COMPLETED)
    store.create(job)
    record_of(home, job).rename(home / "jobs" / "live" / f"{job.id}.json")
    assert store.get(job.id) is None
    assert len(store.damaged()) == 1


def test_a_record_of_a_newer_version_is_left_alone_and_named(
    store: FileJobStore, home: Path, caplog: pytest.LogCaptureFixture
):
    job = a_job()
    store.create(job)
    path = record_of(home, job)
    replace(path, json.dumps(json.loads(path.read_text()) | {"format": 99}).encode())
    for ask in (lambda: store.get(job.id), lambda: store.update(job.id, end), lambda: store.create(job)):
        with pytest.raises(StoreError, match="99"):
            ask()
    assert store.list() == ([], False)
    assert "99" in caplog.text
    assert path.exists()
    assert store.damaged() == []


def test_a_home_of_a_newer_version_is_not_opened(store: FileJobStore, home: Path):
    (home / "jobs" / "format.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="99"):
        FileJobStore(home)


def test_a_job_that_is_both_live_and_final_is_final_and_listed_once(store: FileJobStore, home: Path):
    job = a_job()
    store.create(job)
    live = home / "jobs" / "live" / f"{job.id}.json"
    left = live.read_bytes()
    done = store.update(job.id, end)
    replace(live, left)
    assert store.get(job.id) == done
    assert store.list() == ([done], False)
    assert store.list(JobState.RUNNING) == ([], False)
    assert store.update(job.id, lambda _: pytest.fail("called")) == done
    assert not live.exists()
    replace(live, left)
    FileJobStore(home).close()
    assert not live.exists()
    replace(live, left)
    assert store.prune(lambda _: True).removed == 1
    assert store.get(job.id) is None


@pytest.mark.parametrize("ask", ["get", "list"])
def test_a_job_that_ends_while_it_is_read_is_found_where_it_went(
    store: FileJobStore, home: Path, monkeypatch: pytest.MonkeyPatch, ask: str
):
    job = a_job()
    store.create(job)
    other, read, done = FileJobStore(home), store._records.read, []

    def read_late(key: str, tree: str, *, locked: bool = False):
        mine = threading.current_thread() is threading.main_thread()  # the public list is read beside
        if tree == "live" and mine and not done:
            done.append(other.update(job.id, end))
        return read(key, tree, locked=locked)

    monkeypatch.setattr(store._records, "read", read_late)
    found = store.get(job.id) if ask == "get" else store.list()[0][0]
    assert [found] == done
    other.close()


def test_opening_removes_what_dead_writers_left(store: FileJobStore, home: Path):
    tmp = home / "jobs" / "tmp"
    kept, old, dead = tmp / f"{os.getpid()}-a.tmp", tmp / f"{os.getpid()}-b.tmp", tmp / f"{2**22 + 1}-c.tmp"
    for path in (kept, old, dead):
        path.write_text("half")
    os.utime(old, (1, 1))
    FileJobStore(home).close()
    assert list(tmp.iterdir()) == [kept]


def test_opening_finishes_a_removal(store: FileJobStore, home: Path):
    job = a_job(JobState.COMPLETED)
    store.create(job)
    store.folder(job.id).mkdir(parents=True)
    record_of(home, job).rename(home / "jobs" / "trash" / f"{job.id}.json")
    assert store.get(job.id) is None
    FileJobStore(home).close()
    assert not store.folder(job.id).exists()
    assert list((home / "jobs" / "trash").iterdir()) == []


def test_a_page_reads_nothing_that_is_newer(home: Path, monkeypatch: pytest.MonkeyPatch):
    now, store = utc_now(), FileJobStore(home)
    ids = [new_job_id(now - timedelta(seconds=number)) for number in range(40)]
    for number, job_id in enumerate(ids):
        store.create(a_job((JobState.RUNNING, JobState.COMPLETED, JobState.FAILED)[number % 3], job_id))
    read = records_opened(monkeypatch)
    assert [job.id for job in store.list(limit=5, before=ids[29])[0]] == ids[30:35]
    assert set(read) <= set(ids[30:36])
    store.close()


def test_pruning_leaves_no_empty_directory_of_times(store: FileJobStore, home: Path):
    store.create(a_job(JobState.FAILED))
    store.prune(lambda _: True)
    assert list((home / "jobs" / "failed").iterdir()) == []


@pytest.mark.parametrize(("content", "word"), [(None, "gone"), (b"{", "damaged")])
def test_a_large_result_that_was_lost_is_named_in_the_note(
    store: FileJobStore, content: bytes | None, word: str
):
    job = a_job()
    store.create(job)
    store.update(job.id, lambda old: end(old).evolve(result="x" * 100_000))
    result = store.folder(job.id) / "result.json"
    result.write_bytes(content) if content else result.unlink()
    found = store.get(job.id)
    assert found is not None
    assert found.result is None
    assert word in (found.result_note or "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_an_error_of_the_disk_is_a_sentence_and_leaves_the_record_whole(
    store: FileJobStore, home: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    job = a_job()
    store.create(job)
    store.close()  # the list for people is written through the same calls

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), str(home / "jobs"))

    monkeypatch.setattr(f"{atomic.__name__}.os.replace", fail)
    with pytest.raises(StoreError, match=rf"write job {job.id}: .*{home}"):
        store.update(job.id, end)
    monkeypatch.undo()
    assert store.get(job.id) == job
    assert list((home / "jobs" / "tmp").iterdir()) == []
    store.update(job.id, end)


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=f"{tmp_path}/file/home"):
        FileJobStore(tmp_path / "file" / "home")


def test_a_store_opens_on_a_full_disk_and_is_written_when_there_is_room(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(home))

    monkeypatch.setattr(f"{atomic.__name__}.os.mkdir", full)
    store, job = FileJobStore(home), a_job()
    assert f"free space on the disk of {home}" in caplog.text
    assert (store.get(job.id), store.list(), store.live()) == (None, ([], False), ())
    with pytest.raises(StoreError, match="free space"):
        store.create(job)
    monkeypatch.undo()
    store.create(job)
    assert FileJobStore(home).get(job.id) == job
    store.close()


def test_fsync_reaches_the_record_and_its_directory(home: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[str] = []
    real = os.fsync
    link = "/proc/self/fd"
    if not os.path.isdir(link):
        pytest.skip("needs /proc to see what was synced")

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"{link}/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    store = FileJobStore(home, fsync=True)
    synced.clear()
    job = a_job()
    store.create(job)
    assert str(home / "jobs" / "live") in synced
    assert any(path.startswith(str(home / "jobs" / "tmp")) for path in synced)
    store.close()


def test_a_lock_that_stays_taken_names_its_holder(store: FileJobStore, home: Path):
    hasty, job = FileJobStore(home, lock_s=0.05), a_job()
    store.create(job)

    def too_long(old: Job) -> Job:
        with pytest.raises(StoreLocked, match=str(os.getpid())):
            hasty.update(job.id, end)
        assert hasty.get(job.id) == job
        return end(old)

    store.update(job.id, too_long)
    hasty.close()


def test_the_public_list_has_live_and_recent_jobs_as_tools_show_them(home: Path):
    store = FileJobStore(home)
    live = a_job(job_id=new_job_id(utc_now() - timedelta(days=1)))
    store.create(live)
    for _ in range(101):
        store.create(a_job(JobState.COMPLETED))
    big = end(a_job(job_id=new_job_id(utc_now() + timedelta(days=1)))).evolve(result="x" * 10_000)
    store.create(big)
    store.close()
    listed = json.loads((home / "meta" / "jobs.json").read_text())
    assert len(listed) == 101
    assert listed[0]["id"] == big.id
    assert (listed[0]["result"], "left out" in listed[0]["result_note"]) == (None, True)
    assert listed[-1] == live.to_json()


def test_the_public_list_follows_without_close(store: FileJobStore, home: Path):
    job = a_job()
    store.create(job)
    path = home / "meta" / "jobs.json"
    eventually(lambda: path.exists() and job.id in path.read_text())
    store.update(job.id, end)
    eventually(lambda: '"completed"' in path.read_text())


def test_opening_removes_old_logs_of_workers_whose_server_was_killed(home: Path):
    workers = home / "lanes"
    FileJobStore(home).close()
    for name in ("999999999-gone-1", "999999998-young-1", f"{os.getpid()}-mine-1"):
        (workers / name).mkdir(parents=True)
        (workers / name / "stdout").write_text("left")
        if "young" not in name:
            os.utime(workers / name, (0, 0))
    FileJobStore(home).close()
    assert sorted(path.name for path in workers.iterdir()) == sorted(
        ["999999998-young-1", f"{os.getpid()}-mine-1"]
    )


def test_a_prune_removes_what_killed_calls_without_a_record_left(home: Path):
    store, young, old, live, ended, spoilt = (FileJobStore(home), *(a_job() for _ in range(5)))
    for job in (live, end(ended), spoilt):
        store.create(job)
    for job in (young, old, live, ended, spoilt):
        store.folder(job.id).mkdir(parents=True)
        if job is not young:
            os.utime(store.folder(job.id), (0, 0))
    (home / "jobs" / "live" / f"{spoilt.id}.json").write_text("{")
    assert (store.get(spoilt.id), len(store.damaged())) == (None, 1)
    assert store.prune(lambda _: False) == Pruned(0, 2)
    kept = [job for job in (young, old, live, ended, spoilt) if store.folder(job.id).exists()]
    assert kept == [young, live, ended, spoilt]


def test_the_folders_of_output_are_looked_at_once_a_day(store: FileJobStore, home: Path):
    store.prune()
    left = store.folder(new_job_id())
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    store.prune()
    assert left.exists()
    os.utime(home / "jobs" / "swept", (0, 0))
    store.prune()
    assert not left.exists()


def counted(store: FileJobStore) -> int:
    return store.prune(among=[]).remaining


def settle(home: Path) -> None:
    """Let all that was written be old enough for its count to be remembered."""
    for directory in (home / "jobs").glob("*/???/??"):
        os.utime(directory, (1e9, 1e9))


def test_a_count_is_right_after_every_kind_of_change(store: FileJobStore, home: Path):
    other = FileJobStore(home)
    done, running, damaged = a_job(JobState.FAILED), a_job(), a_job(JobState.FAILED)
    for job in (done, running, damaged):
        store.create(job)
    settle(home)
    assert (counted(store), counted(other)) == (3, 3)
    other.update(running.id, end)
    assert counted(store) == 3
    settle(home)
    assert counted(store) == 3
    store.create(a_job(JobState.FAILED, new_job_id(done.created_at)))
    assert counted(store) == 4
    settle(home)
    assert counted(store) == 4
    replace(record_of(home, damaged), b"{")
    assert other.get(damaged.id) is None
    assert counted(store) == 3
    settle(home)
    assert (other.prune(lambda job: job.id == done.id), counted(store)) == (Pruned(1, 2), 2)
    other.close()


@pytest.mark.parametrize("depth", [4, 5])
def test_a_directory_that_cannot_be_listed_now_is_counted_later(
    store: FileJobStore, home: Path, monkeypatch: pytest.MonkeyPatch, depth: int
):
    store.create(a_job(JobState.FAILED))
    settle(home)
    listed, refused = os.listdir, list[str]()

    def refuse(path: str) -> list[str]:
        if f"{home}/jobs/failed/" in str(path) and path.count("/") == str(home).count("/") + depth:
            refused.append(path)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return listed(path)

    with monkeypatch.context() as short:
        short.setattr(os, "listdir", refuse)
        counted(store)
    assert (len(refused), counted(store)) == (1, 1)


def test_a_prune_lists_and_reads_only_what_it_may_remove(
    store: FileJobStore, home: Path, monkeypatch: pytest.MonkeyPatch
):
    now = utc_now()
    for hours in range(1, 100):
        store.create(end(a_job(JobState.RUNNING, new_job_id(now - timedelta(hours=hours)))))
    old = end(a_job(JobState.RUNNING, new_job_id(now - timedelta(days=100)))).evolve(
        completed_at=now - timedelta(days=90)
    )
    store.create(old)
    store.close()
    settle(home)
    counted(store)
    read, listed = store._records.read, os.listdir
    seen: list[str] = []

    def note(job_id: str, tree: str, *, locked: bool = False):
        if threading.current_thread() is threading.main_thread():
            seen.append(job_id)
        return read(job_id, tree, locked=locked)

    def note_listing(path: str) -> list[str]:
        if f"{home}/jobs/completed/" in str(path) and path.count("/") == str(home).count("/") + 5:
            seen.append(path)
        return listed(path)

    monkeypatch.setattr(store._records, "read", note)
    monkeypatch.setattr(os, "listdir", note_listing)
    assert store.prune(ended_before=now - timedelta(days=80)) == Pruned(1, 99)
    assert {path.rpartition("/")[0] for path in seen if "/" in path} <= {
        f"{home}/jobs/completed/{old.id[:3]}/{old.id[3:5]}"
    }
    assert {job_id for job_id in seen if "/" not in job_id} == {old.id}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"completed/0/0": [0, 1e999]}',
        b'{"a": 1}',
        b'{"completed/0/0": ["x", "y"]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_of_counts_costs_nothing(store: FileJobStore, home: Path, content: bytes):
    store.create(a_job(JobState.FAILED))
    (home / "jobs" / "counts.json").write_bytes(content)
    assert counted(store) == 1


def test_a_record_is_written_while_a_prune_removes_its_directories(
    store: FileJobStore, home: Path, monkeypatch: pytest.MonkeyPatch
):
    job, mkdir, taken = a_job(), os.mkdir, list[str]()
    store.create(job)

    def mkdir_too_late(path: str, *args: Any, **options: Any) -> None:
        if "completed" in path and not taken:
            taken.append(path)
            os.rmdir(os.path.dirname(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(os, "mkdir", mkdir_too_late)
    store.update(job.id, end)
    assert taken
    assert (found := store.get(job.id)) is not None
    assert found.status is JobState.COMPLETED


def test_a_directory_that_gets_a_file_while_being_removed_still_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "job"
    folder.mkdir()
    rmdir, late = os.rmdir, [folder / "stdout.lines"]

    def rmdir_too_late(*args: Any, **options: Any) -> None:
        while late:
            late.pop().touch()
        rmdir(*args, **options)

    monkeypatch.setattr(os, "rmdir", rmdir_too_late)
    atomic.remove_tree(str(folder))
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="makes directories by descriptors")
@pytest.mark.parametrize("files", [1024, 100])
def test_a_directory_of_any_depth_is_removed(tmp_path: Path, files: int):
    """`shutil.rmtree` takes a frame and a descriptor for each level."""
    import resource

    (tmp_path / "outside" / "kept").mkdir(parents=True)
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        os.symlink(tmp_path / "outside", "link", dir_fd=here)
    os.close(here)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))
    try:
        atomic.remove_tree(str(tmp_path / "deep"))
        assert not (tmp_path / "deep").exists()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        subprocess.run(("rm", "-rf", tmp_path / "deep"), check=True)  # else pytest fails to remove it
    assert (tmp_path / "outside" / "kept").exists()


def test_a_job_that_could_not_be_written_whole_is_not_there(home: Path, monkeypatch: pytest.MonkeyPatch):
    """With fsync, a record is in its place before its directory is known to be on the disk."""
    store = FileJobStore(home, fsync=True)

    def fail(_path: str) -> None:
        raise OSError(5, "Input/output error")

    job = a_job()
    with monkeypatch.context() as broken:
        broken.setattr(atomic, "sync_directory", fail)
        with pytest.raises(StoreError, match="Input/output error"):
            store.create(job)
    assert (store.get(job.id), store.live()) == (None, ())
    store.create(job)
    assert store.get(job.id) is not None


def test_a_public_list_without_a_thread_is_written_at_the_close(home: Path, monkeypatch: pytest.MonkeyPatch):
    store = FileJobStore(home)

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", start)
        store.create(job := a_job())
        store.flush()
    assert job.id in (home / "meta" / "jobs.json").read_text()
