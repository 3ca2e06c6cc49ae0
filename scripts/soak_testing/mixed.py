"""A mix of tool calls at a steady rate against `python-mcp-server serve` over stdio."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import psutil
from mcp import Client, MCPError, StdioServerParameters

from python_mcp_server.store.files import FileJobStore
from soak_testing.trend import report

_WEIGHTS: Final = {
    "list": 30, "run": 15, "async run": 7, "status": 23, "cancel": 5, "output": 15, "prune": 2,
    "tools/list": 3,
}  # fmt: skip
_BUDGET_S: Final = 2
_MAX_OPEN: Final = 40
"""Further calls are skipped and counted, so that a slow machine gets the load that it can bear."""

_ANSWER_S: Final = 120.0
_SAMPLES: Final = 20
"""At least so many are taken, in a short run more often than each minute."""

_PRUNE: Final = {"max_age_hours": 0.02, "keep_completed": False, "keep_failed": False}
"""So that the store holds about a hundred jobs after the first two minutes."""

_EXIT_S: Final = 10.0
_SCRIPT: Final = "import time\nfor step in range(10):\n    print(step, flush=True)\n    time.sleep(0.1)\n"
_SCRIPTS: Final = {"run": ("print(1)", False), "async run": (_SCRIPT, True)}


@dataclass(frozen=True, slots=True)
class Sample:
    """What the server and its workers hold at one moment; sizes are in kB."""

    server_rss: int
    server_uss: int
    descriptors: int
    threads: int
    largest_worker_rss: int
    largest_worker_uss: int
    workers: int
    jobs: int


class MixedLoad:
    """Calls a server, and counts the answers and the failures."""

    def __init__(self, client: Client, folder: str) -> None:
        self.done: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.skipped = 0
        self._client = client
        self._folder = folder
        self._rng = random.Random(1)  # noqa: S311  chances, not secrets
        self._job_ids: deque[str] = deque(maxlen=20)
        self._open: set[asyncio.Task[None]] = set()

    def start_one(self) -> None:
        """Start a call of a random kind, unless too many are open."""
        if len(self._open) >= _MAX_OPEN:
            self.skipped += 1
            return
        task = asyncio.create_task(self._one())
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def finish(self) -> None:
        """Wait for the open calls."""
        await asyncio.gather(*self._open)

    async def _one(self) -> None:
        kind = self._rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._do(kind)
            self.done[kind] += 1
        except (MCPError, TimeoutError) as error:
            self.failures[f"{kind}: {type(error).__name__}: {error}"[:120]] += 1

    async def _do(self, kind: str) -> None:
        if kind == "tools/list":
            await self._client.list_tools()
        elif kind == "list":
            await self._call(kind, "py_list_jobs", limit=20)
        elif kind == "prune":
            await self._call(kind, "py_prune_jobs", **_PRUNE)
        elif kind in _SCRIPTS:
            await self._run_script(kind)
        elif self._job_ids:
            job_id = self._job_ids[-1] if kind == "cancel" else self._rng.choice(self._job_ids)
            tool = {"status": "py_job_status", "cancel": "py_cancel_job", "output": "py_job_output"}[kind]
            await self._call(kind, tool, job_id=job_id)

    async def _run_script(self, kind: str) -> None:
        content, in_background = _SCRIPTS[kind]
        arguments = {"directory": self._folder, "script_content": content, "use_uv": False}
        answer = await self._call(kind, "py_run_script_in_dir", **arguments, async_mode=in_background)
        if job_id := answer.get("job_id"):
            self._job_ids.append(job_id)

    async def _call(self, kind: str, tool: str, **arguments: Any) -> dict[str, Any]:
        result = await self._client.call_tool(tool, arguments)
        if result.is_error:
            text = getattr(result.content[0], "text", "")
            if not text.endswith(" not found"):  # a job that a prune removed
                self.failures[f"{kind}: {text}"[:120]] += 1
        return result.structured_content or {}


async def soak(seconds: float, rate: float) -> int:
    """Run the load; return 0 if all is flat, 1 if something grows, a call fails or a process is left."""
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as place:
        home, folder = Path(place) / "home", Path(place) / "work"
        folder.mkdir()
        variables = {"PYTHON_MCP_HOME": str(home), "SMART_ASYNC_TIMEOUT_SECONDS": str(_BUDGET_S)}
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "python_mcp_server", "serve"], env={**os.environ, **variables}
        )
        async with Client(server) as client:
            load = MixedLoad(client, str(folder))
            samples = await _run(load, home, seconds, rate)
        left = await asyncio.to_thread(_processes_left, home)
    series = {
        field.name.replace("_", " "): [(minute, getattr(sample, field.name)) for minute, sample in samples]
        for field in fields(Sample)
    }
    table, flat = report(series, "minute")
    print(table)
    print(
        f"calls: {_counts(load.done)}; skipped: {load.skipped}; failures: {_counts(load.failures) or 'none'}"
    )
    print(f"processes left: {'; '.join(left) or 'none'}")
    return 0 if flat and not load.failures and not left else 1


async def _run(load: MixedLoad, home: Path, seconds: float, rate: float) -> list[tuple[float, Sample]]:
    samples: list[tuple[float, Sample]] = []
    between_s = min(60.0, seconds / _SAMPLES)
    started = due = time.monotonic()
    while (passed_s := time.monotonic() - started) < seconds:
        load.start_one()
        due += 1 / rate
        if passed_s >= len(samples) * between_s:
            sample = await asyncio.to_thread(_sample, home)
            samples.append((passed_s / 60, sample))
            print(f"{passed_s / 60:6.1f} min, {load.done.total():,} calls: {_shown(sample)}", flush=True)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await load.finish()
    return samples


def _sample(home: Path) -> Sample:
    (server,) = (child for child in psutil.Process().children() if "serve" in child.cmdline())
    memory = server.memory_full_info()
    workers = list(_worker_sizes(server))
    store = FileJobStore(home)
    try:
        jobs = len(store.list(limit=1_000_000)[0])
    finally:
        store.close()
    return Sample(
        memory.rss // 1024,
        memory.uss // 1024,
        server.num_fds(),
        server.num_threads(),
        max((rss for rss, _ in workers), default=0),
        max((uss for _, uss in workers), default=0),
        len(workers),
        jobs,
    )


def _worker_sizes(server: psutil.Process) -> Iterator[tuple[int, int]]:
    """Yield RSS and USS of each worker, in kB; workers that end meanwhile are left out."""
    for child in server.children():
        try:
            if any("popen_loky" in word for word in child.cmdline()):
                memory = child.memory_full_info()
                yield memory.rss // 1024, memory.uss // 1024
        except psutil.Error:
            continue


def _processes_left(home: Path) -> list[str]:
    """Wait until no process of this home is left; return those that do not end."""
    deadline = time.monotonic() + _EXIT_S
    while found := list(_processes_of(home)):
        if time.monotonic() > deadline:
            return found
        time.sleep(0.2)
    return []


def _processes_of(home: Path) -> Iterator[str]:
    for process in psutil.process_iter():
        try:
            if process.environ().get("PYTHON_MCP_HOME") == str(home):
                yield f"{process.pid} {' '.join(process.cmdline())[:80]}"
        except psutil.Error:
            continue


def _shown(sample: Sample) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in asdict(sample).items())


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())
