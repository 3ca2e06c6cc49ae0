"""What was reported and what was killed during a run.

A fact counts as reported once the experiment has read it. Facts come from clients of servers, from library
processes and from the command line.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Final

TERMINAL: Final = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Observation:
    """A job as one reader saw it.

    Attributes:
        status: Its state.
        ended: When and why it ended, as far as the answer said.
        asked_at: When the question was sent, on the monotonic clock.
        read_at: When the answer was read.
        by: The name of the reader.
    """

    status: str
    ended: tuple[str | None, str | None]
    asked_at: float
    read_at: float
    by: str


@dataclass(slots=True)
class KnownJob:
    """What is known of one job.

    Attributes:
        told_at: When its submitter first returned its id; None if the job was only seen.
        made_after: When it was requested, so that it is not older.
        submitter: The pid of the process that accepted it.
        queued: Whether its id was returned before it ran, so that it had to wait for a slot.
        follows: Whether it waits for other jobs, so that it is cancelled with them.
        end_requested_at: When its record first had an end reason while it was queued.
        ends: The different terminal states that were seen, each as it was seen first.
        living: The last observation in another state, by the time of the question.
        told_cancelled: The first reader to which it was reported as cancelled.
        cancelled_at: When that was read.
        cancel_asked: Whether a cancel was requested.
        missing: The first answer that there is no such job.
        found_again: The first observation after that.
        steps: The last progress that was acknowledged, of a record without a process.
    """

    told_at: float | None = None
    made_after: float = 0.0
    submitter: int = 0
    queued: bool = False
    follows: bool = False
    end_requested_at: float = math.inf
    ends: dict[tuple[str, ...], Observation] = field(default_factory=dict[tuple[str, ...], Observation])
    living: Observation | None = None
    told_cancelled: str | None = None
    cancelled_at: float = math.inf
    cancel_asked: bool = False
    missing: Observation | None = None
    found_again: Observation | None = None
    steps: int = 0

    def add_end(self, seen: Observation) -> None:
        """Add a terminal state. A row of a list has no time of the end, so it may be that of any other."""
        at, kind = seen.ended
        listed = (seen.status, str((None, kind)))
        if at is not None:
            first = self.ends.pop(listed, seen)
            self.ends.setdefault((seen.status, str(seen.ended)), replace(seen, read_at=first.read_at))
        elif not any((end.status, end.ended[1]) == (seen.status, kind) for end in self.ends.values()):
            self.ends[listed] = seen


@dataclass(slots=True)
class Prune:
    """A prune that was requested.

    Attributes:
        age_s: How long ago a job must have ended to be removed.
        dropped: The states of jobs that are removed.
        pid: The process that prunes.
        asked_at: When it was requested.
        finished_at: When it was answered, or its process was gone: an unanswered prune may have removed jobs.
    """

    age_s: float
    dropped: frozenset[str]
    pid: int
    asked_at: float
    finished_at: float = math.inf


class History:
    """All facts of one run."""

    def __init__(self) -> None:
        self.jobs: dict[str, KnownJob] = {}
        self.prunes: list[Prune] = []
        self.kills: Counter[str] = Counter()
        self.hit_jobs: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.pruned = 0
        self.longest_s = 0.0
        self.longest = ""
        self.breaches: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.fatal_signals: dict[int, int] = {}
        self.pids: set[int] = set()
        self.killed_at: dict[int, float] = {}
        self.kill_begun_at: dict[int, float] = {}
        self.targets: Counter[str] = Counter()
        self.peak_slots = 0

    def known(self, job_id: str) -> KnownJob:
        """Return what is known of a job, which may be nothing yet."""
        return self.jobs.setdefault(job_id, KnownJob())

    def add_fact(self, fact: dict[str, Any], by: str, pid: int) -> None:
        """Add a fact that a library process reported through `facts.emit`."""
        job_id, asked_at = fact.get("id", ""), fact.get("asked", 0.0)
        if fact["fact"] == "told":
            self.told(job_id, asked_at, pid, queued=fact["queued"], follows=fact.get("follows", False))
        elif fact["fact"] == "saw":
            self.saw(fact["job"], asked_at, by)
        elif fact["fact"] == "cancelling":
            self.cancelling(job_id)
        elif fact["fact"] == "cancelled":
            self.cancelled(job_id, by)
        elif fact["fact"] == "not found":
            self.not_found(job_id, asked_at, by)
        elif fact["fact"] == "stepped":
            self.known(job_id).steps = fact["steps"]
        elif fact["fact"] == "pruning":
            self.pruning(**fact["options"], pid=pid)
        elif fact["fact"] == "pruned":
            self.pruned += fact["removed"]
            self.prunes_finished(pid)
        elif fact["fact"] == "answered":
            self.answered(f"{by} {fact['what']}", asked_at)
        else:
            self.breaches.append(f"{by} {pid}: {fact['text']}")

    def told(
        self, job_id: str, asked_at: float, submitter: int = 0, *, queued: bool = False, follows: bool = False
    ) -> None:
        """A submitter returned the id of a new job."""
        known = self.known(job_id)
        if known.told_at is None:
            known.told_at, known.made_after, known.submitter = time.monotonic(), asked_at, submitter
            known.queued, known.follows = queued, follows

    def saw(self, job: dict[str, Any], asked_at: float, by: str) -> None:
        """A reader saw this job."""
        ended = (job.get("completed_at"), job.get("error_kind"))
        observation = Observation(job["status"], ended, asked_at, time.monotonic(), by)
        known = self.known(job["id"])
        if known.missing is not None and asked_at > known.missing.read_at:
            known.found_again = known.found_again or observation
        if observation.status in TERMINAL:
            known.add_end(observation)
        elif known.living is None or asked_at > known.living.asked_at:
            known.living = observation

    def add_breach(self, text: str) -> None:
        """Add something that breaks a promise by itself."""
        self.breaches.append(text)

    def kill_begins(self, pid: int) -> None:
        """Note that this process, which lives, is killed from now on."""
        self.kill_begun_at.setdefault(pid, time.monotonic())

    def note_kill(self, pid: int) -> None:
        """Note that this process was killed just now."""
        self.killed_at.setdefault(pid, time.monotonic())

    def end_requested(self, job_id: str) -> None:
        """The record of a queued job has an end reason."""
        known = self.known(job_id)
        known.end_requested_at = min(known.end_requested_at, time.monotonic())

    def cancelling(self, job_id: str) -> None:
        """A cancel of the job is about to be requested."""
        self.known(job_id).cancel_asked = True

    def cancelled(self, job_id: str, by: str) -> None:
        """The job was reported as cancelled."""
        known = self.known(job_id)
        known.told_cancelled = known.told_cancelled or by
        known.cancelled_at = min(known.cancelled_at, time.monotonic())

    def not_found(self, job_id: str, asked_at: float, by: str) -> None:
        """A reader was told that there is no such job."""
        known = self.known(job_id)
        known.missing = known.missing or Observation("missing", (None, None), asked_at, time.monotonic(), by)

    def pruning(self, *, age_s: float, keep_completed: bool, keep_failed: bool, pid: int) -> Prune:
        """A prune is about to be requested. It may remove jobs even if its answer never comes."""
        kept = {"completed": keep_completed, "failed": keep_failed}
        dropped = frozenset(status for status in TERMINAL if not kept.get(status))
        prune = Prune(age_s, dropped, pid, time.monotonic())
        self.prunes.append(prune)
        return prune

    def prunes_finished(self, pid: int) -> None:
        """This process has answered its prunes or is gone, so that none of them goes on."""
        for prune in self.prunes:
            if prune.pid == pid:
                prune.finished_at = min(prune.finished_at, time.monotonic())

    def answered(self, what: str, asked_at: float) -> None:
        """A question was answered."""
        self.asked[what] += 1
        lasted_s = time.monotonic() - asked_at
        if lasted_s > self.longest_s:
            self.longest_s, self.longest = lasted_s, what

    def ids(self, *, living: bool = False) -> list[str]:
        """Return the newest ids, or only those of jobs that were not seen to end."""
        newest = [job_id for job_id, known in self.jobs.items() if known.missing is None][-60:]
        return [job_id for job_id in newest if not self.jobs[job_id].ends] if living else newest

    def orphan_ids(self) -> list[str]:
        """Return the newest ids of jobs that were not seen to end and whose server was killed."""
        return [job_id for job_id in self.ids(living=True) if self.jobs[job_id].submitter in self.killed_at]
