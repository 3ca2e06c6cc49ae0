"""Base of all that call servers or the command line, and record the answers in the history."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from chaos_testing import job_script
from chaos_testing.choices import seeded_random
from chaos_testing.environment import Environment
from chaos_testing.expected import label_of
from chaos_testing.process_table import marked_processes
from chaos_testing.stdio_server import DEADLINE_S, Server, ServerGone
from chaos_testing.supervisors import ServerSlot

T = TypeVar("T")
_CANCELS: Final = 2
_START_S: Final = 5.0
_MAY_BE_REFUSED: Final = ("submit", "call")
"""Actions that may be refused while workers and servers are killed. A question about a job may not."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that an actor does.

    Attributes:
        what: What it is, for the report.
        server: The server that it calls.
        job_id: The job that it concerns, or "none".
        asked_at: When it began, on the monotonic clock.
    """

    what: str
    server: Server
    job_id: str
    asked_at: float


class Actor:
    """Calls servers."""

    def __init__(self, environment: Environment, slots: list[ServerSlot], name: str) -> None:
        self.name = name
        self._environment = environment
        self._history = environment.history
        self._slots = slots
        self._rng: random.Random = seeded_random(environment.seed, name)

    async def _outcome_of(self, action: Action, work: Awaitable[T]) -> T | None:
        """Await one action and record how long it took; return None if its server ended first."""
        try:
            found = await work
            self._history.answered(f"{self.name} {action.what}", action.asked_at)
        except ServerGone:
            self._history.asked["lost with their server"] += 1
        except TimeoutError:
            if action.server.alive:
                self._history.add_breach(
                    f"{action.what} was not answered by pid {action.server.pid} within {DEADLINE_S:g} s"
                )
        else:
            return found
        return None

    async def _call_tool(self, action: Action, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return the structured result of a tool; an empty one if the tool refused."""
        answer = await action.server.call(tool, **arguments)
        result = answer.get("result", {})
        if not result.get("isError", True):
            return result["structuredContent"]
        text = result["content"][0]["text"] if result else json.dumps(answer)
        if text.startswith((f"Job {action.job_id} not found", f"Job {action.job_id} has expired ")):
            self._history.not_found(action.job_id, action.asked_at, self.name)
        elif action.what in _MAY_BE_REFUSED and result:
            self._history.refusals[text.partition(": ")[0][:80]] += 1
        elif _is_shutting_down(text) and action.server.pid in self._history.killed_at:
            self._history.refusals["refused during shutdown after SIGTERM"] += 1
        else:
            self._history.add_breach(
                f"{tool} of {action.job_id} by pid {action.server.pid} was refused: {text:.300}"
            )
        return {}

    def _script(self, kind: str, value: int) -> dict[str, Any]:
        return {
            "directory": str(self._environment.folder),
            "script_path": job_script.__file__,
            "args": [kind, str(value), str(self._environment.starts)],
            "use_uv": self._rng.random() < 0.5,  # noqa: PLR2004  half of each
            "job_label": label_of(kind, value),
        }

    async def _submit(self, action: Action, script: dict[str, Any]) -> str | None:
        answer = await self._call_tool(action, "py_run_script_in_dir", **script, async_mode=True)
        if not answer:
            return None
        self._note_id(action, answer["job_id"], queued=True)
        return answer["job_id"]

    async def _run(self, action: Action, script: dict[str, Any]) -> str | None:
        """Call a tool that may exceed the budget; return the job id if the call was handed over."""
        answer = await self._call_tool(action, "py_run_script_in_dir", **script)
        if "status" not in answer:
            return None
        self._note_id(action, answer["job_id"], queued=False)
        return answer["job_id"]

    def _note_id(self, action: Action, job_id: str, *, queued: bool) -> None:
        """Record an id, and check that another process can read the job at this instant."""
        self._history.told(job_id, action.asked_at, action.server.pid, queued=queued)
        asked_at = time.monotonic()
        if not self._environment.observer.see(job_id):
            self._history.not_found(job_id, asked_at, "a read of the store when its id was returned")

    async def _cancel(self, action: Action) -> None:
        self._history.cancelling(action.job_id)
        answer = await self._call_tool(action, "py_cancel_job", job_id=action.job_id)
        if answer.get("status") == "cancelled":
            await self._check_cancelled(action.job_id, self.name)

    async def _check_cancelled(self, job_id: str, by: str) -> None:
        """Record a reported cancel: no process of the job may be alive now."""
        self._history.cancelled(job_id, by)
        for one in await asyncio.to_thread(self._living, job_id):
            self._history.add_breach(f"job {job_id} was cancelled for {by} while its {one} was alive")

    def _living(self, job_id: str) -> list[str]:
        from python_mcp_server import processes

        found = [one for one in marked_processes(self._environment.mark) if one.job_id == job_id]
        job = self._environment.observer.see(job_id)
        worker = None if job is None else job.worker
        if worker is not None and processes.is_alive(worker):
            return [*(f"{one.kind} {one.pid}" for one in found), f"worker {worker.pid}"]
        return [f"{one.kind} {one.pid}" for one in found]

    async def _status(self, action: Action) -> None:
        incremental = self._rng.random() < 0.3  # noqa: PLR2004  three in ten
        asked = {"job_id": action.job_id, "incremental": incremental}
        answer = await self._call_tool(action, "py_job_status", **asked)
        if answer:
            self._history.saw(answer["job"], action.asked_at, self.name)

    async def _start_of(self, job_id: str) -> float | None:
        """Return when the script started; None if it does not start within five seconds."""
        until = time.monotonic() + _START_S
        while (started_at := self._environment.observer.first_start(job_id)) is None:
            if time.monotonic() > until:
                return None
            await asyncio.sleep(0.01)
        return started_at

    async def _cancel_around(self, job_id: str, at: float, spread_s: tuple[float, float]) -> None:
        """Cancel a job through several servers at about this time."""
        slots = self._rng.choices(self._slots, k=_CANCELS)
        times = [at + self._rng.uniform(*spread_s) for _ in slots]
        await asyncio.gather(*(self._cancel_at(job_id, *each) for each in zip(slots, times, strict=True)))

    async def _cancel_at(self, job_id: str, slot: ServerSlot, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        server = slot.server
        if server is not None and server.alive:
            action = Action("cancel", server, job_id, time.monotonic())
            await self._outcome_of(action, self._cancel_and_look(action))

    async def _cancel_and_look(self, action: Action) -> None:
        await self._cancel(action)
        await self._status(Action("status", action.server, action.job_id, time.monotonic()))


def _is_shutting_down(text: str) -> bool:
    """Whether a refusal, by the server or by the SDK, says that the server is shutting down."""
    return text == "the manager is closed and takes no more calls" or '"Connection closed"' in text


async def run_cli(environment: Environment, *words: str) -> tuple[dict[str, Any] | None, str]:
    """Run `jobs ... --json`; return the JSON that it printed (None if there is none) and its stderr."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "python_mcp_server", "jobs", *words, "--json",
        stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment.variables(),
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE_S):
        out, errors = await process.communicate()
    return (json.loads(out) if out.strip() else None), errors.decode(errors="replace")
