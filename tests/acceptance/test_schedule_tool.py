"""`py_schedule` over real stdio: tools that run later, again and again, or after another job."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.over_http import client_of, over_http, port_of
from tests.acceptance.shared import Shared, shared
from tests.acceptance.support import connected, data, serving
from tests.helpers import eventually, run
from tests.helpers.command_line import command
from tests.helpers.managers import lines

if TYPE_CHECKING:
    from mcp import Client

GROUPS = {"PYTHON_MCP_TOOLS": "scripts,schedules"}
SCRIPT = "open('runs', 'a').write('ran\\n')"
TOOL = "py_run_script_in_dir"


@pytest.fixture(scope="module")
def schedulers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A server with the tool, for calls that change nothing."""
    with shared(tmp_path_factory.mktemp("home"), env=GROUPS) as server:
        yield server


def text(result: Any) -> str:
    assert result.is_error, result
    return result.content[0].text


async def schedule(client: Client, **how: Any) -> dict[str, Any]:
    return data(await client.call_tool("py_schedule", how))


async def result_of(client: Client, job_id: str) -> dict[str, Any]:
    waited = data(await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60}))
    assert not waited["timed_out"], waited
    return waited["job"]


def script(folder: Path, content: str = SCRIPT) -> dict[str, Any]:
    return {"directory": str(folder), "script_content": content, "use_uv": False}


async def test_a_tool_runs_by_cron_until_it_is_removed(tmp_path: Path):
    async with connected(env=GROUPS) as client:
        made = await schedule(client, tool=TOOL, arguments=script(tmp_path), cron="* * * * * *", name="often")
        assert made["schedule"]["tool"] == TOOL
        assert len(made["next_times"]) == 3
        await in_thread(lambda: len(lines(tmp_path / "runs")) >= 2)
        [listed] = (await schedule(client, action="list"))["schedules"]
        assert listed["name"] == "often"
        job = await result_of(client, listed["jobs"][0])
        assert job["result"]["exit_code"] == 0
        assert job["schedule"]["name"] == "often"
        assert (await schedule(client, action="remove", name="often"))["removed"]["id"] == listed["id"]
        assert (await schedule(client, action="list"))["schedules"] == []


def test_errors_name_the_parameters_of_the_tool(schedulers: Shared, tmp_path: Path):
    async def main(client: Client) -> None:
        for how, told in (
            ({"delay_seconds": -1.0}, "delay_seconds is -1.0"),
            ({"at": "2100-01-01T09:00", "timezone": "Mars"}, "timezone is 'Mars'"),
            ({"cron": "* * * * *", "timezone": "Mars"}, "timezone is 'Mars'"),
        ):
            made = await client.call_tool("py_schedule", {"tool": TOOL, "arguments": script(tmp_path), **how})
            assert text(made).startswith(told)

    schedulers.run(main)


async def in_thread(look: Any) -> None:
    await asyncio.to_thread(eventually, look)


async def test_a_tool_runs_once_later_or_after_another_job(tmp_path: Path):
    async with connected(env=GROUPS) as client:
        first = await schedule(client, tool=TOOL, arguments=script(tmp_path), delay_seconds=0.5)
        assert first["status"] == "pending"
        arguments = script(tmp_path, "print(open('runs').read())") | {"job_label": "reader"}
        second = await schedule(client, tool=TOOL, arguments=arguments, after=first["job_id"])
        third = await schedule(client, tool=TOOL, arguments=script(tmp_path), at="2100-01-01T09:00")
        assert "until 2100-01-01T09:00:00+00:00" in third["message"]
        job = await result_of(client, second["job_id"])
        assert "ran" in job["result"]["stdout"]
        assert job["label"] == "reader"
        ended = await client.call_tool("py_cancel_job", {"job_id": third["job_id"]})
        assert data(ended)["status"] == "cancelled"
        assert (await schedule(client, action="list"))["schedules"] == []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"cron": "* * * * *"}, "tool is None; what can be scheduled is py_run_script_in_dir"),
        ({"tool": "py_list_jobs", "cron": "* * * * *"}, "tool is 'py_list_jobs'"),
        ({"tool": TOOL, "arguments": {"directory": "."}}, "exactly one of cron, at, delay_seconds and after"),
        ({"tool": TOOL, "cron": "* * * * *", "delay_seconds": 5}, "exactly one of"),
        ({"tool": TOOL, "arguments": {}, "cron": "* * * * *"}, "directory"),
        ({"tool": TOOL, "arguments": {"directry": "."}, "cron": "* * * * *"}, "did you mean directory"),
        ({"tool": TOOL, "arguments": script(Path(".")) | {"env_vars": {"K": "v"}}, "delay_seconds": 5},
         "env_vars looks like a secret"),
        ({"tool": TOOL, "arguments": script(Path(".")) | {"env_vars": {"K": "v"}}, "cron": "* * * * *"},
         "env_vars looks like a secret"),
        ({"tool": TOOL, "arguments": script(Path("/")), "cron": "70 * * * *"}, "cron is '70 * * * *'"),
        ({"tool": TOOL, "arguments": script(Path("/")), "cron": "* * * * *", "timezone": "Oz"},
         "timezone is 'Oz'"),
        ({"tool": TOOL, "arguments": {"directory": []}, "cron": "* * * * *"}, "directory is []"),
        ({"tool": TOOL, "arguments": script(Path("/")), "at": "soon"}, "at is 'soon'"),
        ({"tool": TOOL, "arguments": script(Path("/")), "at": "2020-01-01"}, "never comes"),
        ({"tool": TOOL, "arguments": script(Path("/")), "after": "no-job"}, "Job no-job not found"),
        ({"action": "remove"}, "name is missing"),
        ({"action": "remove", "name": "nothing"}, "there is no schedule 'nothing'"),
    ],
)  # fmt: skip
def test_what_cannot_be_scheduled_gets_one_sentence(schedulers: Shared, how: dict[str, Any], words: str):
    async def main(client: Client) -> None:
        told = text(await client.call_tool("py_schedule", how))
        assert words in told
        assert not told.startswith("Error executing")
        assert "\n" not in told
        assert (await schedule(client, action="list"))["schedules"] == []
        assert data(await client.call_tool("py_list_jobs", {}))["jobs"] == []

    schedulers.run(main)


def test_principals_see_their_own_schedules_over_http(tmp_path: Path):
    tokens = ["the-token-of-ann", "the-token-of-bob"]
    env = [GROUPS | {"PYTHON_MCP_HTTP_TOKEN": token} for token in tokens]
    how = {"tool": TOOL, "arguments": script(tmp_path), "cron": "0 0 1 1 *"}

    async def main(ports: list[int]) -> None:
        async with client_of(ports[0], tokens[0]) as ann, client_of(ports[1], tokens[1]) as bob:
            made = (await schedule(ann, **how, name="yearly"))["schedule"]
            assert (await schedule(bob, action="list"))["schedules"] == []
            gone = text(await bob.call_tool("py_schedule", {"action": "remove", "name": made["id"]}))
            assert "there is no schedule" in gone
            job = await schedule(ann, tool=TOOL, arguments=script(tmp_path), delay_seconds=3600)
            refused = await bob.call_tool("py_schedule", how | {"cron": None, "after": job["job_id"]})
            assert "not found" in text(refused)
            assert (await schedule(bob, **how, name="yearly"))["schedule"]["name"] == "yearly"
            assert len((await schedule(ann, action="list"))["schedules"]) == 1

    first = serving(tmp_path, *over_http(), env=env[0])
    with first as one, serving(tmp_path, *over_http(), env=env[1]) as two:
        run(main([port_of(one), port_of(two)]))
    assert len(command("schedules", "list").stdout.splitlines()) == 3


NIGHTLY = """
from python_mcp_server import scheduled

@scheduled("* * * * * *", overlap="start")
def clean():
    with open("cleaned", "a") as log:
        log.write("cleaned\\n")
"""
AUTHORS = """
import nightly
from mcp.server.mcpserver import MCPServer

MCPServer("authors").run()
"""


def test_a_function_of_an_authors_server_runs_before_any_call(tmp_path: Path):
    (tmp_path / "nightly.py").write_text(NIGHTLY)
    (tmp_path / "server.py").write_text(AUTHORS)
    with serving(tmp_path, tmp_path / "server.py", cwd=tmp_path) as server:
        server.open()
        eventually(lambda: len(lines(tmp_path / "cleaned")) >= 2)
        assert server.leave() == 0
    assert "nightly.clean" in command("schedules", "list").stdout
