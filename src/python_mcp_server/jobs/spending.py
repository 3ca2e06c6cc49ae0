"""Holds the jobs of clients to their quotas, and counts what the clients spend.

A job that waits in the background is counted before its record is written, and refused over the quota. A call
that its caller waits for is counted with its record, after its first second, and is never ended for a quota;
one that is faster costs nothing. CPU time is counted when a run ends, before its record says so; that of runs
which go on is in their records.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from python_mcp_server.errors import InvalidInput, QuotaExceeded, StoreError, quoted
from python_mcp_server.jobs.ledger import Ledger, Ledgers, fits_at
from python_mcp_server.jobs.queue_rules import QueueRules, read_rules
from python_mcp_server.jobs.quota import OfClient, Quota, Spent, client_of, memory_mb_of, quota_of
from python_mcp_server.limits import number_words
from python_mcp_server.model import utc_now
from python_mcp_server.store.keys import ATTACHED, RUNNING

if TYPE_CHECKING:
    from python_mcp_server.model import Job, Usage
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)
_MOST_RUNNING: Final = 10_000


@contextmanager
def counted(store: JobStore, job: Job) -> Generator[None]:
    """Count a job that the block makes; take it back where the block raises, and surely made none. Blocks.

    Raises:
        QuotaExceeded: Its client has spent its quota; the block is not entered.
        InvalidInput: The job may take more memory than its client may take in all.
        StoreError: What the client has spent cannot be read or written.
    """
    client = client_of(job)
    if (quota := _quota(store, client)) is None:
        yield
        return
    _check_memory(job, client, quota)
    with Ledgers(store).changing(client) as ledger:
        if job.id not in ledger.keys:  # else a process was killed before it had made the job
            _refuse(_spent(store, ledger, quota))
        ledger.add_job(job.id, quota.per_s)
    try:
        yield
    except BaseException as error:
        if not (isinstance(error, StoreError) and error.in_doubt):
            take_back(store, job)
        raise


def _quota(store: JobStore, client: str) -> Quota | None:
    return quota_of(read_rules(store).quotas, client) if client else None


def _check_memory(job: Job, client: str, quota: Quota) -> None:
    wanted_mb, most_mb = job.memory_limit_mb, quota.memory_mb
    if wanted_mb is not None and most_mb is not None and wanted_mb > most_mb:
        raise InvalidInput(
            f"the job may take {number_words(wanted_mb)} MB of memory, and the quota of client "
            f"{quoted(client)} is {number_words(most_mb)} MB at once; give it a lower memory limit"
        )


def take_back(store: JobStore, job: Job) -> None:
    """Take a job back that was counted and is not made after all. Blocks; a failure is only logged, because
    the caller is told of another one.
    """
    client = client_of(job)
    try:
        if _quota(store, client) is not None:
            with Ledgers(store).changing(client) as ledger:
                ledger.remove_job(job.id)
    except StoreError as error:
        _log.warning("job %s counts although it was not made: %s", job.id, error)


def count_call(store: JobStore, job: Job) -> None:
    """Count a call that runs, and is about to have a record. Blocks; a failure is only logged, because the
    call goes on.
    """
    client = client_of(job)
    try:
        if (quota := _quota(store, client)) is not None:
            with Ledgers(store).changing(client) as ledger:
                ledger.add_job(job.id, quota.per_s)
    except StoreError as error:
        _log.warning("the call %s is not counted for its client: %s", job.id, error)


def count_run(
    store: JobStore,
    job_id: str,
    usage: Usage | None,
    cpu_s: float,
    only_if: Callable[[Job], bool] | None,
) -> None:
    """Count the CPU time of a run that has ended, before its record says so. Blocks; a failure is only
    logged, because an end is written in any case.

    Args:
        store: Where the job is stored.
        job_id: The job.
        usage: The last sample, where known; that of the record where None.
        cpu_s: The CPU time, where it is known without a sample.
        only_if: Called with the present job; where it returns False, nothing is counted.
    """
    try:
        quotas = read_rules(store).quotas
        job = store.peek(job_id) if quotas else None
        if job is None or job.status.terminal or (only_if is not None and not only_if(job)):
            return
        client, usage = client_of(job), usage or job.usage
        cpu_s = max(cpu_s, 0.0 if usage is None else usage.cpu_seconds)
        quota = quota_of(quotas, client)
        if quota is not None and cpu_s > 0 and (run := _run_of(job)) is not None:
            with Ledgers(store).changing(client) as ledger:
                ledger.add_cpu(run, cpu_s, quota.per_s)
    except StoreError as error:
        _log.warning("the CPU time of job %s is not counted for its client: %s", job_id, error)


def _run_of(job: Job) -> str | None:
    """Return the key of the present run of a job; None where it does not run."""
    return None if job.started_at is None else f"{job.id} {job.started_at.timestamp():.3f}"


def spent_by(store: JobStore, client: str, rules: QueueRules) -> Spent:
    """Return what a client has spent of its quota. Blocks.

    Raises:
        StoreError: It cannot be read.
    """
    quota = quota_of(rules.quotas, client)
    if quota is None:
        return Spent(client=client)
    return _spent(store, Ledgers(store).read(client), quota)


def _spent(store: JobStore, ledger: Ledger, quota: Quota) -> Spent:
    lists = (RUNNING, ATTACHED) if (quota.cpu_seconds, quota.memory_mb) != (None, None) else ()
    running = [
        job for name in lists for job in store.indexed(name, _MOST_RUNNING) if client_of(job) == ledger.client
    ]
    cells, now = ledger.within(quota.per_s), utc_now()
    jobs = [(cell.last, float(cell.jobs)) for cell in cells]
    cpu = [(cell.last, cell.cpu_s) for cell in cells]
    cpu.append((now.timestamp(), sum(_uncounted_s(job, ledger) for job in running)))
    spent_jobs, spent_s = sum(cell.jobs for cell in cells), sum(amount for _, amount in cpu)
    refusals = list[tuple[float, str]]()
    for words, most, amounts, spent in (
        ("jobs", quota.jobs, jobs, f"{spent_jobs}"),
        ("CPU seconds", quota.cpu_seconds, cpu, f"{spent_s:.1f}"),
    ):
        if most is not None and sum(amount for _, amount in amounts) >= most:
            told = f"{spent} of {number_words(most)} {words} in {quota.per}"
            refusals.append((fits_at(amounts, most, quota.per_s) or math.inf, told))
    at, told = max(refusals, default=(math.inf, ""))
    fits = _second(at)
    return Spent(
        client=ledger.client,
        quota=quota,
        jobs=spent_jobs,
        cpu_seconds=spent_s,
        memory_mb=sum(map(memory_mb_of, running)),
        refusal=_sentence(ledger.client, told, fits) if told else None,
        fits_at=fits,
    )


def _uncounted_s(job: Job, ledger: Ledger) -> float:
    """Return the CPU time of a run which the ledger does not have yet."""
    run = _run_of(job)
    return (
        0.0 if job.usage is None or run is None else max(0.0, job.usage.cpu_seconds - ledger.counted_s(run))
    )


def _second(at: float) -> datetime | None:
    """Return the first whole second from which a job fits."""
    if not math.isfinite(at):
        return None
    return datetime.fromtimestamp(int(at), UTC) + timedelta(seconds=1)


def _sentence(client: str, told: str, fits: datetime | None) -> str:
    when = "none will fit" if fits is None else f"submit it again from {fits:%Y-%m-%d %H:%M:%S} UTC on"
    return f"client {quoted(client)} has spent its quota: {told}; {when}"


def _refuse(spent: Spent) -> None:
    if spent.refusal is not None:
        raise QuotaExceeded(spent.refusal, spent.client, spent.fits_at)


class QuotaGate:
    """Refuses the calls of clients of which this process knows that they have spent their quotas.

    A call that is not refused costs no file I/O: the process learns of a spent quota from the calls and jobs
    of the client that have records.
    """

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._spent = set[str]()

    def is_closed(self, request: OfClient) -> bool:
        """Whether `check` must be asked about a call."""
        return client_of(request) in self._spent

    def close(self, client: str) -> None:
        """Note that a client has spent its quota."""
        self._spent.add(client)

    def check(self, request: OfClient) -> None:
        """Refuse a call, unless its client has spent its quota no longer. Blocks.

        Raises:
            QuotaExceeded: The quota is spent.
            StoreError: That cannot be read.
        """
        _refuse(self._look(client_of(request)))

    def look(self, request: OfClient) -> None:
        """Learn whether a client has spent its quota. Blocks."""
        try:
            if client_of(request):
                self._look(client_of(request))
        except StoreError as error:
            _log.debug("what %s has spent is not known: %s", client_of(request), error)

    def _look(self, client: str) -> Spent:
        spent = spent_by(self._store, client, read_rules(self._store))
        (self._spent.discard if spent.refusal is None else self._spent.add)(client)
        return spent
