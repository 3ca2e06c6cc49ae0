"""A server over HTTP whose disk has no room, from its first start with a token on."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.acceptance.over_http import TOKEN, client_of, over_http, port_of
from tests.acceptance.support import Server, data, refusal, serving
from tests.acceptance.test_http import asked, stop
from tests.helpers import run

NO_ROOM = r"No space left on device at \S+; free space on the disk of"


def starts_without_room(server: Server) -> int:
    """Return the port."""
    port = port_of(server)
    assert re.search(f"clients with the token have no jobs now, .*{NO_ROOM}", server.errors)
    status, _, text = asked(port, "/healthz", "GET")
    assert (status, json.loads(text)["status"]) == (200, "degraded")
    assert {"home", "nothing can be written into the home"} <= set(json.loads(text)["problems"][0].values())
    assert "No space left" not in text
    assert asked(port)[0] == 401
    return port


async def works_once_there_is_room(port: int, folder: Path, filler: Path) -> None:
    script = {"directory": str(folder), "script_content": "print('done')"}
    async with client_of(port, TOKEN, mode="legacy") as client:
        assert (await client.list_tools()).tools
        for tool, arguments in (("py_run_script_in_dir", script), ("py_list_jobs", {})):
            assert re.search(NO_ROOM, refusal(await client.call_tool(tool, arguments)))
        filler.unlink()
        handle = data(await client.call_tool("py_run_script_in_dir", {**script, "async_mode": True}))
        waited = data(await client.call_tool("py_wait_job", {"job_id": handle["job_id"]}))
        assert waited["job"]["result"]["stdout"] == "done\n"


def test_a_server_starts_on_a_full_disk_and_works_once_there_is_room(small_disk: Path, tmp_path: Path):
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        file.write(b"x" * 2_000_000)
    env = {"PYTHON_MCP_HOME": str(small_disk / "home"), "PYTHON_MCP_HTTP_TOKEN": TOKEN}
    with serving(tmp_path, *over_http(), env=env) as server:
        run(works_once_there_is_room(starts_without_room(server), tmp_path, filler))
        assert server.errors.count("clients with the token have no jobs now") == 1
        stop(server)
    key = (small_disk / "home" / "principal.key").read_bytes()
    assert len(key) == 32
