"""What is left after a run, in the home and on the machine."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chaos_testing.environment import Environment
from chaos_testing.notes import Notes, read_notes
from chaos_testing.observer import Start
from chaos_testing.process_table import marked_processes, semaphores
from chaos_testing.queue_rules import BOUNDED
from python_mcp_server.store.opening import StorePlace

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore

_EXIT_S: Final = 10.0
_EVERYTHING: Final = 1_000_000
_LOOKS: Final = 4
_TIME_CHARS: Final = 9
_LONG_AGO_S: Final = 2 * 86_400.0
_INTERRUPTED_START: Final = re.compile(
    rb"LokyProcess-\d+ failed with traceback: \n-+\nTraceback [^\n]*\n( .*\n)+(EOFError: Ran out of input|"
    rb"_pickle.UnpicklingError: pickle data was truncated)\n"
)


@dataclass(slots=True)
class FinalState:
    """What is left after a run.

    Attributes:
        jobs: The final record of each job, by id.
        starts: All starts, in order.
        orphans: Jobs that a listing left as running without a live worker.
        processes: Processes that still have the mark.
        leftovers: Files that should have been removed.
        damaged: Files that were set aside.
        locks: Locks that cannot be taken.
        semaphores: Names of semaphores of this run.
        tracebacks: Logs that contain a traceback.
        bystanders: Unrelated processes that were killed.
        notes: What the bodies of queued jobs noted.
        index: Differences between the records and the index of the queue.
        accepted: For each job of the client with a quota when it was made, and when its record was written.
    """

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    starts: list[Start] = field(default_factory=list[Start])
    orphans: list[str] = field(default_factory=list[str])
    processes: list[str] = field(default_factory=list[str])
    leftovers: list[str] = field(default_factory=list[str])
    damaged: list[str] = field(default_factory=list[str])
    locks: list[str] = field(default_factory=list[str])
    semaphores: list[str] = field(default_factory=list[str])
    tracebacks: list[str] = field(default_factory=list[str])
    bystanders: list[str] = field(default_factory=list[str])
    notes: Notes = field(default_factory=lambda: Notes([], []))
    index: list[str] = field(default_factory=list[str])
    accepted: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])


async def processes_left(mark: str) -> list[str]:
    """Wait until no process has the mark; return those that do not end."""
    deadline = time.monotonic() + _EXIT_S
    while found := await asyncio.to_thread(marked_processes, mark):
        if time.monotonic() > deadline:
            return [f"pid {one.pid}, a {one.kind} {one.job_id}: {one.line}" for one in found]
        await asyncio.sleep(0.1)
    return []


def collect(environment: Environment, final_state: FinalState, semaphores_before: set[str]) -> None:
    """Read what is left, after all processes of the run have ended."""
    from python_mcp_server.store.keys import DEAD
    from python_mcp_server.store.opening import open_place

    _age_leftovers(open_place(environment.place).home)
    store = open_place(environment.place)  # which removes the logs of workers that are gone
    store.prune(lambda _: False)  # removes the files of calls that were killed with their server
    for job in store.list(limit=1_000_000)[0]:
        whole = store.get(job.id)
        if whole is not None:
            final_state.jobs[job.id] = whole.to_record()
    final_state.index += index_differences(store)
    left = [name for name in store.index_names("") if not name.startswith(DEAD) and store.indexed(name, 1)]
    final_state.index += [f"the index still has jobs in the list {name}" for name in left]
    final_state.notes = read_notes(environment.notes)
    final_state.accepted = list(_accepted(store))
    final_state.damaged = [str(path) for path in store.survey().damaged]
    store.close()
    final_state.starts = environment.observer.starts()
    final_state.leftovers = list(_leftovers(store.home, set(final_state.jobs)))
    final_state.locks = list(_taken_locks(store.home / "jobs" / "locks"))
    final_state.semaphores = sorted(_own(semaphores() - semaphores_before, environment.history.pids))
    logs = [*environment.folder.glob("*.stderr"), *(environment.home / "logs").glob("*")]
    final_state.tracebacks = [
        str(path) for path in logs if b"Traceback" in _without_interrupted_starts(path.read_bytes())
    ]


def _accepted(store: JobStore) -> Iterator[tuple[float, float]]:
    from python_mcp_server.store.events import EventKind
    from python_mcp_server.store.journal import JournalReader, Position

    for event in JournalReader(store.journal, Position(1, 0)).read_all():
        if event.kind is EventKind.CREATED and event.client == BOUNDED:
            yield _made_at(event.job_id), event.at.timestamp()


def _made_at(job_id: str) -> float:
    """Return the time in an id, in seconds of the clock."""
    from python_mcp_server.model import ALPHABET

    time_ms = 0
    for letter in job_id[:_TIME_CHARS]:
        time_ms = 32 * time_ms + ALPHABET.index(letter)
    return time_ms / 1000


def _without_interrupted_starts(log: bytes) -> bytes:
    """Leave out what loky writes in a worker whose server was killed while it sent the worker its set-up."""
    return _INTERRUPTED_START.sub(b"", log)


def _age_leftovers(home: Path) -> None:
    """Make the files of killed processes look old: a prune keeps young ones, which may still be in use."""
    long_ago = time.time() - _LONG_AGO_S
    for path in [
        path for place in ("jobs/tmp/*", "jobs/swept", "lanes/*", "output/*/*") for path in home.glob(place)
    ]:
        os.utime(path, (long_ago, long_ago))


def _leftovers(home: Path, job_ids: set[str]) -> Iterator[str]:
    for folder in (home / "jobs" / "tmp", home / "jobs" / "trash", home / "jobs" / "live", home / "lanes"):
        yield from map(str, folder.iterdir() if folder.exists() else ())
    for shard in (home / "output").iterdir():
        yield from (str(path) for path in shard.iterdir() if path.name not in job_ids)


def _own(names: set[str], pids: set[int]) -> list[str]:
    """Return the semaphores, `sem.loky-<pid>-<random>`, that processes of this run made."""
    return [name for name in names if int(name.split("-")[1]) in pids]


def _taken_locks(folder: Path) -> Iterator[str]:
    from filelock import lock_descriptor

    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDWR)
        try:
            if not lock_descriptor(descriptor, blocking=False):
                yield str(path)
        finally:
            os.close(descriptor)


def index_differences(store: JobStore) -> list[str]:
    """Return how the index of the queue differs from the records, at each of several looks.

    Workers that have outlived their server may change both between two reads.
    """
    looks = [_index_differences(store) for _ in range(_LOOKS)]
    return [line for line in looks[0] if all(line in look for look in looks)]


def _index_differences(store: JobStore) -> list[str]:
    from python_mcp_server.model import JobState
    from python_mcp_server.store.keys import index_key

    jobs = [*store.live(), *store.list(JobState.FAILED, _EVERYTHING)[0]]  # dead letters are in lists, too
    live = {job.id: (job, index_key(job)) for job in jobs}
    wanted = {(key.name, job_id) for job_id, (_, key) in live.items() if key is not None}
    names = {*store.index_names(""), *(name for name, _ in wanted)}
    found = {(name, job.id) for name in names for job in store.indexed(name, _EVERYTHING)}
    counts = [
        (name, store.index_count(name, _EVERYTHING), sum(one == name for one, _ in found)) for name in names
    ]
    return [
        *(f"job {job_id} is missing in the list {name}" for name, job_id in wanted - found),
        *(f"job {job_id} is in the list {name}, where it does not belong" for name, job_id in found - wanted),
        *(
            f"the list {name} has {count} entries for {found_jobs} jobs"
            for name, count, found_jobs in counts
            if count != found_jobs
        ),
        *(
            f"job {job_id} is {job.status} and in no list"
            for job_id, (job, key) in live.items()
            if key is None and not job.status.terminal
        ),
    ]


def orphans(place: StorePlace) -> list[str]:
    """Return the jobs whose records say running while neither their worker nor their owner is alive."""
    from python_mcp_server import processes
    from python_mcp_server.store.opening import open_place

    store, found = open_place(place), list[str]()
    for job in store.live():
        named = [one for one in (job.worker, job.owner) if one is not None]
        if job.status.value not in ("running", "input_required") or not named:
            continue  # written through the store alone, without a process
        now = None if any(map(processes.is_alive, named)) else store.get(job.id)
        if now is not None and now.status is job.status:
            found.append(f"{job.id}: {named}")
    store.close()
    return found
