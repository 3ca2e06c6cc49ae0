"""What a new author does wrong: each first mistake works, or is answered with a sentence that helps."""

from __future__ import annotations

import re
from pathlib import Path

from tests.acceptance.support import connected, data, refusal, serving
from tests.helpers import run
from tests.helpers.command_line import command

SERVER = """
import asyncio, os, socket, sys, threading, time
from mcp.server.mcpserver import MCPServer
from python_mcp_server import smart_async

mcp = MCPServer("new")
config = None

class BadInput(Exception):
    pass

def tool(body):
    return mcp.tool()(smart_async(body))

@tool
def reads_a_global_of_main() -> str:
    return config["key"]

@tool
def returns_a_lock():
    return threading.Lock()

@tool
def prints() -> str:
    print("hello")
    return "ok"

def make():
    opened = socket.socket()
    @tool
    def has_a_socket() -> str:
        return str(opened.fileno())
    @tool
    def runs_a_socket() -> str:
        return (lambda: str(opened.fileno()))()

make()

@tool
async def blocks() -> str:
    time.sleep(0.01)
    return "ok"

@tool
async def calls_itself(n: int = 3) -> str:
    return "ok" if n == 0 else await calls_itself(n - 1)

@tool
def forgets_await(n: int = 3) -> str:
    return "ok" if n == 0 else forgets_await(n - 1)

@tool
def exits() -> str:
    sys.exit("no data")

@tool
def leaves() -> str:
    os._exit(3)

@tool
def forks() -> str:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return "ok"

@tool
def asks() -> str:
    return input("name? ")

@tool
def opens() -> str:
    return open("data.txt").read()

@tool
def raises() -> str:
    raise BadInput("no such colour")

"""
GUARD = 'if __name__ == "__main__":\n    '
START = 'config = {"key": "ok"}\n'


ANSWERS = {
    "reads_a_global_of_main": "^ok$",
    "prints": "^ok$",
    "blocks": "^ok$",
    "calls_itself": "^ok$",
    "forgets_await": "^ok$",
    "forks": "^ok$",
    "returns_a_lock": r"_thread.lock has no form in JSON, so its text stands for it",
    "has_a_socket": r"cannot be sent to a worker.*make its variable 'opened' in its body",
    "runs_a_socket": r"cannot be sent to a worker.*make its variable 'opened' in its body",
    "exits": r"^SystemExit: no data.*sys.exit\(\) ends only this call: return a value, or raise",
    "leaves": r"the worker process exited with code 3",
    "asks": r"A body has no stdin: take the value as a parameter",
    "opens": r"'data.txt' is looked up in /.*the working directory of the server.*absolute path",
    "raises": r"^BadInput: no such colour\n",
}


def test_a_first_mistake_works_or_gets_a_sentence_that_helps(tmp_path: Path):
    path = tmp_path / "new.py"
    path.write_text(f"{SERVER}{GUARD}{START}    mcp.run()\n")
    with serving(tmp_path, path, cwd=tmp_path) as new:
        new.open()
        for mistake, answer in ANSWERS.items():
            text = "\n".join(block["text"] for block in new.call(mistake)["content"])
            assert re.search(answer, text, re.DOTALL), (mistake, text)
        assert new.leave() == 0


def test_a_server_without_a_main_guard_answers_too(tmp_path: Path):
    path = tmp_path / "new.py"
    path.write_text(f"{SERVER}{START}mcp.run()\n")

    async def main():
        async with connected(path) as client:
            for tool in ("reads_a_global_of_main", "calls_itself", "forks"):
                assert (await client.call_tool(tool, {})).structured_content == {"result": "ok"}

    run(main())


MODULE = """
from python_mcp_server import InvalidInput

class Odd(Exception):
    class Inner(Exception):
        pass

def odd() -> str:
    raise Odd("no such colour")
def inner() -> str:
    raise Odd.Inner("no such shade")
def silent() -> str:
    raise Odd
def ours() -> str:
    raise InvalidInput("size is -1; give 1 or more")
"""
RAISING = """
import odd_app
from mcp.server.mcpserver import MCPServer
from python_mcp_server import add_job_tools, smart_async
mcp = MCPServer("raising")
for body in (odd_app.odd, odd_app.inner, odd_app.silent, odd_app.ours):
    mcp.tool()(smart_async(body))
add_job_tools(mcp)
mcp.run()
"""
SAID = {
    "odd": "Odd: no such colour",
    "inner": "Inner: no such shade",
    "silent": "Odd",
    "ours": "InvalidInput: size is -1; give 1 or more",
}


def test_every_view_of_a_failed_job_names_the_bare_class(tmp_path: Path):
    (tmp_path / "odd_app.py").write_text(MODULE)
    path = tmp_path / "raising.py"
    path.write_text(RAISING)

    async def main():
        async with connected(path, env={"PYTHONPATH": str(tmp_path)}) as client:
            ids = {}
            for tool, sentence in SAID.items():
                ids[tool] = data(await client.call_tool(tool, {"async_mode": True}))["job_id"]
                wait = {"job_id": ids[tool], "timeout_seconds": 60}
                waited = data(await client.call_tool("py_wait_job", wait))["job"]
                status = data(await client.call_tool("py_job_status", {"job_id": ids[tool]}))["job"]
                said = refusal(await client.call_tool(tool, {})).partition("\n")[0]
                assert said == sentence.removeprefix("InvalidInput: ")
                assert [each["error"].partition("\n")[0] for each in (waited, status)] == [sentence] * 2
            listed = data(await client.call_tool("py_list_jobs", {}))["jobs"]
            assert {job["id"]: job["note"] for job in listed} == {ids[tool]: SAID[tool] for tool in SAID}
            for tool, sentence in SAID.items():
                shown = command("jobs", "show", ids[tool]).stdout
                assert f"(exception) {sentence}" in shown
                assert f"{ids[tool]} failed: {sentence}\n" == command("jobs", "wait", ids[tool]).stdout

    run(main())
