"""The index of principals: what is read for a client, and how the index gets every job and no other."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import StoreError
from python_mcp_server.model import JobState
from python_mcp_server.store.contract import Pruned
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.principals import PrincipalNames
from tests.helpers.records import a_job, record_of, records_opened
from tests.helpers.store_kills import entries

ADA, BOB = "client:ada", "client:bob"
OLD = "http-token:0123456789abcdef"
STATES = (JobState.RUNNING, JobState.COMPLETED, JobState.FAILED)


@pytest.fixture
def store(home: Path) -> Iterator[FileJobStore]:
    made = FileJobStore(home)
    yield made
    made.close()


def created(store: FileJobStore, who: str | None, states: tuple[JobState, ...] = STATES) -> list[str]:
    """Create a job in each of these states; return their ids, newest first."""
    jobs = [replace(a_job(state), principal=who) for state in states]
    for job in jobs:
        store.create(job)
    return sorted((job.id for job in jobs), reverse=True)


def listed(store: FileJobStore, who: str) -> list[str]:
    return [job.id for job in store.list(principal=who)[0]]


def remove_entries(home: Path) -> None:
    """Leave the records as an older version writes them, and what is known of earlier looks."""
    for directory in (home / "jobs" / "principals").iterdir():
        if directory.is_dir():
            shutil.rmtree(directory)


@pytest.mark.parametrize("anew", [False, True])
def test_what_a_client_asks_for_opens_no_record_of_another(
    store: FileJobStore, home: Path, monkeypatch: pytest.MonkeyPatch, anew: bool
):
    for _ in range(20):
        created(store, ADA)
    own = created(store, BOB)
    store.close()
    asked = FileJobStore(home) if anew else store
    opened = records_opened(monkeypatch)
    assert listed(asked, BOB) == own
    for state in JobState:
        assert len(asked.list(state, principal=BOB)[0]) == (state in STATES)
    assert asked.list(principal=BOB, before=own[0])[0][0].id == own[1]
    assert [job.status for job in asked.live(BOB)] == [JobState.RUNNING]
    assert asked.prune(principal=BOB, among=[JobState.FAILED]) == Pruned(1, 2)
    assert set(opened) <= set(own)
    asked.close()


def test_a_job_without_a_principal_has_no_entry(store: FileJobStore, home: Path):
    created(store, None)
    assert [path.name for path in (home / "jobs" / "principals").iterdir()] == ["complete.json"]


def test_an_entry_shows_nobody_the_job_of_another(store: FileJobStore, home: Path):
    (job_id,) = created(store, ADA, (JobState.COMPLETED,))
    own = created(store, BOB)
    for path in (home / "jobs" / "principals").glob("*/"):
        (path / job_id[:3] / job_id[3:5]).mkdir(parents=True, exist_ok=True)
        (path / job_id[:3] / job_id[3:5] / job_id).touch()
    assert listed(store, BOB) == own
    assert {job.id for job in store.live(BOB)} < set(own)
    assert store.prune(lambda _: True, principal=BOB).removed == 2
    assert listed(store, ADA) == [job_id]


def test_an_entry_without_a_record_is_removed_by_a_list(store: FileJobStore, home: Path):
    gone, kept = (created(store, ADA, (JobState.COMPLETED,))[0] for _ in range(2))
    os.unlink(record_of(home, a_job(JobState.COMPLETED, gone)))
    assert (listed(store, ADA), entries(home)) == ([kept], {kept})


def test_an_entry_stays_while_its_record_is_being_written(store: FileJobStore, home: Path):
    job = replace(a_job(), principal=ADA)
    store.create(job)
    record = record_of(home, job)
    with store._locks.hold(store._layout.stripe(job.id)):
        record.rename(record.with_suffix(".new"))
        assert (listed(store, ADA), entries(home)) == ([], {job.id})
        record.with_suffix(".new").rename(record)
    assert listed(store, ADA) == [job.id]


def test_a_prune_removes_entries_and_their_empty_directories(store: FileJobStore, home: Path):
    created(store, ADA, (JobState.COMPLETED, JobState.FAILED))
    (kept,) = created(store, BOB, (JobState.RUNNING,))
    assert store.prune(lambda _: True, principal=ADA) == Pruned(2, 0)
    assert entries(home) == {kept}
    assert len(list((home / "jobs" / "principals").iterdir())) == 2
    store.update(kept, lambda job: job.evolve(status=JobState.FAILED))
    assert store.prune(lambda _: True).removed == 1
    assert [path.name for path in (home / "jobs" / "principals").iterdir()] == ["complete.json"]


def test_a_home_of_an_older_version_is_indexed_by_the_first_list(home: Path, monkeypatch: pytest.MonkeyPatch):
    old = FileJobStore(home)
    own, others = created(old, BOB), [*created(old, ADA), *created(old, None)]
    old.close()
    shutil.rmtree(home / "jobs" / "principals")
    store = FileJobStore(home)
    assert listed(store, BOB) == own
    assert entries(home) == {*own, *others[:3]}
    opened = records_opened(monkeypatch)
    assert listed(store, BOB) == listed(FileJobStore(home), BOB) == own
    assert set(opened) & {*own, *others[:3]} == set(own), "and those that are nobody's"


def test_a_record_that_an_older_server_wrote_is_found_by_the_next_store(store: FileJobStore, home: Path):
    assert listed(store, ADA) == []
    own = created(store, ADA)
    remove_entries(home)
    later = FileJobStore(home)
    assert (listed(later, ADA), entries(home)) == (own, set(own))


def test_a_job_is_indexed_when_this_version_changes_it(store: FileJobStore, home: Path):
    assert listed(store, ADA) == []
    (job_id,) = created(store, ADA, (JobState.RUNNING,))
    remove_entries(home)
    store.update(job_id, lambda job: job.evolve(status=JobState.COMPLETED))
    assert listed(store, ADA) == [job_id]


def test_a_survey_gives_the_index_every_job_and_no_other(store: FileJobStore, home: Path):
    own = created(store, ADA, (JobState.COMPLETED, JobState.FAILED))
    remove_entries(home)
    (gone,) = created(store, BOB, (JobState.FAILED,))
    os.unlink(record_of(home, a_job(JobState.FAILED, gone)))
    assert store.survey().readable == 2
    assert (listed(store, ADA), entries(home)) == (own, set(own))


def test_a_key_that_is_no_file_keeps_no_store_from_opening(home: Path):
    (home / "principal.key").mkdir(parents=True)
    store = FileJobStore(home)
    own = created(store, ADA)
    assert listed(store, ADA) == own


@pytest.mark.parametrize("first", [None, b"k" * 32])
def test_another_key_of_names_has_the_index_made_anew(home: Path, first: bytes | None):
    home.mkdir(parents=True, exist_ok=True)
    key = home / "principal.key"
    if first:
        key.write_bytes(first)
    old = FileJobStore(home)
    own = created(old, f"client:{OLD}")
    assert listed(old, ADA) == []
    old.close()
    key.unlink(missing_ok=True)  # a store that is told a name makes another
    mine = f"client:{PrincipalNames(str(home)).name(OLD)}"
    store = FileJobStore(home)
    assert listed(store, mine) == own
    assert store.prune(lambda _: True, principal=mine) == Pruned(2, 1)


def test_a_list_is_right_where_the_index_cannot_be_written(home: Path, caplog: pytest.LogCaptureFixture):
    old = FileJobStore(home)
    own = created(old, BOB)
    created(old, ADA)
    old.close()
    shutil.rmtree(home / "jobs" / "principals")
    (home / "jobs" / "principals").touch()
    store = FileJobStore(home)
    assert listed(store, BOB) == own
    assert len(store.live(BOB)) == 1
    assert store.prune(lambda _: True, principal=BOB, among=[JobState.CANCELLED]) == Pruned(0, 3)
    assert "looked for among all" in caplog.text


def test_a_damaged_mark_has_all_records_looked_at_again(store: FileJobStore, home: Path):
    own = created(store, ADA)
    future = json.dumps({"key": None, "until_ns": time.time_ns() + 10**15})  # the clock was set back since
    for damage in ("", "{", "[]", '{"key": null}', '{"key": null, "until_ns": "x"}', "[" * 100_000, future):
        remove_entries(home)
        (home / "jobs" / "principals" / "complete.json").write_text(damage)
        assert listed(FileJobStore(home), ADA) == own


@pytest.mark.parametrize("removes", [FileJobStore.remove, lambda store, _: store.prune()])
def test_a_directory_in_the_place_of_an_entry_keeps_no_job(store: FileJobStore, home: Path, removes: Any):
    ended = created(store, ADA, (JobState.COMPLETED, JobState.CANCELLED))[0]
    entry = next((home / "jobs" / "principals").rglob(ended))
    entry.unlink()
    (entry / "below").mkdir(parents=True)
    removes(store, ended)
    assert not entry.exists()
    assert (store.get(ended), os.listdir(home / "jobs" / "trash")) == (None, [])


@pytest.mark.skipif(os.name != "posix", reason="elsewhere an account may not make links")
@pytest.mark.parametrize("above", [1, 2, 3, 4])
def test_no_entry_is_written_or_removed_behind_a_link(
    store: FileJobStore, home: Path, tmp_path: Path, above: int, caplog: pytest.LogCaptureFixture
):
    (ended,) = created(store, ADA, (JobState.COMPLETED,))
    place = next((home / "jobs" / "principals").rglob(ended)).parents[above - 1]
    shutil.move(place, tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a symbolic link, which is not followed"):
        created(store, ADA, (JobState.COMPLETED,))
    assert store.remove(ended)
    assert [path.name for path in (tmp_path / "elsewhere").rglob(ended)] == [ended]
    assert "of a job that is gone stays" in caplog.text


def test_a_list_of_a_client_makes_no_home_that_was_removed(store: FileJobStore, home: Path):
    store.close()
    shutil.rmtree(home)
    assert listed(store, ADA) == []
    assert not home.exists()


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_the_index_is_private_whatever_the_umask(home: Path):
    before = os.umask(0)
    try:
        created(FileJobStore(home), ADA)
    finally:
        os.umask(before)
    found = list((home / "jobs" / "principals").rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o600}
