"""A tool author's own server: decorated tools answer as undecorated ones, from workers of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from tests.acceptance.support import MODERN, connected, data, refusal
from tests.helpers import environment, eventually, run
from tests.helpers.marks import thorough

TOOLS = '''
import asyncio, ctypes, dataclasses, os, sys, time
from typing import Any, NotRequired
from typing_extensions import TypedDict

from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel
from python_mcp_server import current_job, report_progress, smart_async

mcp = MCPServer("author")

class Pair(TypedDict):
    left: int
    right: NotRequired[str]

@dataclasses.dataclass
class Point:
    x: int
    names: list[str]

class Report(BaseModel):
    number: int
    note: str | None = None

class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

def an_int(n: int) -> int:
    return n
def a_text(n: int) -> str:
    return str(n)
def a_list(n: int) -> list[str]:
    return [str(n)]
def a_dict(n: int) -> dict[str, Any]:
    return {"n": n}
def a_typed_dict(n: int) -> Pair:
    return {"left": n}
def a_dataclass(n: int) -> Point:
    return Point(n, ["a"])
def a_model(n: int) -> Report:
    return Report(number=n)
def nothing(n: int) -> None:
    return None
def anything(n):
    return {"n": n}
async def a_coroutine(n: int) -> int:
    await asyncio.sleep(0)
    return n

bodies = an_int, a_text, a_list, a_dict, a_typed_dict, a_dataclass, a_model, nothing, anything, a_coroutine
for body in bodies:
    mcp.tool(name="plain_" + body.__name__)(body)
    mcp.tool()(smart_async()(body))

@mcp.tool()
@smart_async(default_timeout=2.0)
def waits(path: str) -> str:
    """Wait for a file."""
    print("printed by the body")
    with open(path + ".starts", "a") as file:
        file.write("x")
    while not os.path.exists(path):
        report_progress(1, 2, "waiting for the file")
        time.sleep(0.02)
    return f"{os.getpid()}"

@mcp.tool()
@smart_async()
def noise() -> str:
    print("from print", flush=True)
    os.write(1, b"from fd 1\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"from C")
    libc.fflush(None)
    os.system("echo from a shell")
    return repr(sys.stdin.read())

@mcp.tool()
@smart_async()
async def with_context(n: int, ctx: Context) -> int:
    await ctx.report_progress(n, 10, "from the context")
    await ctx.info("noted")
    return n

@mcp.tool()
@smart_async()
def raises() -> int:
    raise ValueError("the body said no")

@mcp.tool()
@smart_async()
def raises_oddly() -> int:
    raise Unpicklable("this", "that")

@mcp.tool()
@smart_async()
def dies() -> int:
    os._exit(3)

@mcp.tool()
@smart_async()
def crashes() -> int:
    ctypes.string_at(0)

BROKEN = os.fsdecode(b"caf\\xe9")

@mcp.tool()
@smart_async()
def no_unicode() -> str:
    report_progress(1, 2, BROKEN)
    return BROKEN

@mcp.tool()
@smart_async()
def no_unicode_raised() -> str:
    raise RuntimeError(BROKEN)

@mcp.tool()
@smart_async()
def no_number() -> float:
    return float("inf")

@mcp.tool()
@smart_async()
def stops() -> int:
    raise StopIteration("nothing is left")

if __name__ == "__main__":
    mcp.run()
'''
KINDS = (
    "an_int", "a_text", "a_list", "a_dict", "a_typed_dict", "a_dataclass", "a_model", "nothing", "anything",
    "a_coroutine",
)  # fmt: skip


PAIRS = [("by path", "legacy"), ("by import", MODERN)]
ONE_PAIR = [thorough("by path", "legacy"), ("by import", MODERN)]


@pytest.fixture(params=["by path", "by import"])
def author(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """How the author's server is started: its file is `__main__`, or a module that workers can import."""
    (tmp_path / "authors_tools.py").write_text(TOOLS)
    if request.param == "by path":
        return {"arguments": [tmp_path / "authors_tools.py"], "env": {}}
    env = {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{tmp_path}"}
    return {"arguments": ["-c", "from authors_tools import mcp; mcp.run()"], "env": env}


by_path = pytest.mark.parametrize("author", ["by path"], indirect=True)
by_import = pytest.mark.parametrize("author", ["by import"], indirect=True)


def client_of(author: dict[str, Any], **options: Any) -> Any:
    return connected(*author["arguments"], env=author["env"], **options)


@pytest.mark.parametrize(("author", "mode"), PAIRS, indirect=["author"])
def test_every_kind_of_result_is_that_of_the_undecorated_tool(author: dict[str, Any], mode: Any):
    async def main():
        async with client_of(author, mode=mode) as client:
            for kind in KINDS:
                plain = await client.call_tool("plain_" + kind, {"n": 3})
                ours = await client.call_tool(kind, {"n": 3})
                assert (ours.content, ours.structured_content) == (plain.content, plain.structured_content), (
                    kind
                )
                assert not ours.is_error

    run(main())


@pytest.mark.parametrize(("author", "mode"), PAIRS, indirect=["author"])
def test_a_slow_body_is_handed_over_starts_once_and_its_result_is_the_same(
    author: dict[str, Any], mode: Any, tmp_path: Path
):
    async def main():
        path = tmp_path / f"go-{mode}"
        async with client_of(author, mode=mode) as client:
            heard: list[str | None] = []

            async def hear(progress: float, total: float | None, message: str | None) -> None:
                heard.append(message)
                await asyncio.sleep(0)

            assert data(await client.call_tool("an_int", {"n": 1}))["result"] == 1  # a worker is ready now
            handle = data(await client.call_tool("waits", {"path": str(path)}, progress_callback=hear))
            assert handle["status"] == "running"
            assert any("waiting for the file" in (message or "") for message in heard)
            path.touch()
        async with connected() as ours:
            wait = {"job_id": handle["job_id"], "timeout_seconds": 60}
            job = data(await ours.call_tool("py_wait_job", wait))["job"]
            assert job["status"] == "completed"
            assert job["result"].isdigit()
            page = data(await ours.call_tool("py_job_output", {"job_id": handle["job_id"]}))
            assert page["text"] == "printed by the body\n"

    run(main())
    assert Path(f"{tmp_path}/go-{mode}.starts").read_text() == "x"


@by_import
def test_nothing_that_a_body_writes_reaches_the_client_and_it_reads_nothing(author: dict[str, Any]):
    async def main():
        complaints: list[Exception] = []

        async def hear(message: Any) -> None:
            if isinstance(message, Exception):
                complaints.append(message)
            await asyncio.sleep(0)

        async with client_of(author, message_handler=hear) as client:
            assert data(await client.call_tool("noise", {}))["result"] == "''"
            assert data(await client.call_tool("an_int", {"n": 4}))["result"] == 4
        assert complaints == []

    run(main())


@pytest.mark.parametrize(("author", "mode"), ONE_PAIR, indirect=["author"])
def test_the_bodys_context_reports_progress_to_the_caller(author: dict[str, Any], mode: Any):
    async def main():
        heard: list[tuple[float, float | None, str | None]] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            heard.append((progress, total, message))
            await asyncio.sleep(0)

        async with client_of(author, mode=mode) as client:
            schema = {tool.name: tool for tool in (await client.list_tools()).tools}[
                "with_context"
            ].input_schema
            assert list(schema["properties"]) == ["n", "async_mode", "job_label"]
            result = await client.call_tool("with_context", {"n": 3}, progress_callback=hear)
            assert data(result)["result"] == 3
        value, total, message = heard[-1]
        assert (value, total) == (3, 10)
        assert (message or "").startswith("from the context")

    run(main())


@by_path
def test_a_body_that_fails_in_any_way_is_a_clear_answer_and_the_next_call_works(author: dict[str, Any]):
    async def main():
        async with client_of(author) as client:
            raised = refusal(await client.call_tool("raises", {}))
            assert raised.startswith("ValueError: the body said no")
            assert "Traceback" in raised
            assert "this and that" in refusal(await client.call_tool("raises_oddly", {}))
            assert "3" in refusal(await client.call_tool("dies", {}))
            assert "SIGSEGV" in refusal(await client.call_tool("crashes", {}))
            assert data(await client.call_tool("an_int", {"n": 4}))["result"] == 4

    run(main())


@by_path
def test_a_client_that_runs_out_of_patience_finds_its_call_as_a_job(author: dict[str, Any], tmp_path: Path):
    async def main():
        path = tmp_path / "go"
        author["env"]["PYTHON_MCP_RECORD_AFTER_SECONDS"] = "0"
        async with client_of(author) as client:
            assert data(await client.call_tool("an_int", {"n": 1}))["result"] == 1  # a worker is ready now
            with pytest.raises(MCPError, match="timed out"):
                await client.call_tool("waits", {"path": str(path)}, read_timeout_seconds=0.5)
        async with connected() as ours:
            listed = data(await ours.call_tool("py_list_jobs", {"status_filter": "running"}))["jobs"]
            assert [job["label"] for job in listed] == ["waits"]
            path.touch()
            wait = {"job_id": listed[0]["id"], "timeout_seconds": 60}
            assert data(await ours.call_tool("py_wait_job", wait))["job"]["status"] == "completed"
        return path

    path = run(main())
    assert Path(f"{path}.starts").read_text() == "x"


@by_path
def test_a_call_that_its_user_cancels_is_cancelled(author: dict[str, Any], tmp_path: Path):
    async def main():
        path = tmp_path / "go"
        author["env"]["PYTHON_MCP_RECORD_AFTER_SECONDS"] = "0"
        async with client_of(author) as client:
            assert data(await client.call_tool("an_int", {"n": 1}))["result"] == 1  # a worker is ready now
            call = asyncio.create_task(client.call_tool("waits", {"path": str(path)}))
            await asyncio.to_thread(eventually, Path(f"{path}.starts").exists)
            call.cancel()
            await asyncio.wait([call])
        async with connected() as ours:
            listed = data(await ours.call_tool("py_list_jobs", {"status_filter": "running"}))["jobs"]
            assert listed == []

    run(main())


@pytest.mark.parametrize(("author", "mode"), ONE_PAIR, indirect=["author"])
def test_what_json_cannot_carry_neither_ends_the_server_nor_hides_the_reason(
    author: dict[str, Any], mode: Any
):
    async def hear(progress: float, total: float | None, message: str | None) -> None:
        await asyncio.sleep(0)

    async def main():
        async with client_of(author, mode=mode) as client:
            answer = data(await client.call_tool("no_unicode", {}, progress_callback=hear))
            assert answer == {"result": "caf\ufffd"}
            assert "RuntimeError: caf\ufffd" in refusal(await client.call_tool("no_unicode_raised", {}))
            assert "it holds inf" in refusal(await client.call_tool("no_number", {}))
            raised = refusal(await client.call_tool("stops", {}))
            assert raised.startswith("StopIteration: nothing is left")
            assert data(await client.call_tool("an_int", {"n": 1}))["result"] == 1

    run(main())
