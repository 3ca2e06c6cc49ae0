"""Our server, seen by the SDK's client and a raw one over real stdio: results, jobs, refusals."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from mcp.shared.exceptions import MCPError

from tests.acceptance.shared import Shared
from tests.acceptance.support import LEGACY, MODERN, Server, connected, data, refusal, serving
from tests.helpers import eventually
from tests.helpers.clients import check_list
from tests.helpers.marks import thorough

if TYPE_CHECKING:
    from mcp import Client

TOOLS = {
    "py_run_script_in_dir", "py_run_script_with_dependencies", "py_benchmark_script", "py_save_script",
    "py_run_saved_script", "py_list_scripts", "py_job_status", "py_wait_job", "py_job_output", "py_list_jobs",
    "py_cancel_job", "py_answer_job", "py_prune_jobs", "py_run_tests",
    "py_map_script",
}  # fmt: skip
SHORT = {"SMART_ASYNC_TIMEOUT_SECONDS": "0.5"}

COUNTED = """
import os, sys, time
with open("starts", "a") as file:
    file.write("x")
print("begun", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
print("done")
"""
FOREVER = (
    "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nprint('begun', flush=True)\ntime.sleep(600)"
)


@pytest.mark.parametrize("version", [LEGACY[0], *map(thorough, LEGACY[1:]), MODERN])
def test_every_protocol_version_lists_and_calls_all_tools(tmp_path: Path, version: str):
    with serving(tmp_path, env={"SMART_ASYNC_TIMEOUT_SECONDS": "soon"}) as server:
        tools = server.open(version).request("tools/list")["result"]["tools"]
        assert {tool["name"] for tool in tools} == TOOLS
        check_list(tools)
        for tool in tools:
            assert tool["annotations"]["title"]
            assert "readOnlyHint" in tool["annotations"]
            assert all("description" in schema for schema in tool["inputSchema"]["properties"].values()), (
                tool["name"]
            )
        refuses_its_budget(server, tmp_path)
        assert server.call("py_list_jobs")["structuredContent"]["jobs"] == []
        assert server.leave() == 0


def refuses_its_budget(server: Server, tmp_path: Path) -> None:
    """A budget that is no number is an error at the call."""
    arguments = {"directory": str(tmp_path), "script_content": "print(1)"}
    result = server.call("py_run_script_in_dir", arguments)
    assert result["isError"]
    assert result["content"][0]["text"].startswith("SMART_ASYNC_TIMEOUT_SECONDS is 'soon'")


def test_the_instructions_name_the_way_to_a_result(ours: Shared):
    async def main(client: Client):
        assert client.instructions is not None
        assert "py_wait_job" in client.instructions
        assert "async_mode" in client.instructions

    ours.run(main)


@pytest.mark.parametrize("ours", [thorough("legacy"), "auto"], indirect=True)
def test_hello_comes_back_at_once_and_leaves_no_job(ours: Shared, tmp_path: Path):
    async def main(client: Client):
        arguments = {"directory": str(tmp_path), "script_content": 'print("hello")'}
        result = data(await client.call_tool("py_run_script_in_dir", arguments))
        assert (result["stdout"], result["exit_code"]) == ("hello\n", 0)
        assert data(await client.call_tool("py_list_jobs"))["total"] == 0

    ours.run(main)


@pytest.mark.parametrize("hasty", ["legacy", "auto"], indirect=True)
def test_past_the_budget_the_same_run_goes_on_as_a_job_and_is_waited_for(hasty: Shared, tmp_path: Path):
    async def main(client: Client):
        arguments = {"directory": str(tmp_path), "script_content": COUNTED, "job_label": "counted"}
        handle = data(await client.call_tool("py_run_script_in_dir", arguments))
        assert handle["status"] in ("running", "pending")  # pending where no worker was ready in time
        assert "0.5s time budget" in handle["message"]
        job_id = handle["job_id"]
        waited = data(await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 0}))
        assert waited["timed_out"]
        assert waited["job"]["label"] == "counted"
        assert waited["job"]["ran"] == 'with open("starts", "a") as file:'
        assert waited["job"]["directory"] == str(tmp_path)
        assert waited["job"]["client"].startswith("mcp ")
        (tmp_path / "go").touch()
        ended = data(await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60}))
        assert not ended["timed_out"]
        assert ended["job"]["status"] == "completed"
        assert ended["job"]["result"]["stdout"] == "begun\ndone\n"
        page = data(await client.call_tool("py_job_output", {"job_id": job_id, "offset": 6}))
        assert page == {"text": "done\n", "next_offset": 11, "total_bytes": 11, "eof": True}
        status = data(await client.call_tool("py_job_status", {"job_id": job_id}))
        assert status["job"] == ended["job"]
        listed = data(await client.call_tool("py_list_jobs", {"status_filter": "completed"}))
        assert [job["id"] for job in listed["jobs"]] == [job_id]
        assert (listed["total"], listed["more"]) == (1, False)
        assert (tmp_path / "starts").read_text() == "x"

    hasty.run(main)


@pytest.mark.thorough  # `test_generations.py` shows it to a client of an older protocol
async def test_a_job_outlives_its_client_and_its_server(tmp_path: Path):
    async with connected(env=SHORT) as client:
        arguments = {"directory": str(tmp_path), "script_content": COUNTED}
        job_id = data(await client.call_tool("py_run_script_in_dir", arguments))["job_id"]
        await asyncio.to_thread(eventually, lambda: read(tmp_path / "starts"))
    (tmp_path / "go").touch()
    async with connected() as client:
        ended = data(await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60}))
        assert ended["job"]["result"]["stdout"] == "begun\ndone\n"
    assert (tmp_path / "starts").read_text() == "x"


@pytest.mark.parametrize("ours", [thorough("legacy"), "auto"], indirect=True)
def test_async_mode_answers_at_once_and_cancel_leaves_no_process(ours: Shared, tmp_path: Path):
    async def main(client: Client):
        arguments = {"directory": str(tmp_path), "script_content": FOREVER, "async_mode": True}
        handle = data(await client.call_tool("py_run_script_in_dir", arguments))
        assert handle["status"] == "pending"
        pid = int(await asyncio.to_thread(eventually, lambda: read(tmp_path / "pid")))
        job_id = handle["job_id"]
        news = data(await client.call_tool("py_job_status", {"job_id": job_id, "incremental": True}))
        assert news["job"]["status"] == "running"
        cancelled = data(await client.call_tool("py_cancel_job", {"job_id": job_id}))
        assert (cancelled["job_id"], cancelled["status"]) == (job_id, "cancelled")
        assert not psutil.pid_exists(pid)
        again = data(await client.call_tool("py_cancel_job", {"job_id": job_id}))
        assert again["status"] == "cancelled"
        pruned = data(await client.call_tool("py_prune_jobs", {"max_age_hours": 0}))
        assert pruned == {"removed": 1, "remaining": 0}
        assert refusal(await client.call_tool("py_job_status", {"job_id": job_id})).startswith(
            f"Job {job_id} has expired"
        )

    ours.run(main)


def test_new_output_is_shown_once(hasty: Shared, tmp_path: Path):
    async def main(client: Client):
        arguments = {"directory": str(tmp_path), "script_content": COUNTED}
        job_id = data(await client.call_tool("py_run_script_in_dir", arguments))["job_id"]
        look = {"job_id": job_id, "incremental": True}
        first = data(await client.call_tool("py_job_status", look))["new_stdout"]
        (tmp_path / "go").touch()
        await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60})
        second = data(await client.call_tool("py_job_status", look))["new_stdout"]
        third = data(await client.call_tool("py_job_status", look))["new_stdout"]
        assert (first + second, third) == ("begun\ndone\n", "")

    hasty.run(main)


@pytest.mark.parametrize("hasty", ["legacy", thorough("auto")], indirect=True)
def test_a_waiting_caller_gets_progress_that_names_the_job(hasty: Shared, tmp_path: Path):
    async def main(client: Client):
        arguments = {"directory": str(tmp_path), "script_content": COUNTED}
        job_id = data(await client.call_tool("py_run_script_in_dir", arguments))["job_id"]
        heard: list[tuple[float, str | None]] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            heard.append((progress, message))
            (tmp_path / "go").touch()
            await asyncio.sleep(0)

        wait = {"job_id": job_id, "timeout_seconds": 60}
        ended = data(await client.call_tool("py_wait_job", wait, progress_callback=hear))
        assert ended["job"]["status"] == "completed"
        assert job_id in (heard[0][1] or "")

    hasty.run(main)


def test_a_wait_that_is_given_up_leaves_the_job_alone(hasty: Shared, tmp_path: Path):
    async def main(client: Client):
        arguments = {"directory": str(tmp_path), "script_content": COUNTED}
        job_id = data(await client.call_tool("py_run_script_in_dir", arguments))["job_id"]
        wait = {"job_id": job_id, "timeout_seconds": 60}
        with pytest.raises(MCPError):
            await client.call_tool("py_wait_job", wait, read_timeout_seconds=0.2)
        (tmp_path / "go").touch()
        assert data(await client.call_tool("py_wait_job", wait))["job"]["status"] == "completed"

    hasty.run(main)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("py_job_status", {"job_id": "nobody"}, "Job nobody not found"),
    ("py_wait_job", {"job_id": "nobody"}, "Job nobody not found"),
    ("py_job_output", {"job_id": "nobody"}, "Job nobody not found"),
    ("py_cancel_job", {"job_id": "../../etc/passwd"}, "Job ../../etc/passwd not found"),
    ("py_wait_job", {"job_id": "x", "timeout_seconds": -1}, "timeout_seconds is -1"),
    ("py_wait_job", {"job_id": "x", "timeout_seconds": "soon"}, "timeout_seconds is 'soon'"),
    ("py_job_output", {"job_id": "x", "line": 0}, "line is 0"),
    ("py_job_output", {"job_id": "x", "limit": -1}, "limit is -1"),
    ("py_job_output", {"job_id": "x", "limit": 1_048_577}, "limit is 1048577"),
    ("py_job_output", {"job_id": "x", "stream": "log"}, "stream is 'log'"),
    ("py_list_jobs", {"status_filter": "busy"}, "status_filter is 'busy'"),
    ("py_list_jobs", {"limit": -1}, "limit is -1"),
    ("py_list_jobs", {"before": "../x"}, "before is '../x'"),
    ("py_prune_jobs", {"max_age_hours": -1}, "max_age_hours is -1"),
    ("py_job_status", {}, "job_id is missing"),
    ("py_run_script_in_dir", {"directory": "/no/such/place", "script_content": "1"}, "/no/such/place"),
    ("py_run_script_in_dir", {"directory": "", "script_content": "1"}, "directory is ''"),
    ("py_run_script_in_dir", {"directory": "/", "timeout": 1}, "'timeout'; did you mean timeout_seconds?"),
    ("py_run_script_in_dir", {"directory": "/"}, "script_content"),
    ("py_run_script_in_dir", {"directory": "/", "script_path": "nothing.py"}, "nothing.py"),
    ("py_run_script_in_dir", {"directory": "/", "script_content": "1", "timeout_seconds": -2}, "-2"),
    (
        "py_run_script_in_dir",
        {"directory": "/", "script_content": "1", "env_file": "none.env"},
        "none.env",
    ),
    ("py_run_saved_script", {"script_name": "../secret"}, "../secret"),
    ("py_save_script", {"script_name": "a/b", "source": "1"}, "a/b"),
]


def test_bad_input_gets_one_line_that_names_the_value(ours: Shared):
    async def main(client: Client):
        for tool, arguments, words in REFUSED:
            text = refusal(await client.call_tool(tool, arguments))
            assert words in text
            assert "\n" not in text, text

    ours.run(main)


def test_a_script_is_saved_listed_and_run(ours: Shared):
    async def main(client: Client):
        source = '"""Says what it is given."""\nimport sys\nprint(sys.argv[1:])'
        saved = data(await client.call_tool("py_save_script", {"script_name": "say", "source": source}))
        assert saved["written"]
        listed = data(await client.call_tool("py_list_scripts", {}))["scripts"]
        assert [(each["name"], each["docstring"]) for each in listed] == [("say", "Says what it is given.")]
        ran = data(
            await client.call_tool("py_run_saved_script", {"script_name": "say", "args": ["a", "[1]"]})
        )
        assert ran["stdout"] == "['a', '[1]']\n"

    ours.run(main)


def test_the_log_is_in_the_home_and_private(ours: Shared):
    log = ours.home / "logs" / "server.log"
    assert "DEBUG" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
