"""What only the store in a database has: its file, its connections, its errors."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from python_mcp_server.errors import StoreError, StoreLocked
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.sqlite import SqliteJobStore

posix = pytest.mark.skipif(os.name != "posix", reason="modes and forks are POSIX")


@pytest.fixture
def path(home: Path) -> Path:
    return home / "jobs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteJobStore]:
    made = SqliteJobStore(path)
    yield made
    made.close()


def a_job(status: JobState = JobState.RUNNING, **fields: object) -> Job:
    return replace(Job(new_job_id(), "label", status, utc_now()), **fields)  # type: ignore[arg-type]


def created(store: SqliteJobStore, status: JobState = JobState.RUNNING, **fields: object) -> Job:
    store.create(job := a_job(status, **fields))
    return job


def altered(path: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(path) as db:
        db.execute(statement, values)
    db.close()


@posix
def test_all_files_of_a_store_are_private_whatever_the_umask(path: Path):
    former = os.umask(0)
    try:
        store = SqliteJobStore(path)
        created(store, JobState.COMPLETED, result="x" * 100_000)
        found = [path, *path.parent.rglob("*")]
        assert {f"{path.name}-wal", f"{path.name}-shm"} <= {each.name for each in found}
        open_to_others = [str(each) for each in found if stat.S_IMODE(each.stat().st_mode) & 0o077]
        assert open_to_others == []
        store.close()
    finally:
        os.umask(former)


@posix
def test_a_database_that_others_may_write_is_refused(store: SqliteJobStore, path: Path):
    store.close()
    path.chmod(0o666)
    with pytest.raises(StoreError, match="chmod 600"):
        SqliteJobStore(path)


@pytest.mark.parametrize("fsync", [False, True])
def test_fsync_decides_what_a_loss_of_power_costs(path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool):
    levels: list[int] = []
    store = SqliteJobStore(path, fsync=fsync)
    with store._database.reading("look") as db:
        levels = [
            db.execute("PRAGMA synchronous").fetchone()[0],
            db.execute("PRAGMA journal_mode").fetchone()[0],
        ]
    assert levels == [2 if fsync else 1, "wal"]
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "record = x'7b'",
        "record = 'text'",
        "record = x''",
        "record = 5",
        "status = 'odd'",
        "status = 'completed'",
    ],
)
def test_a_damaged_row_is_set_aside_and_costs_only_itself(
    store: SqliteJobStore, path: Path, caplog: pytest.LogCaptureFixture, damage: str
):
    whole, spoilt, other = created(store), created(store), created(store)
    altered(path, f"UPDATE jobs SET {damage} WHERE id IN (?, ?)", spoilt.id, other.id)
    assert store.get(spoilt.id) is None
    assert [job.id for job in store.list()[0]] == [whole.id]
    assert len(store.damaged()) == 2
    assert caplog.text.count("Set aside") == 2
    survey = store.survey()
    assert (survey.readable, survey.left) == (1, [])


def test_an_update_of_a_damaged_row_finds_no_job(store: SqliteJobStore, path: Path):
    spoilt = created(store)
    altered(path, "UPDATE jobs SET record = x'00' WHERE id = ?", spoilt.id)
    with pytest.raises(LookupError, match=spoilt.id):
        store.update(spoilt.id, lambda job: job)
    assert len(store.damaged()) == 1


def test_a_record_of_a_newer_version_is_left_and_counted(store: SqliteJobStore, path: Path):
    job = created(store)
    altered(path, "UPDATE jobs SET record = replace(record, '\"format\":1', '\"format\":99')")
    altered(path, "UPDATE jobs SET record = CAST(record AS BLOB)")
    with pytest.raises(StoreError, match="upgrade"):
        store.get(job.id)
    assert store.list() == ([], False)
    assert store.survey().left == [f"{path} ({job.id})"]


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_database_is_refused_with_what_to_do(path: Path, content: bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StoreError, match=r"move it away|\.recover"):
        SqliteJobStore(path)
    assert path.read_bytes() == content


def test_damaged_pages_are_refused_by_a_survey_with_what_to_do(store: SqliteJobStore, path: Path):
    for _ in range(200):
        created(store)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + os.urandom(len(whole) - 8192))
    with pytest.raises(StoreError, match=r"\.recover"):
        SqliteJobStore(path).survey()


def test_a_database_of_another_program_is_left_as_it_is(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    altered(path, "CREATE TABLE theirs (a)")
    path.chmod(0o600)
    with pytest.raises(StoreError, match="belongs to another program"):
        SqliteJobStore(path)


def test_a_database_of_a_newer_version_is_not_opened(store: SqliteJobStore, path: Path):
    store.close()
    altered(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="format 99"):
        SqliteJobStore(path)


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_what_is_no_file_is_refused(path: Path, tmp_path: Path, kind: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="not a regular file"):
        SqliteJobStore(path)


def test_a_database_that_stays_locked_is_named(store: SqliteJobStore, path: Path):
    hasty, job = SqliteJobStore(path, lock_s=0.05), created(store)
    with store._database.writing("hold"), pytest.raises(StoreLocked, match=r"jobs.db locked for 0.05 s"):
        hasty.update(job.id, lambda job: job.evolve(status=JobState.CANCELLED))
    assert hasty.get(job.id) == job
    hasty.close()


def test_a_database_that_was_removed_is_made_again_at_the_next_write(store: SqliteJobStore, path: Path):
    created(store)
    for name in ("", "-wal", "-shm"):
        Path(f"{path}{name}").unlink()
    job = created(store)
    assert store.list()[0] == [job]
    beside = SqliteJobStore(path)
    assert beside.get(job.id) == job
    beside.close()


def test_a_large_result_lies_in_a_file_and_its_loss_is_named(store: SqliteJobStore):
    job = created(store, JobState.COMPLETED, result="x" * 100_000)
    (store.folder(job.id) / "result.json").write_text('"cut')
    found = store.get(job.id)
    assert found is not None
    assert (found.result, found.result_note) == (
        None,
        "result of 100002 bytes is damaged (4 bytes are there)",
    )


def test_every_look_goes_by_an_index(store: SqliteJobStore):
    plans: list[str] = []
    with store._database.reading("look") as db:
        db.set_trace_callback(plans.append)
    store.list(JobState.FAILED, 5)
    store.list(None, 5, "ada")
    store.list(None, 5, before=new_job_id())
    store.live()
    store.indexed("ready.default", 5, "1")
    store.prune(among=[JobState.FAILED], ended_before=utc_now())
    with store._database.reading("look") as db:
        db.set_trace_callback(None)
        asked = [text for text in plans if text.startswith("SELECT id") and "FROM jobs" in text]
        steps = [row[3] for text in asked for row in db.execute(f"EXPLAIN QUERY PLAN {text}")]
    assert len(asked) == 6
    assert [step for step in steps if step.startswith("SCAN") and "jobs_live" not in step] == []


@posix
def test_a_forked_child_uses_connections_of_its_own(store: SqliteJobStore):
    job = created(store)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert store._database._connections._idle == []  # else SQLite takes the parent's locks for ours
            store.update(job.id, lambda job: job.evolve(message="of the child"))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    found = store.update(job.id, lambda job: job.evolve(label="of the parent"))
    assert (found.label, found.message) == ("of the parent", "of the child")


@posix
def test_a_child_forked_during_a_transaction_refuses_the_database(store: SqliteJobStore):
    job, inside, done = created(store), threading.Event(), threading.Event()

    def change(job: Job) -> Job:
        inside.set()
        done.wait(60)
        return job.evolve(message="of the parent")

    writer = threading.Thread(target=store.update, args=(job.id, change))
    writer.start()
    assert inside.wait(60)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for use in (lambda: store.get(job.id), lambda: SqliteJobStore(store.path)):
                with pytest.raises(StoreError, match="forked"):
                    use()
            code = 0
        finally:
            os._exit(code)
    done.set()
    writer.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    found = store.get(job.id)
    assert found is not None
    assert found.message == "of the parent"


def test_a_bounded_survey_of_rows_reads_the_oldest_and_newest(store: SqliteJobStore, path: Path):
    jobs = sorted((created(store) for _ in range(60)), key=lambda job: job.id)
    altered(path, "UPDATE jobs SET record = x'7b' WHERE id IN (?, ?, ?)", *[jobs[n].id for n in (0, 30, 59)])
    survey = store.survey(10)
    assert (survey.readable, len(survey.damaged), survey.complete) == (18, 2, False)
