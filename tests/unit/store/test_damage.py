"""Files that are damaged, cut, of another version or forbidden: each costs only itself and is counted."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import filelock  # noqa: F401  somebody else may not be allowed to import it
import pytest

from python_mcp_server.atomic import remove_tree
from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job, JobState, new_job_id
from python_mcp_server.store import layout, records
from python_mcp_server.store import listing as public
from python_mcp_server.store.contract import Pruned
from python_mcp_server.store.files import FileJobStore
from tests.helpers.records import a_job, record_of, replace
from tests.helpers.waiting import eventually

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def store(home: Path) -> Iterator[FileJobStore]:
    made = FileJobStore(home)
    yield made
    made.close()


def created(store: FileJobStore, status: JobState = JobState.RUNNING, job_id: str = "") -> Job:
    job = a_job(status, job_id)
    store.create(job)
    return job


def as_somebody_else(work: Callable[[Path], None]) -> None:
    """Do this in a home of an account that may not read everything: root may."""
    directory = Path(tempfile.mkdtemp(prefix="store-forbidden-"))
    pid = 0
    try:
        if not ROOT:
            work(directory / "home")
            return
        shutil.chown(directory, 65534)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setuid(65534)
                work(directory / "home")
                code = 0
            except BaseException:  # noqa: BLE001  the parent sees the exit code
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        for folder, names, _ in os.walk(directory):
            for name in names:
                os.chmod(os.path.join(folder, name), 0o700)
        shutil.rmtree(directory)


def forbidden_records(home: Path) -> None:
    store = FileJobStore(home)
    bad, done, good = created(store), created(store, JobState.FAILED), created(store)
    for job in (bad, done):
        record_of(home, job).chmod(0)
    assert store.list() == ([good], False)
    assert store.get(bad.id) is None
    survey = store.survey()
    assert (survey.readable, survey.left, len(survey.damaged)) == (1, [], 2)
    store.close()


def forbidden_directories(home: Path) -> None:
    store = FileJobStore(home)
    hidden, good = (
        created(store, JobState.COMPLETED),
        a_job(job_id=new_job_id(datetime(2001, 1, 1, tzinfo=UTC))),
    )  # lies elsewhere
    store.create(good)
    top = next((home / "jobs" / "completed").iterdir())
    top.chmod(0)
    assert store.list() == ([good], False)
    assert store.prune(lambda _: True).removed == 0
    with pytest.raises(StoreError, match=r"make .* writable"):
        store.get(hidden.id)
    assert store.survey().left == [str(top)]
    top.chmod(0o700)
    assert store.get(hidden.id) == hidden
    store.close()


def forbidden_results(home: Path) -> None:
    store = FileJobStore(home)
    job = created(store)
    store.update(job.id, lambda old: old.evolve(status=JobState.COMPLETED, result="x" * 100_000))
    (store.folder(job.id) / "result.json").chmod(0)
    found = store.get(job.id)
    assert found is not None
    assert (found.status, found.result) == (JobState.COMPLETED, None)
    assert "unreadable (Permission denied)" in (found.result_note or "")
    store.close()


def forbidden_places(home: Path) -> None:
    store = FileJobStore(home)
    bad = created(store)
    record_of(home, bad).chmod(0)
    (home / "jobs" / "live").chmod(0o500)
    assert store.list() == ([], False)
    assert store.survey().left == [str(record_of(home, bad))]
    store.close()


def read_only_files(home: Path) -> None:
    store = FileJobStore(home)
    jobs = [created(store, JobState.COMPLETED) for _ in range(3)]
    below = store.folder(jobs[1].id) / "cache" / "package"
    below.mkdir(parents=True)
    (below / "file").touch()
    for directory in (below, below.parent, below.parent.parent):
        directory.chmod(0o500)
    assert store.prune(lambda _: True) == Pruned(3, 0)
    assert not store.folder(jobs[1].id).exists()
    store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs modes and fork")
def test_a_prune_removes_what_a_program_has_made_read_only():
    as_somebody_else(read_only_files)


def test_files_that_cannot_be_removed_keep_no_other_job(
    store: FileJobStore, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    jobs = [created(store, JobState.COMPLETED) for _ in range(3)]
    for job in jobs:
        store.folder(job.id).mkdir(parents=True)
    stuck = str(store.folder(jobs[1].id))

    def remove(path: str) -> None:
        if path == stuck:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        remove_tree(path)

    monkeypatch.setattr(records, "remove_tree", remove)
    assert store.prune(lambda _: True) == Pruned(3, 0)
    trash = home / "jobs" / "trash"
    (trash / f"{jobs[0].id}.json").touch()  # a killed process left it
    FileJobStore(home).close()
    assert [path.stem for path in trash.iterdir()] == [jobs[1].id]
    assert f"The files of job {jobs[1].id} stay" in caplog.text
    monkeypatch.undo()
    FileJobStore(home).close()
    assert not Path(stuck).exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs modes and fork")
@pytest.mark.parametrize(
    "work", [forbidden_records, forbidden_directories, forbidden_results, forbidden_places]
)
def test_what_may_not_be_read_costs_only_itself_and_is_counted(work: Callable[[Path], None]):
    as_somebody_else(work)


def test_records_of_a_newer_version_are_left_and_counted(store: FileJobStore, home: Path):
    newer, good = created(store), created(store)
    path = record_of(home, newer)
    replace(path, json.dumps(json.loads(path.read_text()) | {"format": 99}).encode())
    survey = store.survey()
    assert (survey.readable, survey.left, survey.damaged) == (1, [str(path)], [])
    assert store.list() == ([good], False)


def test_a_survey_finds_damage_that_no_listing_reached(store: FileJobStore, home: Path):
    jobs = [created(store, JobState.COMPLETED) for _ in range(60)]
    replace(record_of(home, min(jobs, key=lambda job: job.id)), b"{")
    survey = store.survey()
    assert (survey.readable, survey.left, len(survey.damaged)) == (59, [], 1)


def test_a_bounded_survey_finds_damage_among_the_oldest_and_newest(store: FileJobStore, home: Path):
    jobs = sorted((created(store, JobState.COMPLETED) for _ in range(60)), key=lambda job: job.id)
    for number in (0, 30, 59):
        replace(record_of(home, jobs[number]), b"{")
    survey = store.survey(10)
    assert (survey.readable, len(survey.damaged), survey.complete) == (18, 2, False)


@pytest.mark.parametrize("kept", [0, 10, 100_001])
def test_a_large_result_that_was_cut_or_padded_is_named_in_the_note(store: FileJobStore, kept: int):
    job = created(store)
    store.update(job.id, lambda old: old.evolve(status=JobState.COMPLETED, result="7" * 100_000))
    (store.folder(job.id) / "result.json").write_bytes(b"7" * kept)
    found = store.get(job.id)
    assert found is not None
    assert found.result is None
    assert f"is damaged ({kept} bytes are there)" in (found.result_note or "")


def test_a_damaged_note_in_a_lock_does_no_harm(store: FileJobStore, home: Path):
    for path in (home / "jobs" / "locks").iterdir():
        path.write_bytes(b"\0nobody knows")
    job = created(store)
    assert store.get(job.id) == job


def test_a_directory_that_cannot_be_read_costs_only_what_is_in_it(
    store: FileJobStore, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    hidden, good = created(store, JobState.COMPLETED), created(store)
    listdir = os.listdir
    bad = str(record_of(home, hidden).parent)

    def refuse(path: str) -> list[str]:
        if path == bad:
            raise OSError(errno.EIO, "Input/output error", path)
        return listdir(path)

    monkeypatch.setattr(f"{layout.__name__}.os.listdir", refuse)
    assert store.list() == ([good], False)
    assert bad in caplog.text


def test_a_prune_looks_at_the_states_it_was_told_and_counts_the_rest(store: FileJobStore):
    jobs = [created(store, state) for state in JobState]
    asked: list[JobState] = []
    pruned = store.prune(lambda job: not asked.append(job.status), among=[JobState.FAILED, JobState.RUNNING])
    assert asked == [JobState.FAILED]
    assert (pruned.removed, pruned.remaining) == (1, len(jobs) - 1)


def test_a_long_prune_does_not_block_others(home: Path):
    store = FileJobStore(home, lock_s=0)
    for _ in range(70):  # more than there are locks
        created(store, JobState.CANCELLED)
    running = created(store)
    beside = FileJobStore(home, lock_s=30)
    steps: list[str] = []

    def should_go(_: Job) -> bool:
        thread = threading.Thread(
            target=lambda: steps.append(beside.update(running.id, lambda job: job.evolve(label="x")).label)
        )
        thread.start()
        thread.join()
        return True

    assert store.prune(should_go).removed == 70
    assert steps == ["x"] * 70
    beside.close()
    store.close()


def test_a_slow_public_list_is_written_less_often(store: FileJobStore, monkeypatch: pytest.MonkeyPatch):
    spent = iter([0.0, 0.5])
    fake = SimpleNamespace(**vars(time))
    fake.thread_time = lambda: next(spent, 0.0)
    monkeypatch.setattr(public, "time", fake)
    created(store)
    store.close()
    assert store._public._period_s == 10.0
    created(store)
    due_s = store._public._due_in()
    assert due_s is not None
    assert due_s > 5


def test_the_public_list_reads_live_and_newest_jobs_only(
    store: FileJobStore, monkeypatch: pytest.MonkeyPatch
):
    for _ in range(150):
        created(store, JobState.COMPLETED)
    live = created(store)
    store.close()
    read: list[str] = []
    real = store._records.read

    def note(key: str, tree: str, *, locked: bool = False):
        read.append(key)
        return real(key, tree, locked=locked)

    monkeypatch.setattr(store._records, "read", note)
    store._public.touch()
    eventually(lambda: len(set(read)) >= 101)
    store.close()
    assert len(set(read)) <= 102
    assert live.id in read
