"""The steps of `demo`, and the scripts that it runs.

Each step shows its figures, and raises `Unfulfilled` where its promise does not hold.
"""

from __future__ import annotations

import asyncio
import inspect
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
from rich.padding import Padding
from rich.text import Text

from python_mcp_server import processes
from python_mcp_server.cli.client import Connection, connected
from python_mcp_server.cli.show import console
from python_mcp_server.errors import PythonMcpError
from python_mcp_server.jobs.rows import plain
from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes import JOB_VARIABLE
from python_mcp_server.runner.textfile import split_lines
from python_mcp_server.settings import BUDGET_VARIABLE

if TYPE_CHECKING:
    from rich.console import Console


WORK_OF_BUDGET: Final = 2.5
"""CPU time of the heavy script: well above the budget of the demonstration, even where the first
look at the machine's speed was wrong by half."""

_TRIES: Final = 3  # the quickest counts: a noisy moment would make the work too short
_STEP: Final = 20_000


def primes_between(low: int, high: int) -> list[int]:
    """Return the primes in a range by trial division: nothing but CPU."""
    return [n for n in range(low, high) if all(n % d for d in range(2, int(n**0.5) + 1))]


HELLO: Final = """\
import platform, sys
print("hello from Python", platform.python_version(), "with", sys.argv[1:])
"""

PRIMES: Final = f"""\
import hashlib, sys

{inspect.getsource(primes_between)}
steps, low, count, digest = int(sys.argv[1]), 1_000_000, 0, hashlib.sha256()
for i in range(steps):
    found = primes_between(low, low + {_STEP})
    low += {_STEP}
    count += len(found)
    digest.update(repr(found).encode())
    print(f"{{i + 1}}/{{steps}}: {{count}} primes from 1000000 to {{low}}", flush=True)
print("digest", digest.hexdigest()[:16])
"""
"""A script that takes the number of its steps, which are nearly equal."""

STUBBORN: Final = """\
import signal, subprocess, sys
spin = "import signal\\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\\nwhile True: pass"
child = subprocess.Popen([sys.executable, "-c", spin])
print("child", child.pid, flush=True)
while True: pass
"""
"""A script of two processes that use a core each; the child ignores SIGTERM."""


def steps_for(cpu_s: float) -> int:
    """Return how many steps of `PRIMES` take this much CPU time on this machine."""
    return max(1, round(cpu_s / max(1e-3, min(_step_s() for _ in range(_TRIES)))))


def _step_s() -> float:
    begin = time.process_time()
    primes_between(1_000_000, 1_000_000 + _STEP)
    return time.process_time() - begin


_PATIENCE_S: Final = 120.0
_POLLS_OF_BUDGET: Final = 3
_CALLS: Final = 40
_RUN: Final = "py_run_script_in_dir"
_FAMILY: Final = 2
"""The processes of the stubborn script: itself and its child."""


class Unfulfilled(PythonMcpError):
    """A step did not keep its promise."""


def demonstrate(budget_s: float) -> int:
    """Run all steps; return 0 if each held.

    Args:
        budget_s: How long the first server waits for a call.

    Raises:
        Unfulfilled: A step did not hold; the text names it.
    """
    with tempfile.TemporaryDirectory(prefix="python-mcp-demo-") as name:
        show = Demonstration(Path(name), console(), budget_s)
        return asyncio.run(show.run())


class Demonstration:
    """One run through all steps."""

    def __init__(self, place: Path, out: Console, budget_s: float) -> None:
        self._place = place
        self._out = out
        self._budget_s = budget_s
        self._step = 0
        self._title = ""
        self._client: Connection | None = None
        self._steps = str(steps_for(budget_s * WORK_OF_BUDGET))
        self._job_id = ""
        self._finished = ""
        self._result: dict[str, Any] = {}

    async def run(self) -> int:
        """Run all steps, on two connections."""
        begin = time.monotonic()
        home = self._place / "home"
        # What a demonstration began ends with it; a server that serves lets handed-over jobs go on.
        hasty = {BUDGET_VARIABLE: str(self._budget_s), "PYTHON_MCP_ON_EXIT": "cancel"}
        try:
            async with asyncio.timeout(_PATIENCE_S):
                async with connected(home, **hasty) as self._client:
                    self._fact(f"a server over stdio, connected in {time.monotonic() - begin:.1f} s")
                    await self._warmed_up()
                    await self._in_time()
                    await self._handed_over()
                    await self._watched()
                    await self._awake()
                    await self._cancelled()
                async with connected(home, **{BUDGET_VARIABLE: str(_PATIENCE_S)}) as self._client:
                    await self._reconnected()
                    await self._same_in_time()
        except* TimeoutError:
            raise self._broken(f"it took longer than {_PATIENCE_S:.0f} s") from None
        except* PythonMcpError as group:
            raise self._broken(str(next(_leaves(group)))) from None
        except* (OSError, SystemExit) as group:  # stdout takes no more
            raise next(_leaves(group)) from None
        self._out.print(f"\n[bold green]All {self._step} steps held[/], in {time.monotonic() - begin:.1f} s.")
        return 0

    # ---- the steps

    async def _warmed_up(self) -> None:
        """Wait for the first worker: on a busy machine its start may take longer than the budget."""
        answer, took_s = await self._timed(_RUN, script_content=HELLO)
        if "job_id" in answer:
            arguments = {"job_id": answer["job_id"], "timeout_seconds": _PATIENCE_S}
            answer = (await self._call("py_wait_job", **arguments))["job"]["result"]
        self._expect(answer.get("exit_code") == 0, answer)
        self._fact(f"its first call, with the start of a worker, took {took_s * 1000:.0f} ms")

    async def _in_time(self) -> None:
        self._begin("A script that ends in time answers with its result")
        answer, took_s = await self._timed(_RUN, script_content=HELLO, args=["some", "arguments"])
        self._expect(answer.get("exit_code") == 0 and "hello from Python" in answer["stdout"], answer)
        self._fact(f"answered in {took_s * 1000:.0f} ms: {answer['stdout'].strip()}")

    async def _handed_over(self) -> None:
        self._begin(f"A CPU-heavy script goes on past the budget of {self._budget_s} s")
        answer, took_s = await self._timed(
            _RUN, script_content=PRIMES, args=[self._steps], job_label="primes"
        )
        self._expect("job_id" in answer, answer)
        self._job_id = answer["job_id"]
        self._fact(f"answered in {took_s:.3f} s with the id of a job: {self._job_id}")
        self._fact(answer["message"])
        self._expect(took_s < self._budget_s + 2, f"the reply took {took_s:.1f} s")

    async def _watched(self) -> None:
        self._begin("While it runs, its memory, CPU and output can be read; then its result")
        offset, samples = 0, 0
        while (job := await self._job())["status"] == "running":
            page = await self._call("py_job_output", job_id=self._job_id, offset=offset)
            offset = page["next_offset"]
            if job["usage"] and page["text"]:
                samples += 1
                self._fact(f"{_usage(job['usage'])}; prints: {split_lines(page['text'])[-1]}")
            await asyncio.sleep(self._budget_s / _POLLS_OF_BUDGET * max(1, samples / 4))
        waited = await self._call("py_wait_job", job_id=self._job_id)
        self._result = waited["job"]["result"]
        self._expect(waited["job"]["status"] == "completed" and self._result["exit_code"] == 0, waited)
        self._expect(samples > 0, "no memory, CPU and output were seen while it ran")
        self._fact(f"result after {self._result['elapsed_seconds']:.1f} s: {_last(self._result)}")

    async def _awake(self) -> None:
        self._begin("The server stays awake beside busy bodies")
        idle_s = await self._median_call_s()
        started, took_s = await self._timed(_RUN, script_content=STUBBORN, job_label="busy", async_mode=True)
        self._job_id, finished = started["job_id"], self._job_id
        self._fact(f"async_mode answered in {took_s * 1000:.0f} ms; two processes now take a core each")
        while len(_processes_of(self._job_id)) < _FAMILY:
            self._expect((await self._job())["status"] in ("pending", "running"), await self._job())
            await asyncio.sleep(0.02)
        busy_s = await self._median_call_s(finished)
        self._fact(f"a look at a job takes {idle_s * 1000:.1f} ms idle, {busy_s * 1000:.1f} ms busy (median)")
        self._expect(busy_s < 1, f"a look at a job took {busy_s:.1f} s")
        self._finished = finished

    async def _cancelled(self) -> None:
        self._begin("Cancelled means dead: also a child that ignores SIGTERM")
        before = _processes_of(self._job_id)
        self._fact(f"processes before: {', '.join(str(process.pid) for process in before)}")
        answer, took_s = await self._timed("py_cancel_job", job_id=self._job_id)
        left = {*filter(processes.is_alive, before), *_processes_of(self._job_id)}
        self._fact(f"{answer['status']} in {took_s * 1000:.0f} ms; processes left: {len(left)}")
        self._expect(answer["status"] == "cancelled" and not left and len(before) >= _FAMILY, answer)
        self._job_id = self._finished

    async def _reconnected(self) -> None:
        self._begin("A new client, on a new server, reads the finished job")
        job = await self._job()
        self._fact(f"{job['id']}: {job['status']}, {_last(job['result'])}")
        self._expect(job["status"] == "completed" and job["result"] == self._result, job)

    async def _same_in_time(self) -> None:
        self._begin("The same computation without a hand-off gives the same result")
        answer, took_s = await self._timed(_RUN, script_content=PRIMES, args=[self._steps])
        self._expect(answer.get("exit_code") == 0, answer)
        self._fact(f"answered in {took_s:.1f} s: {_last(answer)}")
        self._expect(answer["stdout"] == self._result["stdout"], "the results differ")

    # ---- services

    async def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        if self._client is None:
            raise Unfulfilled("there is no connection")
        return await self._client.call(tool, arguments)

    async def _timed(self, tool: str, **arguments: Any) -> tuple[dict[str, Any], float]:
        if tool == _RUN:
            arguments["directory"] = str(self._place)
        begin = time.monotonic()
        answer = await self._call(tool, **arguments)
        return answer, time.monotonic() - begin

    async def _job(self) -> dict[str, Any]:
        return (await self._call("py_job_status", job_id=self._job_id))["job"]

    async def _median_call_s(self, job_id: str | None = None) -> float:
        job_id = job_id or self._job_id
        return statistics.median(
            [(await self._timed("py_job_status", job_id=job_id))[1] for _ in range(_CALLS)]
        )

    # ---- telling

    def _begin(self, title: str) -> None:
        self._step += 1
        self._title = title
        self._out.print(f"\n[bold]{self._step}. {title}[/]")

    def _fact(self, text: str) -> None:
        self._out.print(Padding(Text(plain(text)), (0, 0, 0, 3), expand=False))

    def _expect(self, held: bool, found: object) -> None:
        if not held:
            raise Unfulfilled(f"found {found}")

    def _broken(self, why: str) -> Unfulfilled:
        where = f"step {self._step} ({self._title})" if self._step else "the start"
        return Unfulfilled(f"the demonstration broke at {where}: {why}")


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield error


def _processes_of(job_id: str) -> list[ProcessIdentity]:
    """Return the living processes of a job, script and children: its id is in their environment."""
    carriers = [one.pid for one in psutil.process_iter() if _environment(one).get(JOB_VARIABLE) == job_id]
    return [identity for identity in map(processes.identify, carriers) if identity is not None]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}  # gone, or not ours


def _usage(usage: dict[str, Any]) -> str:
    count = usage["processes"]
    memory = f"{usage['rss_mb']:.0f} MB in {count} process{'es' if count > 1 else ''}"
    return f"{memory}, {usage['cpu_seconds']:.1f} s of CPU time"


def _last(result: dict[str, Any]) -> str:
    lines = split_lines(result["stdout"])
    return ", ".join(lines[-2:])
