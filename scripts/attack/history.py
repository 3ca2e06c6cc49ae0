"""What everybody was told while the attack went on, and what was done to whom.

A fact counts as told once the driver has read it. Facts come from clients of servers, from library
processes and from the command line, all in the shape of `take`.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

TERMINAL: Final = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Sighting:
    """A job as somebody saw it.

    Attributes:
        status: Its state.
        ended: When and why it ended, as far as the answer said.
        asked_at: When the question was sent, on the monotonic clock.
        read_at: When the answer was read.
        by: Who saw it.
    """

    status: str
    ended: tuple[str | None, str | None]
    asked_at: float
    read_at: float
    by: str


@dataclass(slots=True)
class Known:
    """What is known of one job.

    Attributes:
        told_at: When its id was first returned by whoever made it; None where it was only seen.
        made_after: When it was asked for: it is not older.
        submitter: The pid of that process.
        queued: Whether it was told before it ran, so that it had to wait for a place.
        doomed_at: When a verdict was first seen on it while it was queued.
        ends: The different terminal states that were seen, each at its first and its last sighting.
        living: The last sighting in another state, by the time of the question.
        told_cancelled: Who was told that it is cancelled.
        cancelled_at: When that was first read.
        cancel_asked: Whether anybody asked for that.
        missing: The first answer that there is no such job.
        steps: The last progress that was acknowledged, of a record without a process.
    """

    told_at: float | None = None
    made_after: float = 0.0
    submitter: int = 0
    queued: bool = False
    doomed_at: float = math.inf
    ends: dict[tuple[str, ...], Sighting] = field(default_factory=dict[tuple[str, ...], Sighting])
    living: Sighting | None = None
    told_cancelled: str | None = None
    cancelled_at: float = math.inf
    cancel_asked: bool = False
    missing: Sighting | None = None
    found_again: Sighting | None = None
    steps: int = 0


@dataclass(slots=True)
class Prune:
    """A prune that was asked for.

    Attributes:
        age_s: How long ago a job must have ended to go.
        dropped: The states in which jobs go.
        pid: Who does it.
        asked_at: When it was asked for.
        over_at: When it was answered, or whoever did it was gone: it may go through unanswered.
    """

    age_s: float
    dropped: frozenset[str]
    pid: int
    asked_at: float
    over_at: float = math.inf


class History:
    """All facts of one run."""

    def __init__(self) -> None:
        self.jobs: dict[str, Known] = {}
        self.prunes: list[Prune] = []
        self.kills: Counter[str] = Counter()
        self.hurt: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.pruned = 0
        self.longest_s = 0.0
        self.longest = ""
        self.breaches: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.deadly: dict[int, int] = {}
        self.pids: set[int] = set()
        self.struck: dict[int, float] = {}
        self.aims: Counter[str] = Counter()
        self.peak = 0

    def known(self, job_id: str) -> Known:
        """Return what is known of a job; nothing yet, if it is new."""
        return self.jobs.setdefault(job_id, Known())

    def take(self, fact: dict[str, Any], by: str, pid: int) -> None:
        """Take a fact as another process wrote it, see `program.py`."""
        job_id, asked_at = fact.get("id", ""), fact.get("asked", 0.0)
        if fact["fact"] == "told":
            self.told(job_id, asked_at, pid, queued=fact["queued"])
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
            self.prunes_over(pid)
        elif fact["fact"] == "answered":
            self.answered(f"{by} {fact['what']}", asked_at)
        else:
            self.breaches.append(f"{by} {pid}: {fact['text']}")

    def told(self, job_id: str, asked_at: float, submitter: int = 0, *, queued: bool = False) -> None:
        """Somebody got this id from whoever made the job."""
        known = self.known(job_id)
        if known.told_at is None:
            known.told_at, known.made_after, known.submitter = time.monotonic(), asked_at, submitter
            known.queued = queued

    def saw(self, job: dict[str, Any], asked_at: float, by: str) -> None:
        """Somebody saw this job."""
        ended = (job.get("completed_at"), job.get("error_kind"))
        sighting = Sighting(job["status"], ended, asked_at, time.monotonic(), by)
        known = self.known(job["id"])
        if known.missing is not None and asked_at > known.missing.read_at:
            known.found_again = known.found_again or sighting
        if sighting.status in TERMINAL:
            known.ends.setdefault((sighting.status, str(ended)), sighting)
        elif known.living is None or asked_at > known.living.asked_at:
            known.living = sighting

    def gave_up(self, text: str) -> None:
        """Something happened that breaks a promise by itself."""
        self.breaches.append(text)

    def strike(self, pid: int) -> None:
        """This process was killed just now."""
        self.struck.setdefault(pid, time.monotonic())

    def doomed(self, job_id: str) -> None:
        """The record of the job says that it is queued, and that a verdict is on it."""
        known = self.known(job_id)
        known.doomed_at = min(known.doomed_at, time.monotonic())

    def cancelling(self, job_id: str) -> None:
        """Somebody is about to ask for the job's cancel."""
        self.known(job_id).cancel_asked = True

    def cancelled(self, job_id: str, by: str) -> None:
        """Somebody was told that the job is cancelled."""
        known = self.known(job_id)
        known.told_cancelled = known.told_cancelled or by
        known.cancelled_at = min(known.cancelled_at, time.monotonic())

    def not_found(self, job_id: str, asked_at: float, by: str) -> None:
        """Somebody was told that there is no such job."""
        known = self.known(job_id)
        known.missing = known.missing or Sighting("missing", (None, None), asked_at, time.monotonic(), by)

    def pruning(self, *, age_s: float, keep_completed: bool, keep_failed: bool, pid: int) -> Prune:
        """Somebody is about to ask for a prune: it may go through though nobody is told."""
        kept = {"completed": keep_completed, "failed": keep_failed}
        dropped = frozenset(status for status in TERMINAL if not kept.get(status))
        prune = Prune(age_s, dropped, pid, time.monotonic())
        self.prunes.append(prune)
        return prune

    def prunes_over(self, pid: int) -> None:
        """This process has answered its prunes, or is gone: none goes on."""
        for prune in self.prunes:
            if prune.pid == pid:
                prune.over_at = min(prune.over_at, time.monotonic())

    def answered(self, what: str, asked_at: float) -> None:
        """A question was answered."""
        self.asked[what] += 1
        lasted_s = time.monotonic() - asked_at
        if lasted_s > self.longest_s:
            self.longest_s, self.longest = lasted_s, what

    def ids(self, *, living: bool = False) -> list[str]:
        """Return the newest ids, or those of jobs that nobody saw end."""
        newest = [job_id for job_id, known in self.jobs.items() if known.missing is None][-60:]
        return [job_id for job_id in newest if not self.jobs[job_id].ends] if living else newest

    def orphan_ids(self) -> list[str]:
        """Return the newest ids of jobs that nobody saw end, and whose server was killed."""
        return [job_id for job_id in self.ids(living=True) if self.jobs[job_id].submitter in self.struck]
