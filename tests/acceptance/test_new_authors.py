"""What a new author does wrong: each first mistake works, or is answered with a sentence that helps."""

from __future__ import annotations

import re
from pathlib import Path

from tests.acceptance.support import connected, serving
from tests.helpers import run

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
