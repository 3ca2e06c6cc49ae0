"""The tool list over real stdio: how much of a model's context it takes, and what it leaves out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.acceptance.shared import Shared
from tests.acceptance.support import serving
from tests.helpers import ROOT, environment, run_python
from tests.helpers.clients import check_list

if TYPE_CHECKING:
    from mcp import Client

MOST_CHARS: Final = 28_000
NAMED_ONLY: Final = (
    "commands",
    "schedules",
    "dead_letters",
    "stats",
    "quotas",
)  # a server has these only where they are named
CUT_AT: Final = 2048  # Claude Code cuts a description, and the instructions of a server, at 2 KB
_ROW: Final = re.compile(r"^\| `(\w+)`[^|]*\| (.+?) \| ([\d,]+) \|$", re.MULTILINE)


def size(what: Any) -> int:
    return len(json.dumps(what, separators=(",", ":"), ensure_ascii=False))


def documented() -> dict[str, tuple[set[str], int]]:
    """The groups of tools as the page on settings has them: their tools, and their size at most."""
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    return {
        name: (set(re.findall(r"py_\w+", tools)), int(chars.replace(",", "")))
        for name, tools, chars in _ROW.findall(page)
    }


def listed(server: Any) -> dict[str, Any]:
    return {tool["name"]: tool for tool in server.open().request("tools/list")["result"]["tools"]}


def test_the_list_is_small_as_a_whole_and_by_group_as_documented(tmp_path: Path):
    with serving(tmp_path) as server:
        everything = list(listed(server).values())
        assert server.leave() == 0
    check_list(everything)
    assert size(everything) <= MOST_CHARS
    groups = documented()
    with serving(tmp_path, env={"PYTHON_MCP_TOOLS": ",".join(groups)}) as server:
        tools = listed(server)
        assert server.leave() == 0
    check_list(list(tools.values()))
    assert sorted(name for names, _ in groups.values() for name in names) == sorted(tools)
    named_only = {name for group in NAMED_ONLY for name in groups[group][0]}
    assert {each["name"] for each in everything} == set(tools) - named_only
    for group, (names, most) in groups.items():
        chars = size([tools[name] for name in names])
        assert 0.9 * most <= chars <= most, f"{group} takes {chars} characters"


def test_no_text_is_longer_than_clients_show(ours: Shared):
    async def main(client: Client):
        texts = [str(tool.description) for tool in (await client.list_tools()).tools]
        assert all(len(text.encode()) < CUT_AT / 2 for text in texts)
        assert len(str(client.instructions).encode()) < CUT_AT

    ours.run(main)


def test_only_named_groups_are_listed_and_none_mentions_another(tmp_path: Path):
    groups = {name: names for name, (names, _) in documented().items()}
    for chosen in ({"saved", "benchmark"}, {"scripts", "batch", "tests", "schedules"}, {"commands"}):
        there = set().union(*(groups[name] for name in {*chosen, "jobs"}))
        with serving(tmp_path, env={"PYTHON_MCP_TOOLS": ", ".join(chosen)}) as server:
            tools = listed(server)
            assert set(tools) == there
            assert refused(server, next(iter(set().union(*groups.values()) - there)))
            assert server.leave() == 0
        for group in chosen:
            named = re.findall(r"py_\w+", json.dumps([tools[name] for name in groups[group]]))
            assert set(named) <= groups[group] | groups["jobs"], group


def refused(server: Any, tool: str) -> bool:
    """Whether a tool that is not there cannot be called either."""
    answer = server.request("tools/call", {"name": tool, "arguments": {}})
    return "error" in answer or answer["result"]["isError"]


def test_a_group_that_is_not_there_ends_the_server_with_a_sentence():
    told = run_python("-m", "python_mcp_server", "serve", env=environment(PYTHON_MCP_TOOLS="jobs, scipts"))
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1] == (
        "python-mcp-server: PYTHON_MCP_TOOLS has 'scipts'; "
        "the groups of tools are scripts, batch, tests, benchmark, saved, commands, jobs, schedules, "
        "dead_letters, stats, quotas"
    )


def test_statistics_are_a_tool_only_where_their_group_is_named(tmp_path: Path):
    with serving(tmp_path, env={"PYTHON_MCP_TOOLS": "stats"}) as server:
        tools = listed(server)
        assert set(tools) == documented()["jobs"][0] | {"py_job_stats", "py_health"}
        found = server.call("py_job_stats", {"window_seconds": 60, "by": "queue"})["structuredContent"]
        assert (found["by"], found["total"]["created"]) == ("queue", 0)
        assert server.call("py_health")["structuredContent"]["status"] in ("ok", "degraded")
        assert refused(server, "py_run_tests")
        assert server.leave() == 0
