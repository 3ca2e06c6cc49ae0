"""What a job asks reaches its user by the best way that the client has, over stdio: as a task, in rounds,
live, or by the tool that answers. The body starts once in each."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import ElicitRequestParams, ElicitResult

from tests.acceptance.support import MODERN, Server, connected, data, serving
from tests.helpers import eventually, run
from tests.helpers.task_client import TASKS

if TYPE_CHECKING:
    from mcp.client import ClientRequestContext

AUTHOR = """
import os, time
from dataclasses import dataclass

from mcp.server.mcpserver import Context
from pydantic import BaseModel

from python_mcp_server import create_server, request_input, smart_async

mcp = create_server()

@dataclass
class Order:
    name: str
    copies: int = 1

class Colour(BaseModel):
    colour: str

@mcp.tool()
@smart_async(default_timeout=60)
def orders(starts: str) -> list[str]:
    with open(starts, "a") as file:
        file.write("x")
    order = request_input("What shall be printed?", Order, key="order")
    sure = request_input("Sure?", {"properties": {"sure": {"type": "boolean"}}, "required": ["sure"]})
    return [order.action, str(order.content), sure.action, str(sure.content)]

@mcp.tool()
@smart_async(default_timeout=60)
async def elicits(ctx: Context) -> str:
    said = await ctx.elicit("Which colour?", Colour)
    return f"{said.action} {type(said).__name__} {said.data.colour if said.action == 'accept' else ''}"

@mcp.tool()
@smart_async(default_timeout=1)
def asks_and_waits(path: str) -> str:
    said = request_input("When?").action
    while not os.path.exists(path):
        time.sleep(0.02)
    return said

if __name__ == "__main__":
    mcp.run()
"""
DONE = ["accept", "{'name': 'cards', 'copies': 2}", "decline", "None"]


@pytest.fixture
def author(tmp_path: Path) -> Path:
    path = tmp_path / "asking_author.py"
    path.write_text(AUTHOR)
    return path


class User:
    """Answers what a client asks it, and remembers what that was."""

    def __init__(self) -> None:
        self.asked: list[ElicitRequestParams] = []
        self.back = asyncio.Event()

    async def __call__(self, _ctx: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.asked.append(params)
        if params.message == "When?":
            await self.back.wait()
            return ElicitResult(action="accept", content={"answer": "now"})
        if params.message == "Sure?":
            return ElicitResult(action="decline")
        if "colour" in params.message:
            return ElicitResult(action="accept", content={"colour": "blue"})
        return ElicitResult(action="accept", content={"name": "cards", "copies": 2})


@pytest.mark.parametrize("mode", [MODERN, "legacy"])
def test_a_client_that_can_ask_its_user_gets_the_result_of_one_call(author: Path, tmp_path: Path, mode: str):
    starts, go, user = tmp_path / "starts", tmp_path / "go", User()

    async def main():
        async with connected(author, mode=mode, elicitation_callback=user) as client:
            assert data(await client.call_tool("orders", {"starts": str(starts)})) == {"result": DONE}
            said = data(await client.call_tool("elicits", {}))
            assert said == {"result": "accept AcceptedElicitation blue"}
            waiting = data(await client.call_tool("py_list_jobs", {"status_filter": "input_required"}))
            assert waiting["jobs"] == []

            if mode == MODERN:  # else the user is still away when the budget is over, and answers after
                user.back.set()
            handle = data(await client.call_tool("asks_and_waits", {"path": str(go)}))
            assert handle["status"] == ("running" if mode == MODERN else "input_required")
            user.back.set()
            go.touch()
            while (job := data(await client.call_tool("py_wait_job", {"job_id": handle["job_id"]}))["job"])[
                "status"
            ] == "input_required":
                await asyncio.sleep(0.05)
            assert job["result"] == "accept"

    run(main())
    assert starts.read_text() == "x"
    messages = ["What shall be printed?", "Sure?", "Which colour?", "When?"]
    assert [each.message for each in user.asked] == messages


def of(*capabilities: str) -> dict[str, Any]:
    """What a client says with a request that it can do."""
    can = {"tasks": {"extensions": {TASKS: {}}}, "elicitation": {"elicitation": {}}}
    said = {key: value for name in capabilities for key, value in can[name].items()}
    return {"io.modelcontextprotocol/clientCapabilities": said}


def open_task(server: Server, task_id: str, key: str) -> dict[str, Any]:
    """Wait until a task asks this, and return it."""

    def look() -> dict[str, Any] | None:
        answer = server.request("tasks/get", {"taskId": task_id}, **of("tasks", "elicitation"))
        return answer["result"] if key in answer["result"].get("inputRequests", {}) else None

    return eventually(look)


def notified(server: Server, key: str) -> None:
    """Wait until the server has told by itself that a task asks this."""
    while not any(key in each["params"].get("inputRequests", {}) for each in server.notifications):
        server.notifications.append(server.message())


def test_questions_are_in_the_task_or_answered_with_a_tool(author: Path, tmp_path: Path):
    starts = tmp_path / "starts"
    with serving(tmp_path, author) as server:
        server.open()
        can = of("tasks", "elicitation")
        task = server.call("orders", {"starts": str(starts)}, **can)
        assert (task["resultType"], task["status"]) == ("task", "input_required")
        task_id = task["taskId"]
        server.ask("subscriptions/listen", {"notifications": {"taskIds": [task_id]}}, **can)
        notified(server, "order")
        found = open_task(server, task_id, "order")
        assert found["statusMessage"] == "What shall be printed?"
        request = found["inputRequests"]["order"]
        assert (request["method"], request["params"]["mode"]) == ("elicitation/create", "form")
        assert request["params"]["requestedSchema"]["required"] == ["name"]
        unable = server.request("tasks/get", {"taskId": task_id}, **of("tasks"))["result"]
        assert (unable["status"], unable["inputRequests"]) == ("input_required", {})

        def update(**responses: Any) -> dict[str, Any]:
            return server.request("tasks/update", {"taskId": task_id, "inputResponses": responses}, **can)

        wrong = {"action": "accept", "content": {"name": "x", "copies": "two"}}
        assert update(order=wrong)["error"]["message"] == (
            "'copies' of the answer is 'two'; it must be an integer"
        )
        right = {"action": "accept", "content": {"name": "cards", "copies": 2, "more": 1}}
        assert update(order=right, other=wrong)["result"]["resultType"] == "complete"
        open_task(server, task_id, "question-1")
        notified(server, "question-1")
        update(**{"order": right, "question-1": {"action": "decline"}})

        handle = server.call("orders", {"starts": str(starts)})["structuredContent"]
        assert handle["status"] == "input_required"
        assert "'order': What shall be printed?" in handle["message"]
        job_id = handle["job_id"]

        def waited() -> dict[str, Any]:
            return server.call("py_wait_job", {"job_id": job_id})["structuredContent"]

        def answer(key: str, **rest: Any) -> dict[str, Any]:
            return server.call("py_answer_job", {"job_id": job_id, "key": key, **rest})

        assert [each["key"] for each in waited()["job"]["questions"]] == ["order"]
        assert not waited()["timed_out"]
        refused = answer("order", response={"nam": "cards"})["content"][0]["text"]
        assert refused == "the answer has 'nam'; the question asks for 'name' (string), 'copies' (integer)"
        assert "no open question 'colour'" in answer("colour", response="red")["content"][0]["text"]
        right = answer("order", response={"name": "cards", "copies": 2})
        assert right["structuredContent"]["job_id"] == job_id
        assert "no open question 'order'" in answer("order", response="late")["content"][0]["text"]
        second = eventually(lambda: waited()["job"].get("questions"))
        assert "structuredContent" in answer(second[0]["key"], action="decline")
        assert waited()["job"]["result"] == DONE
        assert "has ended as completed" in answer("order", response="late")["content"][0]["text"]

        ended = server.request("tasks/get", {"taskId": task_id}, **can)["result"]
        assert ended["result"]["structuredContent"] == {"result": DONE}
    assert starts.read_text() == "xx"  # one for each call
