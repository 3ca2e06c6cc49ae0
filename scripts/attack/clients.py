"""Clients of the servers: each acts at random, now here and now there, and notes what it is told."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from attack import victim
from attack.dice import dice
from attack.expected import SCRIPTS, chosen, label_of
from attack.fleet import Slot
from attack.pruning import prune_options
from attack.stage import Stage
from attack.wire import DEADLINE_S, Server, ServerGone

_ACTIONS: Final = {
    "submit": 28, "call": 10, "status": 18, "wait": 8, "list": 10, "output": 6, "cancel": 14, "prune": 3,
    "command": 2,
}  # fmt: skip
_FREE_TO_FAIL: Final = ("submit", "call")
"""What may be refused while workers and servers are killed; a question about a job may not."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that a client is about to do.

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


class Client:
    """One client."""

    def __init__(self, stage: Stage, slots: list[Slot], number: int) -> None:
        self.name = f"client-{number}"
        self._stage = stage
        self._history = stage.history
        self._slots = slots
        self._dice = dice(stage.seed, self.name)

    async def run(self) -> None:
        """Act until the attack is over."""
        while await self._stage.rest(self._dice.expovariate(4)):
            server = await self._dice.choice(self._slots).present()
            if server is not None:
                await self._act(server)

    async def _act(self, server: Server) -> None:
        what = self._dice.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
        ids = self._history.ids(living=what == "cancel") or ["none"]
        turn = Turn(what, server, self._dice.choice(ids), time.monotonic())
        try:
            await getattr(self, f"_{what}")(turn)
            self._history.answered(f"{self.name} {what}", turn.asked_at)
        except ServerGone:
            self._history.asked["lost with their server"] += 1
        except TimeoutError:
            if server.alive:
                self._history.gave_up(f"{what} was not answered by pid {server.pid} within {DEADLINE_S:g} s")

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

    def _script(self) -> dict[str, Any]:
        kind, value = chosen(self._dice, SCRIPTS)
        return {
            "directory": str(self._stage.folder),
            "script_path": victim.__file__,
            "args": [kind, str(value), str(self._stage.starts)],
            "use_uv": self._dice.random() < 0.5,  # noqa: PLR2004  half of each
            "job_label": label_of(kind, value),
        }

    async def _submit(self, turn: Turn) -> None:
        script = self._script() | {"async_mode": True}
        answer = await self._ask(turn, "py_run_script_in_dir", **script)
        if answer:
            self._history.told(answer["job_id"], turn.asked_at, turn.server.pid)

    async def _call(self, turn: Turn) -> None:
        answer = await self._ask(turn, "py_run_script_in_dir", **self._script())
        if "status" in answer:
            self._history.told(answer["job_id"], turn.asked_at, turn.server.pid)

    async def _status(self, turn: Turn) -> None:
        incremental = self._dice.random() < 0.3  # noqa: PLR2004  three in ten
        asked = {"job_id": turn.job_id, "incremental": incremental}
        answer = await self._ask(turn, "py_job_status", **asked)
        if answer:
            self._history.saw(answer["job"], turn.asked_at, self.name)

    async def _wait(self, turn: Turn) -> None:
        asked = {"job_id": turn.job_id, "timeout_seconds": self._dice.random() * 2}
        answer = await self._ask(turn, "py_wait_job", **asked)
        if answer:
            self._history.saw(answer["job"], turn.asked_at, self.name)

    async def _list(self, turn: Turn) -> None:
        asked = {"limit": self._dice.choice([5, 50, 1000])}
        answer = await self._ask(turn, "py_list_jobs", **asked)
        for job in answer.get("jobs", ()):
            self._history.saw(job, turn.asked_at, self.name)

    async def _output(self, turn: Turn) -> None:
        asked = {"job_id": turn.job_id, "offset": self._dice.choice([0, 100])}
        await self._ask(turn, "py_job_output", **asked)

    async def _cancel(self, turn: Turn) -> None:
        answer = await self._ask(turn, "py_cancel_job", job_id=turn.job_id)
        if answer.get("status") == "cancelled":
            self._history.cancelled(turn.job_id, self.name)

    async def _prune(self, turn: Turn) -> None:
        options = prune_options(self._dice)
        prune = self._history.pruning(**options, pid=turn.server.pid)
        age_hours = options.pop("age_s") / 3600
        answer = await self._ask(turn, "py_prune_jobs", max_age_hours=age_hours, **options)
        prune.over_at = time.monotonic()
        self._history.pruned += answer.get("removed", 0)

    async def _command(self, turn: Turn) -> None:
        """Ask the command line, which may be the first to read a job whose server is gone."""
        if self._dice.random() < 0.5:  # noqa: PLR2004  half of each
            answer, _ = await command(self._stage, "list", "--limit", "200")
            for job in (answer or {}).get("jobs", ()):
                self._history.saw(job, turn.asked_at, "command line")
        elif turn.job_id != "none":
            answer, errors = await command(self._stage, "cancel", turn.job_id)
            if answer and answer["status"] == "cancelled":
                self._history.cancelled(turn.job_id, "command line")
            elif answer is None and "No job" not in errors and "not found" not in errors:
                self._history.gave_up(f"`jobs cancel {turn.job_id}` said: {errors:.300}")


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
    out, errors = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    return (json.loads(out) if out.strip() else None), errors.decode(errors="replace")
