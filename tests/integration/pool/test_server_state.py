"""A body sees the server's environment, `sys.path` and working directory as they are at its call."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from python_mcp_server import processes
from tests.helpers import bodies, run
from tests.helpers.managers import LONG_S, call, manager

if TYPE_CHECKING:
    import pytest

NAME = "PYTHON_MCP_TEST_REGION"
PLUGIN = "import os\ndef where(): return os.path.dirname(__file__)\n"


def environ() -> dict[str, str]:
    return dict(os.environ)


def test_variables_that_change_are_seen_by_every_worker(monkeypatch: pytest.MonkeyPatch):
    async def main() -> None:
        async with manager() as made:

            async def regions() -> list[Any]:
                return await asyncio.gather(*(call(made, os.getenv, NAME) for _ in range(3)))

            assert await regions() == [None] * 3
            monkeypatch.setenv(NAME, "Ærø")
            assert await regions() == ["Ærø"] * 3
            monkeypatch.delenv(NAME)
            assert await regions() == [None] * 3

    run(main())


async def test_a_mapping_in_the_place_of_the_environment_is_seen_too(monkeypatch: pytest.MonkeyPatch):
    async with manager() as made:
        monkeypatch.setattr(os, "environ", {**os.environ, NAME: "put there"})
        assert await call(made, os.getenv, NAME) == "put there"
        monkeypatch.setitem(os.environ, NAME, "changed")
        assert await call(made, os.getenv, NAME) == "changed"
        monkeypatch.undo()
        assert await call(made, os.getenv, NAME) is None


def test_a_variable_set_by_an_imported_module_does_not_hide_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = "module_that_sets_a_variable"
    (tmp_path / f"{name}.py").write_text(
        f"import os\nos.environ['{NAME}'] = 'as loaded'\ndef look(): return os.environ['{NAME}']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(NAME, "before")  # so that it is undone

    async def main() -> None:
        async with manager() as made:
            look = importlib.import_module(name).look
            monkeypatch.setenv(NAME, "set later")
            assert await call(made, look) == "set later"

    try:
        run(main())
    finally:
        sys.modules.pop(name, None)


async def test_what_belongs_to_a_worker_stays_its_own(monkeypatch: pytest.MonkeyPatch):
    async with manager(spare_workers=0) as made:
        before = await call(made, environ)
        for name in (processes.WORKER_VARIABLE, processes.JOB_VARIABLE):
            monkeypatch.setenv(name, "the server's")
        after = await call(made, environ)
        assert after[processes.WORKER_VARIABLE] == before[processes.WORKER_VARIABLE]
        assert after[processes.JOB_VARIABLE] not in ("the server's", before[processes.JOB_VARIABLE])


async def test_a_working_directory_is_that_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path)

    async with manager(spare_workers=0) as made:
        assert await call(made, os.getcwd) == str(tmp_path)
        monkeypatch.chdir(tmp_path / "inside")
        assert await call(made, os.getcwd) == str(tmp_path / "inside")
        await call(made, lambda: os.chdir("/"))
        assert await call(made, os.getcwd) == str(tmp_path / "inside")


async def test_a_call_that_waits_for_its_worker_keeps_the_state_of_its_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with manager(max_workers=1, spare_workers=0) as made:
        first = asyncio.create_task(
            call(made, bodies.count_and_wait, str(tmp_path / "starts"), str(tmp_path / "gate"))
        )
        monkeypatch.setenv(NAME, "then")
        second = asyncio.create_task(call(made, os.getenv, NAME))
        await asyncio.sleep(0)  # both are under way
        monkeypatch.setenv(NAME, "now")
        (tmp_path / "gate").touch()
        await first
        assert (await second, await call(made, os.getenv, NAME)) == ("then", "now")


def test_a_folder_added_to_the_search_path_is_searched_by_workers_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = "plugin_of_two_folders"
    for folder in (tmp_path / "old", tmp_path / "new"):
        folder.mkdir()
        (folder / f"{name}.py").write_text(PLUGIN)

    async def main() -> None:
        async with manager() as made:
            await call(made, os.getpid)
            found: list[str] = []
            for folder in (tmp_path / "old", tmp_path / "new"):
                monkeypatch.syspath_prepend(folder)
                sys.modules.pop(name, None)
                found.append(await call(made, importlib.import_module(name).where))
            assert found == [str(tmp_path / "old"), str(tmp_path / "new")]
            monkeypatch.undo()
            assert await call(made, sys.modules[name].where) == str(tmp_path / "new")

    try:
        run(main())
    finally:
        sys.modules.pop(name, None)


async def test_a_background_job_sees_the_state_of_its_call_too(monkeypatch: pytest.MonkeyPatch):
    from python_mcp_server.jobs.request import Request

    async with manager() as made:
        await call(made, os.getpid)
        monkeypatch.setenv(NAME, "at the call")
        job = await made.submit_request(Request(os.getenv, (NAME,)))
        monkeypatch.delenv(NAME)
        ended, _ = await made.wait(job.id, LONG_S)
        assert ended.result == "at the call"
