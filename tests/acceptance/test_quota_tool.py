"""Quotas over real stdio and HTTP: what a client is refused, and what it sees of its own and of others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.jobs.quotas import Quotas
from tests.acceptance.over_http import client_of, over_http, port_of
from tests.acceptance.support import LEGACY, MODERN, data, serving
from tests.helpers import run
from tests.helpers.command_line import command
from tests.helpers.stores import store_of, url_in

GROUPS = {"PYTHON_MCP_TOOLS": "scripts,quotas"}
TOOL = "py_run_script_in_dir"
REFUSED = (
    r"client '(.+)' has spent its quota: (\d) of \2 jobs in 1h; "
    r"submit it again from \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC on"
)


def script(folder: Path, code: str = "print(1)", *, async_mode: bool = True) -> dict[str, Any]:
    how = {"directory": str(folder), "script_content": code, "use_uv": False}
    return how | {"async_mode": async_mode}


@pytest.mark.parametrize("version", [MODERN, LEGACY[-1]])
@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_a_client_over_stdio_is_refused_and_sees_its_own(
    version: str, kind: str, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHON_MCP_STORE", url_in(home, kind))
    with serving(tmp_path, env=GROUPS) as server:
        server.open(version)
        assert server.call("py_quota")["structuredContent"]["quota"] is None
        set_quota = command("quotas", "set", "raw *", "--jobs", "2")
        assert set_quota.returncode == 0, set_quota
        for _ in range(2):
            assert not server.call(TOOL, script(tmp_path))["isError"]
        for how in (script(tmp_path), script(tmp_path, "open('ran', 'w')", async_mode=False)):
            answer = server.call(TOOL, how)
            assert answer["isError"]
            found = re.fullmatch(REFUSED, answer["content"][0]["text"])
            assert found is not None, answer
            assert found[1] == "raw 1"
        told = server.call("py_quota")["structuredContent"]
        assert (told["client"], told["quota"]) == ("raw 1", {"jobs": 2, "per": "1h"})
        assert told["spent"]["jobs"] == 2
        assert re.fullmatch(REFUSED, told["refusal"])
        assert told["fits_at"].endswith("+00:00")
        assert not server.call("py_prune_jobs", {"keep_completed": False, "max_age_hours": 0})["isError"]
        assert server.call(TOOL, script(tmp_path))["isError"], "a prune gives nothing back"
        assert server.leave() == 0
    assert not (tmp_path / "ran").exists()


def test_principals_spend_and_see_their_own_over_http(tmp_path: Path, home: Path):
    tokens = ["the-token-of-ann", "the-token-of-bob"]
    env = [GROUPS | {"PYTHON_MCP_HTTP_TOKEN": token} for token in tokens]

    async def main(ports: list[int]) -> None:
        async with client_of(ports[0], tokens[0]) as ann, client_of(ports[1], tokens[1]) as bob:
            for _ in range(2):
                assert data(await ann.call_tool(TOOL, script(tmp_path)))["job_id"]
            refused: Any = await ann.call_tool(TOOL, script(tmp_path))
            assert re.fullmatch(REFUSED, refused.content[0].text)
            of_ann = data(await ann.call_tool("py_quota", {}))
            of_bob = data(await bob.call_tool("py_quota", {}))
            assert (of_ann["spent"]["jobs"], of_bob["spent"]["jobs"]) == (2, 0)
            assert of_ann["client"] != of_bob["client"]
            assert of_ann["client"] not in json.dumps(of_bob)
            other = await bob.call_tool("py_quota", {"client": of_ann["client"]})
            assert other.is_error
            assert data(await bob.call_tool(TOOL, script(tmp_path)))["job_id"]

    Quotas(store_of(home)).set("*", jobs=2)
    first = serving(tmp_path, *over_http(), env=env[0])
    with first as one, serving(tmp_path, *over_http(), env=env[1]) as two:
        run(main([port_of(one), port_of(two)]))
    spent = json.loads(command("quotas", "list", "--json").stdout)["spent"]
    assert sorted(each["spent"]["jobs"] for each in spent) == [1, 2]


def test_the_cpu_time_of_calls_that_last_is_spent(tmp_path: Path, home: Path):
    Quotas(store_of(home)).set("raw *", cpu_seconds=0.5)
    code = "import time\nwhile time.process_time() < 1.2: pass"
    with serving(tmp_path, env=GROUPS | {"PYTHON_MCP_RECORD_AFTER_SECONDS": "0.1"}) as server:
        server.open()
        answer = server.call(TOOL, script(tmp_path, code, async_mode=False))["structuredContent"]
        while "exit_code" not in answer:  # a busy machine hands the call over
            answer = server.call("py_wait_job", {"job_id": answer["job_id"]})["structuredContent"]["job"]
            answer = answer["result"] or {"job_id": answer["id"]}
        refused = server.call(TOOL, script(tmp_path, "open('ran', 'w')", async_mode=False))
        assert refused["isError"]
        assert "of 0.5 CPU seconds in 1h; submit it again from" in refused["content"][0]["text"]
        assert server.leave() == 0
    assert not (tmp_path / "ran").exists()


def test_the_tool_is_there_only_where_its_group_is_named(tmp_path: Path):
    with serving(tmp_path) as server:
        tools = server.open().request("tools/list")["result"]["tools"]
        assert "py_quota" not in {tool["name"] for tool in tools}
        assert server.leave() == 0
