"""Clients of the servers: each acts at random, now here and now there, and notes what it is told."""

from __future__ import annotations

import time
from typing import Final

from attack.asking import Asker, Turn, command
from attack.expected import SCRIPTS, chosen
from attack.pruning import prune_options

_ACTIONS: Final = {
    "new": 28, "call": 14, "status": 18, "wait": 8, "list": 10, "output": 6, "cancel": 14, "prune": 3,
    "command": 2,
}  # fmt: skip


class Client(Asker):
    """One client."""

    async def run(self) -> None:
        """Act until the attack is over."""
        while await self._stage.rest(self._dice.expovariate(4)):
            server = await self._dice.choice(self._slots).present()
            if server is None:
                return
            what = self._dice.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
            ids = self._history.ids(living=what == "cancel") or ["none"]
            named = "submit" if what == "new" else what
            turn = Turn(named, server, self._dice.choice(ids), time.monotonic())
            await self._heard(turn, getattr(self, f"_{what}")(turn))

    async def _new(self, turn: Turn) -> None:
        await self._submit(turn, self._script(*chosen(self._dice, SCRIPTS)))

    async def _call(self, turn: Turn) -> None:
        await self._run(turn, self._script(*chosen(self._dice, SCRIPTS)))

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
            self._history.cancelling(turn.job_id)
            answer, errors = await command(self._stage, "cancel", turn.job_id)
            if answer and answer["status"] == "cancelled":
                await self._is_cancelled(turn.job_id, "command line")
            elif answer is None and "No job" not in errors and "not found" not in errors:
                self._history.gave_up(f"`jobs cancel {turn.job_id}` said: {errors:.300}")
