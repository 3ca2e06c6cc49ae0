"""What two library processes do to the store without a manager: records that are written step by step,
and ended by both in the same instant; and jobs whose processes are gone while others have their pids."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from attack.dice import dice
from attack.expected import RAW, REUSED, label_of
from attack.stage import BYSTANDER_VARIABLE
from attack.telling import saw, say
from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound
from python_mcp_server.model import Job, JobProgress, JobState, new_job_id, utc_now
from python_mcp_server.settings import Settings
from python_mcp_server.store.files import FileJobStore

_RIVALS: Final = 3
"""How many records of others a turn ends, of those that live and of those that have ended."""


def use_store(seed: int, seconds: float) -> None:
    """Write records through the store alone until the time is over."""
    settings = Settings.from_environ()
    store = FileJobStore(Path(settings.home), lock_s=settings.lock_seconds)
    duellist = _Duellist(store, dice(seed, "store"))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        duellist.turn()
    store.close()


class _Duellist:
    """Ends its own records and those of others."""

    def __init__(self, store: FileJobStore, own: random.Random) -> None:
        self._store = store
        self._dice = own

    def turn(self) -> None:
        """Write a record from its begin to its end, and end some of others."""
        job_id = self._written()
        if self._dice.random() < 0.2:  # noqa: PLR2004  a fifth
            self._reused()
        self._end(job_id)
        living = [job.id for job in self._store.live() if job.label.startswith(f"{RAW} ")]
        ended = [job.id for job in self._store.list(limit=30)[0] if job.label.startswith(f"{RAW} ")]
        for rivals in (living, ended):
            for rival in self._dice.sample(rivals, min(_RIVALS, len(rivals))):
                self._end(rival)

    def _written(self) -> str:
        job = Job(new_job_id(), label_of(RAW, self._dice.randrange(1000)), JobState.RUNNING, utc_now())
        self._create(job)
        for step in range(1, self._dice.randrange(2, 12)):
            asked_at = time.monotonic()
            try:
                stands = self._store.update(
                    job.id, lambda job, step=step: job.evolve(progress=JobProgress(step))
                )
            except JobNotFound:
                say("not found", id=job.id, asked=asked_at)
                break  # somebody else has ended it, and a prune took it before we came to our next step
            if stands.status.terminal:
                break  # somebody else has ended it
            say("stepped", id=job.id, steps=step)
            time.sleep(self._dice.expovariate(20))
        return job.id

    def _create(self, job: Job) -> None:
        asked_at = time.monotonic()
        self._store.create(job)
        say("told", id=job.id, asked=asked_at, queued=False)

    def _end(self, job_id: str) -> None:
        """Give it an end of our own, and tell which one stands."""
        end = self._dice.choice([JobState.COMPLETED, JobState.CANCELLED])
        if end is JobState.CANCELLED:
            say("cancelling", id=job_id)
        asked_at = time.monotonic()
        try:
            job = self._store.update(
                job_id, lambda job: job.evolve(status=end, completed_at=utc_now(), result=job.label)
            )
        except JobNotFound:
            say("not found", id=job_id, asked=asked_at)
        else:
            saw(job, asked_at)

    def _reused(self) -> None:
        """Leave a running job of processes that are gone, and whose pid a stranger has now."""
        stranger = processes.identify(int(os.environ[BYSTANDER_VARIABLE]))
        if stranger is not None:
            gone = replace(stranger, start_ticks=stranger.start_ticks - 100)
            job = Job(new_job_id(), label_of(REUSED, 0), JobState.RUNNING, utc_now())
            self._create(job.evolve(owner=gone, worker=gone, background=True))
