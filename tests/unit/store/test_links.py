"""A symbolic link in the place of a directory of the home leads no read, write or removal out of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from python_mcp_server.context import JobContext
from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job, JobState
from python_mcp_server.pool.worker.streams import remove_logs
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.layout import Layout
from tests.helpers.records import a_job, record_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere an account may not make links")
LARGE = "x" * 100_000


@pytest.fixture
def store(home: Path) -> Iterator[FileJobStore]:
    made = FileJobStore(home)
    yield made
    made.close()


def ended(store: FileJobStore) -> Job:
    """Make a job with a record, a result in a file of its own, and output; return it."""
    job = a_job(JobState.COMPLETED).evolve(result=LARGE, completed_at=datetime(2020, 1, 1, tzinfo=UTC))
    store.create(job)
    (store.folder(job.id) / "stdout").write_text("out")
    return job


def moved_away(directory: Path, elsewhere: Path) -> None:
    """Put a link in the place of a directory of the home."""
    shutil.move(directory, elsewhere)
    directory.symlink_to(elsewhere)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("above", [1, 2, 3])
def test_a_record_behind_a_link_is_neither_read_nor_removed(
    store: FileJobStore, home: Path, tmp_path: Path, above: int
):
    job, other = ended(store), a_job(JobState.FAILED)
    store.create(other)
    moved_away(record_of(home, job).parents[above - 1], elsewhere := tmp_path / "elsewhere")
    before = files_in(elsewhere)
    with pytest.raises(StoreError, match="is a symbolic link, which is not followed; put a directory there"):
        store.get(job.id)
    assert store.list() == ([other], False)
    assert store.prune(lambda _: True).removed == 1
    with pytest.raises(StoreError, match="symbolic link"):
        store.create(job)
    assert store.survey().readable == 0
    FileJobStore(home).close()
    assert files_in(elsewhere) == before


def test_a_damaged_record_behind_a_link_stays_there(store: FileJobStore, home: Path, tmp_path: Path):
    record = record_of(home, ended(store))
    store.flush()  # its list reads records too
    record.write_text("{")
    moved_away(record.parent, tmp_path / "elsewhere")
    assert store.list() == ([], False)
    assert [path.name for path in files_in(tmp_path / "elsewhere")] == [record.name]


def test_output_behind_a_link_is_neither_read_written_nor_removed(
    store: FileJobStore, home: Path, tmp_path: Path
):
    job, other = ended(store), ended(store)
    moved_away(store.folder(job.id).parent, elsewhere := tmp_path / "elsewhere")
    before = files_in(elsewhere)
    note = store.get(job.id)
    assert note is not None
    assert "is a symbolic link" in (note.result_note or "")
    for use in (store.folder, store.discard_folder):
        with pytest.raises(StoreError, match="is a symbolic link"):
            use(job.id)
    with pytest.raises(StoreError, match="is a symbolic link"):
        _ = JobContext(job.id, "", store.folder_text(job.id), lambda _: None).folder
    pruned = store.prune(lambda _: True)
    assert (pruned.removed, pruned.remaining) == (1, 1)
    assert store.get(other.id) is None
    assert files_in(elsewhere) == before


def test_a_sweep_removes_nothing_behind_a_link(store: FileJobStore, home: Path, tmp_path: Path):
    stray, behind = a_job().id, a_job().id
    for job_id in (stray, behind):
        folder = store.folder(job_id)
        folder.mkdir(parents=True)
        (folder / "stdout").write_text("out")
        os.utime(folder, (0, 0))
    moved_away(home / "output" / Path(store.folder_text(behind)).parent.name, tmp_path / "elsewhere")
    store.prune(lambda _: False)
    assert not Path(store.folder_text(stray)).exists()
    assert [path.name for path in files_in(tmp_path / "elsewhere")] == ["stdout"]


@pytest.mark.parametrize("name", ["jobs", "jobs/live", "jobs/completed", "jobs/tmp", "output", "lanes"])
def test_a_home_whose_directories_lie_elsewhere_is_not_opened(
    store: FileJobStore, home: Path, tmp_path: Path, name: str
):
    ended(store)
    store.close()
    moved_away(home / name, elsewhere := tmp_path / "elsewhere")
    (elsewhere / "999999-x.tmp").write_text("old")
    os.utime(elsewhere / "999999-x.tmp", (0, 0))
    before = files_in(elsewhere)
    with pytest.raises(StoreError, match=f"{home / name} is a symbolic link, which is not followed"):
        FileJobStore(home)
    assert files_in(elsewhere) == before


def test_the_home_itself_may_be_a_link(tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "home").symlink_to("there")
    store = FileJobStore(tmp_path / "home")
    job = ended(store)
    assert store.get(job.id) == job
    assert store.prune(lambda _: True).removed == 1
    store.close()


def test_the_logs_of_a_worker_behind_a_link_stay(tmp_path: Path):
    layout = Layout(str(tmp_path / "home"))
    (tmp_path / "elsewhere" / "1-a").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    Path(layout.worker_logs).symlink_to(tmp_path / "elsewhere")
    remove_logs(f"{layout.worker_logs}/1-a")
    assert (tmp_path / "elsewhere" / "1-a").is_dir()
