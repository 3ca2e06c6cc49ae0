"""Clients of the servers: each calls a random tool of a random server, and records the answer."""

from __future__ import annotations

import time
from typing import Final

from chaos_testing.actor import Action, Actor, run_cli
from chaos_testing.choices import choose_kind, choose_prune
from chaos_testing.expected import SCRIPTS

_ACTIONS: Final = {
    "new": 28, "call": 14, "status": 18, "wait": 8, "list": 10, "output": 6, "cancel": 14, "prune": 3,
    "command": 2,
}  # fmt: skip
_PRUNED: Final = ("No job", "not found", "has expired")
"""Words of the command line on a job that another client has pruned meanwhile."""


class Client(Actor):
    """A client that does one thing after another."""

    async def run(self) -> None:
        """Act until the experiment ends."""
        while await self._environment.pause(self._rng.expovariate(4)):
            server = await self._rng.choice(self._slots).wait_for_server()
            if server is None:
                return
            what = self._rng.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
            ids = self._history.ids(living=what == "cancel") or ["none"]
            named = "submit" if what == "new" else what
            action = Action(named, server, self._rng.choice(ids), time.monotonic())
            await self._outcome_of(action, getattr(self, f"_{what}")(action))

    async def _new(self, action: Action) -> None:
        await self._submit(action, self._script(*choose_kind(self._rng, SCRIPTS)))

    async def _call(self, action: Action) -> None:
        await self._run(action, self._script(*choose_kind(self._rng, SCRIPTS)))

    async def _wait(self, action: Action) -> None:
        asked = {"job_id": action.job_id, "timeout_seconds": self._rng.random() * 2}
        answer = await self._call_tool(action, "py_wait_job", **asked)
        if answer:
            self._history.saw(answer["job"], action.asked_at, self.name)

    async def _list(self, action: Action) -> None:
        asked = {"limit": self._rng.choice([5, 50, 1000])}
        answer = await self._call_tool(action, "py_list_jobs", **asked)
        for job in answer.get("jobs", ()):
            self._history.saw(job, action.asked_at, self.name)

    async def _output(self, action: Action) -> None:
        asked = {"job_id": action.job_id, "offset": self._rng.choice([0, 100])}
        await self._call_tool(action, "py_job_output", **asked)

    async def _prune(self, action: Action) -> None:
        options = choose_prune(self._rng)
        prune = self._history.pruning(**options, pid=action.server.pid)
        age_hours = options.pop("age_s") / 3600
        answer = await self._call_tool(action, "py_prune_jobs", max_age_hours=age_hours, **options)
        prune.finished_at = time.monotonic()
        self._history.pruned += answer.get("removed", 0)

    async def _command(self, action: Action) -> None:
        """Use the command line, which may be the first to read a job whose server is gone."""
        if self._rng.random() < 0.5:  # noqa: PLR2004  half of each
            answer, _ = await run_cli(self._environment, "list", "--limit", "200")
            for job in (answer or {}).get("jobs", ()):
                self._history.saw(job, action.asked_at, "command line")
        elif action.job_id != "none":
            self._history.cancelling(action.job_id)
            answer, errors = await run_cli(self._environment, "cancel", action.job_id)
            if answer and answer["status"] == "cancelled":
                await self._check_cancelled(action.job_id, "command line")
            elif answer is None and not any(words in errors for words in _PRUNED):
                self._history.add_breach(f"`jobs cancel {action.job_id}` said: {errors:.300}")
