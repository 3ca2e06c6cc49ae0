"""Library processes that use the store without a manager, and race to end the same records: one of them
completes a record at the instant at which another one cancels it."""

from __future__ import annotations

import os
import random
import time
from dataclasses import replace
from typing import Final

from chaos_testing.choices import seeded_random
from chaos_testing.environment import BYSTANDER_VARIABLE
from chaos_testing.expected import RAW, REUSED, label_of
from chaos_testing.facts import emit, emit_job
from python_mcp_server import processes
from python_mcp_server.errors import JobNotFound
from python_mcp_server.model import Job, JobProgress, JobState, new_job_id, utc_now
from python_mcp_server.settings import Settings
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.opening import open_store

_OTHERS: Final = 3
"""How many live records, and how many ended ones, a round tries to end."""


def use_store(seed: int, seconds: float) -> None:
    """Write records through the store alone until the time is over."""
    settings = Settings.from_environ()
    store = open_store(settings)
    writer = _RecordWriter(store, seeded_random(seed, "store"))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        writer.run_round()
    store.close()


class _RecordWriter:
    """Writes records, and ends its own and those of other processes."""

    def __init__(self, store: JobStore, rng: random.Random) -> None:
        self._store = store
        self._rng = rng

    def run_round(self) -> None:
        """Write a record from its start to its end, and try to end records of other processes."""
        job_id = self._write_steps()
        if self._rng.random() < 0.2:  # noqa: PLR2004  a fifth
            self._create_with_reused_pid()
        self._end(job_id)
        living = [job.id for job in self._store.live() if job.label.startswith(f"{RAW} ")]
        ended = [job.id for job in self._store.list(limit=30)[0] if job.label.startswith(f"{RAW} ")]
        for others in (living, ended):
            for other in self._rng.sample(others, min(_OTHERS, len(others))):
                self._end(other)

    def _write_steps(self) -> str:
        job = Job(new_job_id(), label_of(RAW, self._rng.randrange(1000)), JobState.RUNNING, utc_now())
        self._create(job)
        for step in range(1, self._rng.randrange(2, 12)):
            asked_at = time.monotonic()
            try:
                current = self._store.update(
                    job.id, lambda job, step=step: job.evolve(progress=JobProgress(step))
                )
            except JobNotFound:
                emit("not found", id=job.id, asked=asked_at)
                break  # another process ended it, and a prune removed it before our next step
            if current.status.terminal:
                break  # another process ended it
            emit("stepped", id=job.id, steps=step)
            time.sleep(self._rng.expovariate(20))
        return job.id

    def _create(self, job: Job) -> None:
        asked_at = time.monotonic()
        self._store.create(job)
        emit("told", id=job.id, asked=asked_at, queued=False)

    def _end(self, job_id: str) -> None:
        """Try to end a record, and report the end that it has."""
        end = self._rng.choice([JobState.COMPLETED, JobState.CANCELLED])
        if end is JobState.CANCELLED:
            emit("cancelling", id=job_id)
        asked_at = time.monotonic()
        try:
            job = self._store.update(
                job_id, lambda job: job.evolve(status=end, completed_at=utc_now(), result=job.label)
            )
        except JobNotFound:
            emit("not found", id=job_id, asked=asked_at)
        else:
            emit_job(job, asked_at)

    def _create_with_reused_pid(self) -> None:
        """Leave a running job whose processes are gone, while an unrelated process has their pid."""
        unrelated = processes.identify(int(os.environ[BYSTANDER_VARIABLE]))
        if unrelated is not None:
            gone = replace(unrelated, start_ticks=unrelated.start_ticks - 100)
            job = Job(new_job_id(), label_of(REUSED, 0), JobState.RUNNING, utc_now())
            self._create(job.evolve(owner=gone, worker=gone, background=True))
