"""A call that outlasts its budget is a task, for clients that take tasks: over stdio and HTTP, and for
whichever server is asked for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import (
    SubscriptionFilter,
    SubscriptionsListenRequest,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)

from tests.acceptance.over_http import TOKEN, Served, client_of
from tests.acceptance.support import LEGACY, MODERN, Server, connected, data, refusal, serving
from tests.helpers import eventually, run, task_client
from tests.helpers.leftovers import outliving
from tests.helpers.task_client import TASKS, Task, TaskClient

CAPABLE = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}}
INVALID_PARAMS, HEADER_MISMATCH, MISSING_CAPABILITY, NO_METHOD = -32602, -32020, -32021, -32601
TOOLS = """
import os, time

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel, Field
from python_mcp_server import TasksExtension, report_progress, smart_async

tasks = TasksExtension()
mcp = MCPServer("author", extensions=[tasks], middleware=[tasks.listening])

class Report(BaseModel):
    path: str = Field(alias="thePath")
    note: str | None = None

def until(path):
    with open(path + ".starts", "a") as file:
        file.write("x")
    while not os.path.exists(path):
        report_progress(1, 2, "waiting for the file")
        time.sleep(0.02)
    with open(path + ".ends", "a") as file:
        file.write("x")

def waits(path: str) -> Report:
    until(path)
    return Report(thePath=path)

mcp.tool(name="waits")(smart_async(default_timeout=0.2)(waits))
mcp.tool(name="patient")(smart_async(default_timeout=60, name="patient")(waits))

@mcp.tool()
@smart_async(default_timeout=0.2, task="never")
def waits_without(path: str) -> str:
    until(path)
    return path

@mcp.tool()
@smart_async(task="required")
def only_a_task(how: str) -> str:
    if how == "raise":
        raise ValueError("the body said no")
    if how == "refuse":
        from mcp.shared.exceptions import MCPError  # here: other bodies' workers start sooner without
        raise MCPError(-32005, "not now", {"again": "later"})
    if how == "die":
        os._exit(3)
    return how

@mcp.tool()
@smart_async(default_timeout=30)
def quick(n: int) -> int:
    return n + 1

if __name__ == "__main__":
    mcp.run()
"""


@pytest.fixture
def author(tmp_path: Path) -> Path:
    path = tmp_path / "authors_tools.py"
    path.write_text(TOOLS)
    return path


@dataclass(frozen=True)
class Lasting:
    """A server of the author's tools that many tests ask.

    Attributes:
        server: It, with a raw client of the newest protocol.
        home: Its home.
    """

    server: Server
    home: Path


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lasting]:
    folder = tmp_path_factory.mktemp("tasks")
    program, home = folder / "authors_tools.py", folder / "home"
    program.write_text(TOOLS)
    with outliving(home) as env, serving(folder, program, env=env) as server:
        yield Lasting(server.open(), home)
        assert code_of(server.request("tasks/get", {"taskId": "unknown"}, **CAPABLE)) == INVALID_PARAMS


def code_of(answer: dict[str, Any]) -> int:
    return answer["error"]["code"]


def start(server: Server, tool: str, path: Path) -> str:
    """Call a tool that waits for a file; return the id of the task."""
    answer = server.call(tool, {"path": str(path)}, **CAPABLE)
    assert answer["resultType"] == "task", answer
    eventually(Path(f"{path}.starts").exists)
    return answer["taskId"]


def get(server: Server, task_id: str) -> dict[str, Any]:
    return server.request("tasks/get", {"taskId": task_id}, **CAPABLE)["result"]


def ended(server: Server, task_id: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found.append(get(server, task_id))
        return found[-1]["status"] != "working"

    eventually(look)
    return found[-1]


def told(server: Server, enough: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Read notifications until one of them is enough."""
    heard: list[dict[str, Any]] = []
    while not heard or not enough(heard[-1]):
        heard.append(server.message())
    return heard


async def test_a_task_gives_its_result_and_the_body_starts_once(author: Path, tmp_path: Path):
    path = tmp_path / "go"
    tasks = TaskClient(lambda _task: path.touch())

    async with connected(author, mode=MODERN, extensions=[tasks]) as client:
        assert data(await client.call_tool("quick", {"n": 1})) == {"result": 2}
        assert tasks.made == []
        late = await client.call_tool("waits", {"path": str(path)})
        assert [task.status for task in tasks.made] == ["working"]
        assert Path(f"{path}.starts").read_text() == "x"
        soon = await client.call_tool("patient", {"path": str(path)})
        assert (late.content, late.structured_content) == (soon.content, soon.structured_content)
        assert data(late) == {"thePath": str(path), "note": None}

        handle = data(await client.call_tool("waits_without", {"path": str(tmp_path / "never")}))
        assert handle["status"] == "running"
        await task_client.cancel(client.session, handle["job_id"])
        assert (await task_client.ended(client.session, handle["job_id"]))["status"] == "cancelled"

        assert data(await client.call_tool("quick", {"n": 1, "async_mode": True})) == {"result": 2}
        assert data(await client.call_tool("only_a_task", {"how": "work"})) == {"result": "work"}
        assert "ValueError: the body said no" in refusal(
            await client.call_tool("only_a_task", {"how": "raise"})
        )
        assert "worker" in refusal(await client.call_tool("only_a_task", {"how": "die"}))
        with pytest.raises(MCPError) as error:
            await client.call_tool("only_a_task", {"how": "refuse"})
        assert (error.value.code, error.value.data) == (-32005, {"again": "later"})
        assert len(tasks.made) == 6


def test_a_client_without_tasks_gets_job_handles_only(lasting: Lasting, tmp_path: Path):
    takes_no_tasks(lasting.server, tmp_path / "go", MISSING_CAPABILITY)


def test_tasks_requested_by_an_older_protocol_are_ignored(author: Path, tmp_path: Path):
    with serving(tmp_path, author) as server:
        takes_no_tasks(server.open(LEGACY[-1]), tmp_path / "go", NO_METHOD, **CAPABLE)
        assert server.leave() == 0


def takes_no_tasks(server: Server, path: Path, expected: int, **wishes: Any) -> None:
    handle = server.call("waits", {"path": str(path)}, **wishes)["structuredContent"]
    assert handle["status"] in ("running", "pending")
    refused = server.request("tools/call", {"name": "only_a_task", "arguments": {"how": "work"}}, **wishes)
    assert code_of(refused) == MISSING_CAPABILITY
    assert refused["error"]["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        params = {"taskId": handle["job_id"], "inputResponses": {}}
        assert code_of(server.request(method, params, **wishes)) == expected
    listen = {"notifications": {"taskIds": [handle["job_id"]]}}
    assert code_of(server.request("subscriptions/listen", listen, **wishes)) == expected
    path.touch()
    eventually(Path(f"{path}.ends").exists)  # the folder goes with the test, and the body would wait for ever


def test_a_task_is_answered_alike_by_later_and_other_servers(
    author: Path, lasting: Lasting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHON_MCP_HOME", str(lasting.home))
    go, never = tmp_path / "go", tmp_path / "never"
    with serving(tmp_path, author) as first:
        first.open()
        kept, doomed = start(first, "waits", go), start(first, "waits", never)
        assert first.leave() == 0
    third = lasting.server
    with serving(tmp_path, author) as second:
        for server in (second.open(), third):
            assert get(server, kept)["status"] == "working"
        number = second.ask(
            "subscriptions/listen", {"notifications": {"taskIds": [kept, "unknown"]}}, **CAPABLE
        )
        [acknowledged, snapshot] = [second.message(), second.message()]
        assert acknowledged["params"]["notifications"] == {"taskIds": [kept]}
        assert (snapshot["params"]["taskId"], snapshot["params"]["status"]) == (kept, "working")
        assert (
            third.request("tasks/cancel", {"taskId": doomed}, **CAPABLE)["result"]["resultType"] == "complete"
        )
        go.touch()
        news = told(second, lambda message: message["params"]["status"] != "working")
        assert {each["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] for each in news} == {
            number
        }
        direct = second.call("patient", {"path": str(go)}, **CAPABLE)
        for server in (second, third):
            task = ended(server, kept)
            assert task["status"] == "completed"
            assert task["result"] == {key: direct[key] for key in task["result"]}
            assert direct.keys() - task["result"].keys() == {"_meta"}
        told_last = news[-1]["params"]
        assert told_last | {"_meta": 0, "resultType": 0} == task | {"_meta": 0, "resultType": 0}
        assert ended(second, doomed)["status"] == "cancelled"
        assert code_of(third.request("tasks/get", {"taskId": "unknown"}, **CAPABLE)) == INVALID_PARAMS
    assert Path(f"{go}.starts").read_text() == "xx"  # the task's and the direct call's
    assert Path(f"{never}.starts").read_text() == "x"


def test_listeners_get_each_change_and_requests_are_acknowledged(lasting: Lasting, tmp_path: Path):
    go, never = tmp_path / "go", tmp_path / "never"
    server = lasting.server
    mine, other = start(server, "waits", go), start(server, "waits", never)
    server.ask("subscriptions/listen", {"notifications": {"taskIds": [mine]}}, **CAPABLE)
    heard = told(
        server, lambda message: "waiting for the file" in str(message["params"].get("statusMessage"))
    )
    assert heard[0]["method"] == "notifications/subscriptions/acknowledged"
    assert {each["method"] for each in heard[1:]} <= {"notifications/tasks"}
    acknowledged = {"taskId": mine, "inputResponses": {"no such key": {"action": "accept"}}}
    cancel = ("tasks/cancel", {"taskId": other})
    for method, params in [("tasks/update", acknowledged), cancel, cancel]:
        answer = server.request(method, params, **CAPABLE)["result"]
        assert {key: answer[key] for key in answer if key != "_meta"} == {"resultType": "complete"}
    assert ended(server, other)["status"] == "cancelled"
    assert "result" not in get(server, other)
    server.notifications.clear()
    go.touch()
    last = told(server, lambda message: message["params"]["status"] == "completed")[-1]
    assert last["params"]["result"]["structuredContent"] == {"thePath": str(go), "note": None}
    wrong = server.request("subscriptions/listen", {"notifications": {"taskIds": "all"}}, **CAPABLE)
    assert code_of(wrong) == INVALID_PARAMS
    after = server.request("tasks/cancel", {"taskId": mine}, **CAPABLE)["result"]
    assert after["resultType"] == "complete"
    assert get(server, mine)["status"] == "completed"


def posted(port: int, task_id: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """Send `tasks/get` over HTTP with the token and these headers; return the status and the answer."""
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, **CAPABLE}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"taskId": task_id, "_meta": meta}}
    sent = {
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tasks/get",
    }
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/mcp", json.dumps(body), sent | headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_over_http_tools_are_tasks_and_the_routing_header_must_fit(http: Served, tmp_path: Path):
    go = tmp_path / "go"
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nprint('done')"
    script = {"directory": str(tmp_path), "script_content": code, "use_uv": False, "async_mode": True}
    tasks = TaskClient()

    async def main(port: int):
        async with client_of(port, TOKEN, mode=MODERN, extensions=[tasks]) as client:
            made = await client.session.call_tool("py_run_script_in_dir", script, allow_claimed=True)
            assert isinstance(made, Task)
            wanted = SubscriptionFilter.model_validate({"taskIds": [made.task_id]})
            request = SubscriptionsListenRequest(
                params=SubscriptionsListenRequestParams(notifications=wanted)
            )
            listening = asyncio.create_task(client.session.send_request(request, SubscriptionsListenResult))
            await asyncio.to_thread(eventually, lambda: tasks.news)
            assert tasks.news[0].status == "working"
            fits = await asyncio.to_thread(posted, port, made.task_id, **{"Mcp-Name": made.task_id})
            assert (fits[0], fits[1]["result"]["status"]) == (200, "working")
            for headers in ({}, {"Mcp-Name": "another"}):
                status, answer = await asyncio.to_thread(posted, port, made.task_id, **headers)
                assert (status, code_of(answer)) == (400, HEADER_MISMATCH)
            await task_client.update(client.session, made.task_id, nothing={})
            go.touch()
            await asyncio.to_thread(
                eventually, lambda: any(each.status == "completed" for each in tasks.news)
            )
            found = await task_client.ended(client.session, made.task_id)
            assert found["result"]["structuredContent"]["stdout"] == "done\n"
            last = [each for each in tasks.news if each.status == "completed"]
            assert [(each.model_extra or {})["result"] for each in last] == [found["result"]]
            listening.cancel()
            await asyncio.wait([listening])

    run(main(http.port))
