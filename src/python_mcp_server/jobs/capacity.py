"""What the background jobs of a home take, and whether another one may start beside them.

A job takes its slot, its resources and its place among those of its key and its kind while its record says
that it runs and the process behind it lives: so a crash frees them, and no separate count can be wrong.

A job that takes much of a resource would wait for ever while jobs that take little of it come. So once the
first job by its rank has waited for `RESERVES_AFTER`, later ones that share with it what it waits for wait
behind it. Records alone decide that, so all servers see the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Final, Self

from python_mcp_server import processes
from python_mcp_server.jobs.quota import client_of, memory_mb_of, memory_reason, quota_of
from python_mcp_server.jobs.rates import Rates
from python_mcp_server.model import MB, Job, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.processes.host import load_average, memory, usable_cores
from python_mcp_server.store.keys import ATTACHED, RUNNING, start_rank

if TYPE_CHECKING:
    from python_mcp_server.jobs.queue_rules import QueueRules
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.contract import JobStore

RESERVES_AFTER: Final = timedelta(seconds=30)
"""How long a job waits before later ones leave it what it takes; guessed: until then all of it is in use."""

_MOST_RUNNING: Final = 10_000
_NO_OPTIONS: Final = JobOptions()
_SHARE: Final = 0.1
"""The most that is kept free, as a share of all memory; guessed, for small machines."""


@dataclass(frozen=True, slots=True)
class SlotLimits:
    """The limits of one server.

    Attributes:
        slots: How many background jobs run.
        least_bytes: The memory that must be free for one more; 0 for no check.
        most_load: The load average of a core above which none starts beside another; 0 for no check.
    """

    slots: int
    least_bytes: float = 0
    most_load: float = 0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the limits that the settings ask for."""
        return cls(max(1, settings.max_background_jobs), settings.min_free_memory_mb * MB, settings.max_load)


@dataclass(slots=True)
class Capacity:
    """What the background jobs of a home take at one instant.

    Attributes:
        limits: The limits of this server.
        rules: The queues that are paused or bounded, and the resources there are.
        rates: How often jobs have started.
        running: How many hold a slot.
        pressure: A sentence on what the machine is short of, or None where there is enough.
        taken: How much is taken, by the queue, the kind, the key or the resource.
        memory_mb: How much memory the jobs of each client take.
        reserved: What waiting jobs take first, with the rank of the first of them.
    """

    limits: SlotLimits
    rules: QueueRules
    rates: Rates
    running: int = 0
    pressure: str | None = None
    taken: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    memory_mb: dict[str, float] = field(default_factory=dict[str, float])
    reserved: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def add(self, job: Job) -> None:
        """Count a job that is about to start."""
        self.add_running(job)
        self.rates.add(job)

    def add_running(self, job: Job) -> None:
        """Count a job that holds a slot: its start was counted then."""
        self.running += 1
        self.add_elsewhere(job)

    def add_elsewhere(self, job: Job) -> None:
        """Count a job that runs in another container or machine: it holds no slot here."""
        for name, count in _claims(job).items():
            self.taken[name] += count
        self.add_memory(job)

    def add_memory(self, job: Job) -> None:
        """Count the memory of a job for its client."""
        client = client_of(job)
        self.memory_mb[client] = self.memory_mb.get(client, 0.0) + memory_mb_of(job)

    @property
    def free_slots(self) -> int:
        """How many more jobs may start; where memory or cores are short one at a time, because other programs
        may use them.
        """
        free = self.limits.slots - self.running
        return free if self.pressure is None else min(free, 0 if self.running else 1)

    def refusal(self, job: Job) -> str | None:
        """Return a sentence on why this job may not start now, or None if it may."""
        return self.full() or self.held_back(job)

    def full(self) -> str | None:
        """Return why no job may start, or None."""
        if self.free_slots > 0:
            return None
        if self.running < self.limits.slots:
            return self.pressure
        jobs = "1 background job runs" if self.running == 1 else f"{self.running} background jobs run"
        return f"waiting for its turn: {jobs} on this machine, the limit is {self.limits.slots}"

    def held_back(self, job: Job) -> str | None:
        """Return why its own options, its client's quota, or jobs before it keep this job from starting; or
        None.
        """
        return self._barred(job) or self._exhausted(job) or self._missing(job) or self._behind(job)

    def reserve(self, job: Job) -> bool:
        """Let later jobs wait behind this one, if it has waited long for what they take; return whether it is
        the first that waits for something.
        """
        if utc_now() - (job.queued_at or job.created_at) < RESERVES_AFTER or self._barred(job):
            return False
        scarce = [claim for claim, most in _bounds(job).items() if self.taken[claim] >= most]
        resources = (job.options or _NO_OPTIONS).resources
        if self._missing(job) is not None:
            if any(count > self.rules.resources.get(name, 0) for name, count in resources.items()):
                return False  # it can never start
            scarce += [("resource", name) for name, count in resources.items() if count]
        first = [claim for claim in scarce if claim not in self.reserved]
        self.reserved |= dict.fromkeys(first, start_rank(job))
        return bool(first)

    def reserve_for(self, heads: Iterable[Job]) -> None:
        """Let later jobs wait behind those of these, the first of the groups, that have waited long."""
        for job in sorted(heads, key=start_rank):
            if self.held_back(job) is not None:
                self.reserve(job)

    def _barred(self, job: Job) -> str | None:
        queue = (job.options or _NO_OPTIONS).queue
        if queue in self.rules.paused:
            return f"its queue {queue!r} is paused"
        most, running = self.rules.limits.get(queue), self.taken["queue", queue]
        if most is not None and running >= most:
            return f"waiting for its turn: {running} of the queue {queue!r} run, {most} may"
        if (wait := self.rates.wait(job)) is not None:
            return wait[1]
        quota, client = quota_of(self.rules.quotas, client_of(job)), client_of(job)
        return memory_reason(quota, job, self.memory_mb.get(client, 0.0))

    def _exhausted(self, job: Job) -> str | None:
        for (what, name), most in _bounds(job).items():
            if (running := self.taken[what, name]) >= most:
                return f"waiting for its turn: {running} of the {what} {name!r} run, {most} may"
        return None

    def _behind(self, job: Job) -> str | None:
        if not self.reserved:
            return None
        rank, resources = start_rank(job), (job.options or _NO_OPTIONS).resources
        for claim in (*_bounds(job), *(("resource", name) for name, count in resources.items() if count)):
            if self._is_reserved(claim, rank):
                return (
                    f"waiting for its turn: a job that waits longer needs the {claim[0]} {claim[1]!r} first"
                )
        return None

    @property
    def has_keys(self) -> bool:
        """Whether any job with a key runs."""
        return any(what == "key" for what, _ in self.taken)

    def is_key_taken(self, job: Job) -> bool:
        """Whether as many jobs of its key run as may, or one that waits longer goes first."""
        options = job.options or _NO_OPTIONS
        if options.key is None:
            return False
        claim = "key", options.key
        return self.taken[claim] >= options.key_concurrency or self._is_reserved(claim, start_rank(job))

    def _is_reserved(self, claim: tuple[str, str], rank: str) -> bool:
        return self.reserved.get(claim, rank) < rank

    def _missing(self, job: Job) -> str | None:
        for name, count in (job.options or _NO_OPTIONS).resources.items():
            there = self.rules.resources.get(name, 0)
            free = there - self.taken["resource", name]
            if count > free:
                return (
                    f"waiting for the resource {name!r}: it takes {count}, {max(0, free)} of {there} are free"
                )
        return None


def _bounds(job: Job) -> dict[tuple[str, str], int]:
    """Return how many may run of the job's kind, and of its key, where its own options say so."""
    options = job.options or _NO_OPTIONS
    bounds = dict[tuple[str, str], int]()
    if options.max_concurrency is not None:
        bounds["kind", str(job.tool)] = options.max_concurrency
    if options.key is not None:
        bounds["key", options.key] = options.key_concurrency
    return bounds


def _claims(job: Job) -> Counter[tuple[str, str]]:
    options = job.options or _NO_OPTIONS
    claims = Counter({("queue", options.queue): 1, ("kind", str(job.tool)): 1})
    if options.key is not None:
        claims["key", options.key] += 1
    for name, count in options.resources.items():
        claims["resource", name] += count
    return claims


def nothing_taken(store: JobStore, limits: SlotLimits, rules: QueueRules) -> Capacity:
    """Return the capacity of a home where no background job runs."""
    return Capacity(limits, rules, Rates(store, rules.client_rate))


def capacity_of(
    store: JobStore, limits: SlotLimits, rules: QueueRules, starting: Iterable[Job] = ()
) -> tuple[Capacity, list[Job]]:
    """Return what the background jobs of this home take, and the jobs whose process is not seen. Blocks.

    A process of another container or machine cannot be seen from here. Its job counts, but for the slots,
    until readers find that its owner is silent.

    Args:
        store: Where the jobs are stored.
        limits: The limits of this server.
        rules: The rules of the home's queues.
        starting: Jobs that this server is about to start, counted although their records do not say so yet.

    Raises:
        StoreError: The store cannot be read.
    """
    alive = cache(processes.is_alive)
    capacity = nothing_taken(store, limits, rules)
    capacity.pressure = pressure(limits)
    lost, counted = list[Job](), set[str]()
    for job in store.indexed(RUNNING, _MOST_RUNNING):
        counted.add(job.id)
        process = job.worker or job.owner
        if process is not None and alive(process):
            capacity.add_running(job)
            continue
        lost.append(job)
        if process is not None and processes.is_out_of_reach(process):
            capacity.add_elsewhere(job)
    if any(quota.memory_mb is not None for quota in rules.quotas.values()):
        for job in store.indexed(ATTACHED, _MOST_RUNNING):
            process = job.worker or job.owner
            if process is not None and (alive(process) or processes.is_out_of_reach(process)):
                capacity.add_memory(job)
    for job in starting:
        if job.id not in counted:
            capacity.add(job)
    return capacity, lost


def pressure(limits: SlotLimits) -> str | None:
    """Return a sentence on what the machine is short of, or None. Blocks for a millisecond."""
    return _memory_pressure(limits.least_bytes) or _load_pressure(limits.most_load)


def _memory_pressure(least_bytes: float) -> str | None:
    if not least_bytes:
        return None
    now = memory()
    wanted = min(least_bytes, _SHARE * now.total)
    if now.available >= wanted:
        return None
    return f"waiting for memory: {now.available / MB:.0f} MB are free, {wanted / MB:.0f} MB must be"


def _load_pressure(most_load: float) -> str | None:
    load = load_average() if most_load else None
    if load is None:
        return None
    cores = usable_cores()
    if load <= most_load * cores:
        return None
    most = f"{most_load * cores:g} on {cores} core{'' if cores == 1 else 's'}"
    return f"waiting for free cores: the load average is {load:.1f}, the limit is {most}"
