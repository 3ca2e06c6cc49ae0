"""Which store a setting names, and what a worker opens it by."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.settings import Settings
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.memory import InMemoryJobStore
from python_mcp_server.store.opening import (
    StorePlace,
    has_live_jobs,
    is_gone,
    open_locator,
    open_place,
    open_store,
    parse_place,
    place_of,
)
from python_mcp_server.store.sqlite import SqliteJobStore
from tests.helpers.stores import SHARED, url_in


def settings(home: Path, store: str = "", **fields: str) -> Settings:
    return Settings.from_environ({"PYTHON_MCP_STORE": store, **fields}, home=home)


@pytest.mark.parametrize(
    ("url", "kind", "place"),
    [
        ("", FileJobStore, "home"),
        (" ", FileJobStore, "home"),
        ("file://{}/other place", FileJobStore, "other place"),
        ("sqlite://{}/a/jobs.db", SqliteJobStore, "a/jobs.db-files"),
    ],
)
def test_a_setting_names_the_store(tmp_path: Path, url: str, kind: type, place: str):
    given = settings(tmp_path / "home", url.format(tmp_path), PYTHON_MCP_FSYNC="true")
    store = open_store(given)
    assert (type(store), store.home, store.fsync) == (kind, tmp_path / place, True)
    store.close()


def test_a_store_in_memory_has_no_locator(home: Path):
    store = open_store(settings(home, "memory://"))
    assert isinstance(store, InMemoryJobStore)
    assert store.locator() is None
    assert not home.exists()
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "jobs.db", "/jobs.db", "sqlite://jobs.db", "sqlite://", "sqlite:///", "file://here", "memory", "memory://x",
        "mysql://:sesame@host/0", "SQLITE:///x", "://", "sqlite:/x", "x" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_store_is_refused_in_a_sentence(home: Path, url: str):
    with pytest.raises(
        InvalidInput, match=r"PYTHON_MCP_STORE .* must be file:///directory, sqlite:///"
    ) as told:
        open_store(settings(home, url))
    assert len(str(told.value)) < 400
    assert "sesame" not in str(told.value)


def test_a_path_may_begin_with_the_home_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert parse_place("sqlite:///~/x/jobs.db", "x").path == tmp_path / "x" / "jobs.db"


def test_a_place_is_read_back_from_its_text(tmp_path: Path):
    for kind in ("file", "sqlite"):
        place = StorePlace(kind, tmp_path / "a b")
        assert parse_place(str(place), "it") == place
    assert str(place_of(settings(tmp_path, "memory://"))) == "memory://"


def place_for(home: Path, kind: str) -> StorePlace:
    if kind == "redis":
        return parse_place(url_in(home, kind), "it", home / "place")
    return StorePlace(kind, home / "place")


@pytest.mark.parametrize("kind", SHARED)
def test_a_locator_opens_the_same_store_until_that_is_removed(home: Path, kind: str):
    store = open_place(place_for(home, kind), lock_s=3, fsync=True)
    store.create(job := Job(new_job_id(), "label", JobState.RUNNING, utc_now()))
    locator = store.locator()
    assert locator is not None
    other = open_locator(locator)
    assert (type(other), other.home, other.get(job.id), other.fsync) == (type(store), store.home, job, True)
    assert other.locator() == locator
    store.close()
    other.close()
    assert not is_gone(locator)
    shutil.rmtree(home)
    with pytest.raises(StoreError, match="no store at"):
        open_locator(locator)
    assert (is_gone(locator), home.exists()) == (True, False)


@pytest.mark.parametrize("kind", SHARED)
def test_a_look_for_live_jobs_makes_no_store(home: Path, kind: str):
    given = settings(home, place_for(home, kind).setting)
    assert not has_live_jobs(given)
    assert not (home / "place").exists()
    store = open_store(given)
    store.create(Job(new_job_id(), "label", JobState.COMPLETED, utc_now()))
    assert not has_live_jobs(given)
    store.create(Job(new_job_id(), "label", JobState.PENDING, utc_now()))
    store.close()
    assert has_live_jobs(given)


def test_a_home_that_is_named_outranks_the_setting(home: Path, monkeypatch: pytest.MonkeyPatch):
    from python_mcp_server.functions import initialize_state

    monkeypatch.setenv("PYTHON_MCP_STORE", "memory://")
    assert initialize_state(home).persistence_dir == home
    assert initialize_state().persistence_dir != Path(os.environ["PYTHON_MCP_HOME"])
