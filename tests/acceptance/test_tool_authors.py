"""A tool author's own server: decorated tools answer as undecorated ones, from workers of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mcp.shared.exceptions import MCPError

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import Job, JobState
from python_mcp_server.store.files import FileJobStore
from tests.acceptance.shared import Shared, shared
from tests.acceptance.support import MODERN, data, refusal
from tests.helpers import environment, eventually
from tests.helpers.marks import thorough

if TYPE_CHECKING:
    from mcp import Client

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


BY_IMPORT, BY_PATH = ("by import", MODERN), ("by path", "legacy")
both_ways = pytest.mark.parametrize("author", [thorough(BY_PATH), BY_IMPORT], indirect=True, ids="-".join)
by_path = pytest.mark.parametrize("author", [("by path", "auto")], indirect=True, ids="-".join)


class Servers:
    """The author's server, started in each way; all have one home.

    Attributes:
        complaints: What clients could not read.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.complaints: list[Exception] = []
        self.home = folder / "home"
        self._stack = stack
        self._started: dict[tuple[str, str], Shared] = {}
        file = folder / "authors_tools.py"
        file.write_text(TOOLS)
        path = {"PYTHONPATH": f"{environment()['PYTHONPATH']}:{folder}"}
        self._ways: dict[str, tuple[list[str | Path], dict[str, str]]] = {
            "by path": ([file], {"PYTHON_MCP_RECORD_AFTER_SECONDS": "0"}),
            "by import": (["-c", "from authors_tools import mcp; mcp.run()"], path),
        }

    def find(self, way: str, mode: str) -> Shared:
        """Return the server that was started in this way, with a client of this version."""
        if (way, mode) not in self._started:
            arguments, env = self._ways[way]
            made = shared(self.home, *arguments, env=env, mode=mode, message_handler=self._hear)
            self._started[way, mode] = self._stack.enter_context(made)
        return self._started[way, mode]

    async def _hear(self, message: Any) -> None:
        if isinstance(message, Exception):
            self.complaints.append(message)
        await asyncio.sleep(0)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ExitStack() as stack:
        made = Servers(tmp_path_factory.mktemp("authors"), stack)
        yield made
    assert not FileJobStore(made.home).live()


@pytest.fixture
def author(servers: Servers, request: pytest.FixtureRequest) -> Shared:
    """The author's server: its file is `__main__`, or a module that workers can import."""
    return servers.find(*request.param)


@pytest.fixture
def another(servers: Servers) -> JobManager:
    """Whoever has the same home, in another process."""
    return JobManager(FileJobStore(servers.home))


def ended(another: JobManager, job_id: str) -> Job:
    """Wait for the end of a job."""

    def look() -> Job | None:
        job = another.blocking.get(job_id)
        return job if job.status.terminal else None

    return eventually(look)


@both_ways
def test_every_kind_of_result_is_that_of_the_undecorated_tool(author: Shared):
    async def main(client: Client):
        for kind in KINDS:
            plain = await client.call_tool("plain_" + kind, {"n": 3})
            ours = await client.call_tool(kind, {"n": 3})
            assert (ours.content, ours.structured_content) == (plain.content, plain.structured_content), kind
            assert not ours.is_error

    author.run(main)


@both_ways
def test_a_slow_body_is_handed_over_and_gives_the_same_result_once(
    author: Shared, another: JobManager, tmp_path: Path
):
    path = tmp_path / "go"

    async def call(client: Client) -> str:
        heard: list[str | None] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            heard.append(message)
            await asyncio.sleep(0)

        assert data(await client.call_tool("an_int", {"n": 1}))["result"] == 1  # a worker is ready now
        handle = data(await client.call_tool("waits", {"path": str(path)}, progress_callback=hear))
        assert handle["status"] == "running"
        assert any("waiting for the file" in (message or "") for message in heard)
        path.touch()
        return handle["job_id"]

    job = ended(another, author.run(call))
    assert job.status is JobState.COMPLETED
    assert str(job.result).isdigit()
    assert another.blocking.output(job.id).text == "printed by the body\n"
    assert Path(f"{path}.starts").read_text() == "x"


@pytest.mark.parametrize("author", [BY_IMPORT], indirect=True, ids="-".join)
def test_a_body_writes_nothing_to_the_client_and_reads_nothing(author: Shared, servers: Servers):
    async def main(client: Client):
        assert data(await client.call_tool("noise", {}))["result"] == "''"
        assert data(await client.call_tool("an_int", {"n": 4}))["result"] == 4

    author.run(main)
    assert servers.complaints == []


@both_ways
def test_the_bodys_context_reports_progress_to_the_caller(author: Shared):
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))
        await asyncio.sleep(0)

    async def main(client: Client):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        schema = tools["with_context"].input_schema
        assert list(schema["properties"]) == ["n", "async_mode", "job_label"]
        result = await client.call_tool("with_context", {"n": 3}, progress_callback=hear)
        assert data(result)["result"] == 3
        while not heard:  # it travels beside the result
            await asyncio.sleep(0.01)

    author.run(main)
    value, total, message = heard[-1]
    assert (value, total) == (3, 10)
    assert (message or "").startswith("from the context")


@by_path
def test_a_failed_body_gets_a_clear_answer_and_the_next_call_works(author: Shared):
    async def main(client: Client):
        raised = refusal(await client.call_tool("raises", {}))
        assert raised.startswith("ValueError: the body said no")
        assert "Traceback" in raised
        assert "this and that" in refusal(await client.call_tool("raises_oddly", {}))
        assert "3" in refusal(await client.call_tool("dies", {}))
        assert "SIGSEGV" in refusal(await client.call_tool("crashes", {}))
        assert data(await client.call_tool("an_int", {"n": 4}))["result"] == 4

    author.run(main)


@by_path
def test_a_client_that_runs_out_of_patience_finds_its_call_as_a_job(
    author: Shared, another: JobManager, tmp_path: Path
):
    path = tmp_path / "go"

    async def call(client: Client) -> None:
        assert data(await client.call_tool("an_int", {"n": 1}))["result"] == 1  # a worker is ready now
        with pytest.raises(MCPError, match="timed out"):
            await client.call_tool("waits", {"path": str(path)}, read_timeout_seconds=0.5)

    author.run(call)
    (job,), _ = another.blocking.list(JobState.RUNNING)
    assert job.label == "waits"
    path.touch()
    assert ended(another, job.id).status is JobState.COMPLETED
    assert Path(f"{path}.starts").read_text() == "x"


@by_path
def test_a_call_that_its_user_cancels_is_cancelled(author: Shared, another: JobManager, tmp_path: Path):
    def doomed() -> list[Job]:
        return [job for job in another.blocking.list()[0] if job.label == "doomed"]

    async def cancel(client: Client) -> None:
        arguments = {"path": str(tmp_path / "go"), "job_label": "doomed"}
        assert data(await client.call_tool("an_int", {"n": 1}))["result"] == 1  # a worker is ready now
        call = asyncio.create_task(client.call_tool("waits", arguments))
        (job,) = await asyncio.to_thread(eventually, doomed)
        assert job.status is JobState.RUNNING
        call.cancel()
        await asyncio.wait([call])

    author.run(cancel)
    assert ended(another, doomed()[0].id).status is JobState.CANCELLED


@both_ways
def test_a_value_without_json_does_not_end_the_server(author: Shared):
    async def hear(progress: float, total: float | None, message: str | None) -> None:
        await asyncio.sleep(0)

    async def main(client: Client):
        answer = data(await client.call_tool("no_unicode", {}, progress_callback=hear))
        assert answer == {"result": "caf\ufffd"}
        assert "RuntimeError: caf\ufffd" in refusal(await client.call_tool("no_unicode_raised", {}))
        assert "JSON has no NaN and no infinity" in refusal(await client.call_tool("no_number", {}))
        raised = refusal(await client.call_tool("stops", {}))
        assert raised.startswith("StopIteration: nothing is left")
        assert data(await client.call_tool("an_int", {"n": 1}))["result"] == 1

    author.run(main)
