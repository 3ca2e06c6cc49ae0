"""The names of principals: they tell no token, and the older names are those of the same principals."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from python_mcp_server.errors import StoreError
from python_mcp_server.model import JobState
from python_mcp_server.store import principals
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.principals import PrincipalNames
from tests.helpers.programs import python
from tests.helpers.records import a_job

MAKE = """
import sys
from python_mcp_server.store.principals import PrincipalNames
names = PrincipalNames(sys.argv[1])
sys.stdin.readline()
print(names.name(sys.argv[2]))
"""
OLD = "http-token:0123456789abcdef"


def test_a_name_is_the_same_in_one_home_and_another_in_another(tmp_path: Path):
    names = {PrincipalNames(str(tmp_path / home)).name(OLD) for home in ("one", "one", "two")}
    assert len(names) == 2
    assert not any("0123456789abcdef" in name for name in names)
    assert stat.S_IMODE((tmp_path / "one" / "principal.key").stat().st_mode) == 0o600


def test_a_job_of_an_older_version_belongs_to_the_same_principal(home: Path):
    store = FileJobStore(home)
    states = (JobState.RUNNING, JobState.COMPLETED)
    jobs = [replace(a_job(state), principal=f"client:{OLD}") for state in states]
    other = replace(a_job(), principal="client:http-token:fedcba9876543210")
    for job in (*jobs, other):
        store.create(job)
    mine = f"client:{PrincipalNames(str(home)).name(OLD)}"
    assert {job.id for job in store.list(principal=mine)[0]} == {job.id for job in jobs}
    assert store.get(jobs[0].id) == replace(jobs[0], principal=mine)
    store.close()


def test_a_key_that_is_none_is_not_replaced(tmp_path: Path):
    (tmp_path / "principal.key").write_bytes(b"short")
    with pytest.raises(StoreError, match="remove it"):
        PrincipalNames(str(tmp_path)).name(OLD)
    assert PrincipalNames(str(tmp_path)).present(f"client:{OLD}") == f"client:{OLD}"


def test_a_key_without_content_is_one_that_was_never_made(tmp_path: Path):
    (tmp_path / "principal.key").touch()
    assert PrincipalNames(str(tmp_path)).name(OLD) == PrincipalNames(str(tmp_path)).name(OLD)


def test_many_processes_that_make_the_key_at_once_make_one(tmp_path: Path):
    with ExitStack() as started:
        makers = [started.enter_context(python("-c", MAKE, tmp_path / "home", OLD)) for _ in range(8)]
        names = {maker.communicate("go\n", timeout=60)[0] for maker in makers}
    assert names == {PrincipalNames(str(tmp_path / "home")).name(OLD) + "\n"}


def test_a_key_that_could_not_be_written_names_no_principal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = PrincipalNames(str(tmp_path))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(principals, "write_file", full)
        for _ in range(2):
            with pytest.raises(StoreError, match="free space"):
                names.name(OLD)
    assert names.name(OLD) == PrincipalNames(str(tmp_path)).name(OLD)
