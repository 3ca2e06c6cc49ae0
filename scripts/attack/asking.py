"""Asking servers and the command line, and noting what they say: what all who do so have in common."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from attack import victim
from attack.dice import dice
from attack.expected import label_of
from attack.fleet import Slot
from attack.machine import marked
from attack.stage import Stage
from attack.wire import DEADLINE_S, Server, ServerGone

T = TypeVar("T")
_SHOTS: Final = 2
_START_S: Final = 5.0
_FREE_TO_FAIL: Final = ("submit", "call")
"""What may be refused while workers and servers are killed; a question about a job may not."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that somebody is about to do.

    Attributes:
        what: The action.
        server: Whom it asks.
        job_id: The job that it asks for, where it asks for one.
        asked_at: When it began, on the monotonic clock.
    """

    what: str
    server: Server
    job_id: str
    asked_at: float


class Asker:
    """One who asks servers."""

    def __init__(self, stage: Stage, slots: list[Slot], name: str) -> None:
        self.name = name
        self._stage = stage
        self._history = stage.history
        self._slots = slots
        self._dice: random.Random = dice(stage.seed, name)

    async def _heard(self, turn: Turn, work: Awaitable[T]) -> T | None:
        """Do one thing to its end, which may be that of the server; return what came of it."""
        try:
            found = await work
            self._history.answered(f"{self.name} {turn.what}", turn.asked_at)
        except ServerGone:
            self._history.asked["lost with their server"] += 1
        except TimeoutError:
            if turn.server.alive:
                self._history.gave_up(
                    f"{turn.what} was not answered by pid {turn.server.pid} within {DEADLINE_S:g} s"
                )
        else:
            return found
        return None

    async def _ask(self, turn: Turn, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return what the tool answered; nothing where it refused."""
        answer = await turn.server.call(tool, **arguments)
        result = answer.get("result", {})
        if not result.get("isError", True):
            return result["structuredContent"]
        text = result["content"][0]["text"] if result else json.dumps(answer)
        if text == f"Job {turn.job_id} not found":
            self._history.not_found(turn.job_id, turn.asked_at, self.name)
        elif turn.what in _FREE_TO_FAIL and result:
            self._history.refusals[text.partition(": ")[0][:80]] += 1
        elif _leaving(text) and turn.server.pid in self._history.struck:
            self._history.refusals["answered while it left at SIGTERM"] += 1
        else:
            self._history.gave_up(
                f"{tool} of {turn.job_id} by pid {turn.server.pid} was refused: {text:.300}"
            )
        return {}

    def _script(self, kind: str, value: int) -> dict[str, Any]:
        return {
            "directory": str(self._stage.folder),
            "script_path": victim.__file__,
            "args": [kind, str(value), str(self._stage.starts)],
            "use_uv": self._dice.random() < 0.5,  # noqa: PLR2004  half of each
            "job_label": label_of(kind, value),
        }

    async def _submit(self, turn: Turn, script: dict[str, Any]) -> str | None:
        answer = await self._ask(turn, "py_run_script_in_dir", **script, async_mode=True)
        if not answer:
            return None
        self._told(turn, answer["job_id"], queued=True)
        return answer["job_id"]

    async def _run(self, turn: Turn, script: dict[str, Any]) -> str | None:
        """Call within the budget; return the id of a job that was handed over."""
        answer = await self._ask(turn, "py_run_script_in_dir", **script)
        if "status" not in answer:
            return None
        self._told(turn, answer["job_id"], queued=False)
        return answer["job_id"]

    def _told(self, turn: Turn, job_id: str, *, queued: bool) -> None:
        """Note an id, and look whether another process can read the job at this very instant."""
        self._history.told(job_id, turn.asked_at, turn.server.pid, queued=queued)
        asked_at = time.monotonic()
        if not self._stage.eyes.see(job_id):
            self._history.not_found(job_id, asked_at, "a look at the disk when its id was told")

    async def _cancel(self, turn: Turn) -> None:
        self._history.cancelling(turn.job_id)
        answer = await self._ask(turn, "py_cancel_job", job_id=turn.job_id)
        if answer.get("status") == "cancelled":
            await self._is_cancelled(turn.job_id, self.name)

    async def _is_cancelled(self, job_id: str, by: str) -> None:
        """Somebody was told so: nothing of the job may live any more."""
        self._history.cancelled(job_id, by)
        for one in await asyncio.to_thread(self._living, job_id):
            self._history.gave_up(f"job {job_id} was cancelled for {by}, and its {one} lived still")

    def _living(self, job_id: str) -> list[str]:
        from python_mcp_server import processes

        found = [one for one in marked(self._stage.mark) if one.job_id == job_id]
        job = self._stage.eyes.see(job_id)
        worker = None if job is None else job.worker
        if worker is not None and processes.is_alive(worker):
            return [*(f"{one.kind} {one.pid}" for one in found), f"worker {worker.pid}"]
        return [f"{one.kind} {one.pid}" for one in found]

    async def _status(self, turn: Turn) -> None:
        incremental = self._dice.random() < 0.3  # noqa: PLR2004  three in ten
        asked = {"job_id": turn.job_id, "incremental": incremental}
        answer = await self._ask(turn, "py_job_status", **asked)
        if answer:
            self._history.saw(answer["job"], turn.asked_at, self.name)

    async def _start_of(self, job_id: str) -> float | None:
        """Return when the script started; None where it does not, for a while."""
        until = time.monotonic() + _START_S
        while (started_at := self._stage.eyes.first_start(job_id)) is None:
            if time.monotonic() > until:
                return None
            await asyncio.sleep(0.01)
        return started_at

    async def _shoot(self, job_id: str, at: float, spread_s: tuple[float, float]) -> None:
        """Cancel a job through several servers around this time."""
        slots = self._dice.choices(self._slots, k=_SHOTS)
        times = [at + self._dice.uniform(*spread_s) for _ in slots]
        await asyncio.gather(*(self._shot(job_id, *shot) for shot in zip(slots, times, strict=True)))

    async def _shot(self, job_id: str, slot: Slot, at: float) -> None:
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        server = slot.server
        if server is not None and server.alive:
            turn = Turn("cancel", server, job_id, time.monotonic())
            await self._heard(turn, self._cancel_and_look(turn))

    async def _cancel_and_look(self, turn: Turn) -> None:
        await self._cancel(turn)
        await self._status(Turn("status", turn.server, turn.job_id, time.monotonic()))


def _leaving(text: str) -> bool:
    """Whether a server that was told to leave says so, by itself or by the SDK."""
    return text == "the manager is closed and takes no more calls" or '"Connection closed"' in text


async def command(stage: Stage, *words: str) -> tuple[dict[str, Any] | None, str]:
    """Run `jobs ... --json`; return what it printed, None where that was nothing, and its stderr."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "python_mcp_server", "jobs", *words, "--json",
        stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=stage.environment(),
    )  # fmt: skip
    async with asyncio.timeout(DEADLINE_S):
        out, errors = await process.communicate()
    return (json.loads(out) if out.strip() else None), errors.decode(errors="replace")
