"""Jobs as resources: read over every transport, and told of while they change."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mcp.shared.exceptions import MCPError

from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore
from tests.acceptance.over_http import TOKEN, Served, client_of
from tests.acceptance.shared import Shared
from tests.acceptance.support import MODERN, data
from tests.helpers import run
from tests.helpers.marks import thorough

if TYPE_CHECKING:
    from mcp import Client

GO_ON = """\
import pathlib, time
print("first", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.02)
"""
UPDATED = "notifications/resources/updated"


def go_on(directory: Path) -> dict[str, Any]:
    """Arguments of a script that waits for a file."""
    return {"directory": str(directory), "script_content": GO_ON, "async_mode": True}


async def text_of(client: Client, uri: str) -> str:
    contents = (await client.read_resource(uri)).contents
    assert len(contents) == 1
    return contents[0].text  # type: ignore[union-attr]


async def code_of(client: Client, uri: str) -> int:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    assert caught.value.error.data == {"uri": uri}
    return caught.value.error.code


@pytest.mark.parametrize("ours", [thorough("legacy"), "auto"], indirect=True)
def test_a_job_and_its_output_are_resources(ours: Shared, tmp_path: Path):
    code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('x' * 200_000)"
    arguments = {"directory": str(tmp_path), "script_content": code, "async_mode": True}

    async def main(client: Client) -> None:
        found = (await client.list_resource_templates()).resource_templates
        assert {(each.uri_template, each.mime_type) for each in found} == {
            ("job://{job_id}", "application/json"),
            ("job-stream://{job_id}", "text/plain"),
            ("job-stream://{job_id}/stderr", "text/plain"),
        }
        assert all(each.description for each in found)
        job_id = data(await client.call_tool("py_run_script_in_dir", arguments))["job_id"]
        waited = data(await client.call_tool("py_wait_job", {"job_id": job_id}))
        assert json.loads(await text_of(client, f"job://{job_id}")) == waited["job"]
        out = await text_of(client, f"job-stream://{job_id}")
        assert out.startswith("out\nxxx")
        assert f'py_job_output(job_id="{job_id}", stream="stdout", offset=' in out
        assert len(out) < 100_000
        assert await text_of(client, f"job-stream://{job_id}/stderr") == "err\n"
        for uri in ("job://nobody", "job-stream://nobody", "job-stream://nobody/stderr"):
            assert await code_of(client, uri) == -32602

    ours.run(main)


@pytest.mark.filterwarnings("ignore:resources/.*subscribe is removed")
@pytest.mark.parametrize("hasty", ["legacy"], indirect=True)
def test_an_older_client_that_subscribed_is_told_until_the_end(hasty: Shared, tmp_path: Path):
    async def main(client: Client) -> None:
        job_id = data(await client.call_tool("py_run_script_in_dir", go_on(tmp_path)))["job_id"]
        uris = {f"job://{job_id}", f"job-stream://{job_id}"}
        for uri in (*uris, f"job-stream://{job_id}/stderr"):
            await client.subscribe_resource(uri)
        await client.unsubscribe_resource(f"job-stream://{job_id}/stderr")
        with pytest.raises(MCPError) as refused:
            await client.subscribe_resource("job://nobody")
        assert (refused.value.error.code, refused.value.error.data) == (-32602, {"uri": "job://nobody"})
        (tmp_path / "go").touch()
        status, told = "running", set[str]()
        while status != "completed" or told != uris:
            await asyncio.sleep(0.05)
            news = [each for each in hasty.heard if getattr(each, "method", None) == UPDATED]
            told = {str(each.params.uri) for each in news}
            assert told <= uris
            status = data(await client.call_tool("py_job_status", {"job_id": job_id}))["job"]["status"]

    hasty.run(main)


def test_a_newer_client_that_listens_is_told_seldom_but_of_the_end(ours: Shared, tmp_path: Path):
    code = "import time\nfor _ in range(150):\n    print('x' * 100, flush=True)\n    time.sleep(0.01)"
    arguments = {"directory": str(tmp_path), "script_content": code, "async_mode": True}

    async def main(client: Client) -> None:
        job_id = data(await client.call_tool("py_run_script_in_dir", arguments))["job_id"]
        uri = f"job-stream://{job_id}"
        began = time.monotonic()
        heard = 0
        async with client.listen(resource_subscriptions=[uri, "job://nobody"]) as changes:
            assert changes.honored.resource_subscriptions == [uri]
            async for change in changes:
                assert change.uri == uri  # type: ignore[union-attr]
                heard += 1
                if len(await text_of(client, uri)) == 150 * 101:
                    break
        assert 1 <= heard <= (time.monotonic() - began) / 0.5

    ours.run(main)


@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
def test_over_http_both_are_told_of_their_own_jobs_only(http: Served, tmp_path: Path):
    async def newer(port: int) -> str:
        async with client_of(port, TOKEN, mode=MODERN) as client:
            job_id = data(await client.call_tool("py_run_script_in_dir", go_on(tmp_path)))["job_id"]
            uri = f"job://{job_id}"
            theirs = another_ones(http.home)
            assert await code_of(client, f"job://{theirs}") == -32602
            assert await code_of(client, f"job-stream://{theirs}") == -32602
            async with client.listen(resource_subscriptions=[f"job://{theirs}", uri]) as changes:
                assert changes.honored.resource_subscriptions == [uri]
                await older(port, job_id, theirs)
                async for change in changes:
                    assert change.uri == uri  # type: ignore[union-attr]
                    if '"completed"' in await text_of(client, uri):
                        return job_id
        raise AssertionError("the stream ended before the job")

    async def older(port: int, job_id: str, theirs: str) -> None:
        told = asyncio.Event()

        async def hear(message: Any) -> None:
            if getattr(message, "method", None) == UPDATED and message.params.uri == f"job://{job_id}":
                told.set()

        async with client_of(port, TOKEN, mode="legacy", message_handler=hear) as client:
            await client.subscribe_resource(f"job://{job_id}")
            with pytest.raises(MCPError, match="Unknown resource"):
                await client.subscribe_resource(f"job://{theirs}")
            (tmp_path / "go").touch()
            await told.wait()

    run(newer(http.port))


def another_ones(home: Path) -> str:
    """Put a job of another principal into the home."""
    store = FileJobStore(home)
    try:
        job = Job(new_job_id(), "theirs", JobState.COMPLETED, utc_now(), principal="client:bob")
        store.create(job)
    finally:
        store.close()
    return job.id
