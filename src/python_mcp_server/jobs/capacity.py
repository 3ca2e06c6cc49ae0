"""What the background jobs of a home take, and whether another one may start beside them.

A job takes its slot, its resources and its place among those of its key and its kind while its record says
that it runs and the process behind it lives: so a crash frees them, and no separate count can be wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, Self

from python_mcp_server import processes
from python_mcp_server.jobs.quota import client_of, memory_mb_of, memory_reason, quota_of
from python_mcp_server.jobs.rates import Rates
from python_mcp_server.model import MB, Job
from python_mcp_server.options import JobOptions
from python_mcp_server.processes.host import load_average, memory, usable_cores
from python_mcp_server.store.keys import ATTACHED, RUNNING

if TYPE_CHECKING:
    from python_mcp_server.jobs.queue_rules import QueueRules
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.contract import JobStore

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
    """

    limits: SlotLimits
    rules: QueueRules
    rates: Rates
    running: int = 0
    pressure: str | None = None
    taken: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    memory_mb: dict[str, float] = field(default_factory=dict[str, float])

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
        """Return why its own options, or its client's quota, keep this job from starting; or None."""
        options = job.options or _NO_OPTIONS
        if options.queue in self.rules.paused:
            return f"its queue {options.queue!r} is paused"
        bounds = {("queue", options.queue): self.rules.limits.get(options.queue)}
        if options.max_concurrency is not None:
            bounds["kind", job.tool] = options.max_concurrency
        if options.key is not None:
            bounds["key", options.key] = options.key_concurrency
        for (what, name), most in bounds.items():
            if most is not None and self.taken[what, name] >= most:
                return (
                    f"waiting for its turn: {self.taken[what, name]} of the {what} {name!r} run, {most} may"
                )
        if (wait := self.rates.wait(job)) is not None:
            return wait[1]
        quota, client = quota_of(self.rules.quotas, client_of(job)), client_of(job)
        over = memory_reason(quota, job, self.memory_mb.get(client, 0.0))
        return over or self._missing(options.resources)

    @property
    def has_keys(self) -> bool:
        """Whether any job with a key runs."""
        return any(what == "key" for what, _ in self.taken)

    def is_key_taken(self, job: Job) -> bool:
        """Whether as many jobs of its key run as may."""
        options = job.options or _NO_OPTIONS
        return options.key is not None and self.taken["key", options.key] >= options.key_concurrency

    def _missing(self, wanted: Mapping[str, int]) -> str | None:
        for name, count in wanted.items():
            there = self.rules.resources.get(name, 0)
            free = there - self.taken["resource", name]
            if count > free:
                return (
                    f"waiting for the resource {name!r}: it takes {count}, {max(0, free)} of {there} are free"
                )
        return None


def _claims(job: Job) -> Counter[tuple[str, str]]:
    options = job.options or _NO_OPTIONS
    claims = Counter({("queue", options.queue): 1, ("kind", job.tool): 1})
    if options.key is not None:
        claims["key", options.key] += 1
    for name, count in options.resources.items():
        claims["resource", name] += count
    return claims


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
    capacity = Capacity(limits, rules, Rates(store, rules.client_rate), pressure=pressure(limits))
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
