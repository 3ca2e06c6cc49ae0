"""Kills writers of a store at every single step, and holds what is left against what they acknowledged.

A program: `python -m tests.helpers.store_kills DIRECTORY SCENARIO`. For each step of the scenario it
forks a writer, which is killed before that system call or half way in a write, and prints how many
steps there were. It is a program of its own because it forks, and has no thread when it does.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import filelock  # noqa: F401  loaded before the steps are counted

from python_mcp_server.model import Job, JobProgress, JobState, new_job_id, utc_now
from python_mcp_server.store import maintenance as legacy  # noqa: F401  loaded before the steps are counted
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.journal import JournalReader, Position

CALLS: Final = ("open", "write", "fchmod", "close", "replace", "unlink", "mkdir", "rmdir", "chmod", "utime")
AFTER: Final[dict[str, set[JobState | None]]] = {
    "creating": {None, JobState.PENDING},
    "pending": {JobState.PENDING},
    "starting": {JobState.PENDING, JobState.RUNNING},
    "running": {JobState.RUNNING},
    "ending": {JobState.RUNNING, JobState.COMPLETED},
    "completed": {JobState.COMPLETED},
    "pruning": {JobState.COMPLETED, None},
    "gone": {None},
}
"""What may stand in the store once a writer has said this last of a job."""

NEW: Final = new_job_id()
ADA: Final = "client:ada"
Say = Callable[[str, str], object]
Act = Callable[[Path, Say], None]
Prepare = Callable[[Path], dict[str, str]]
"""Makes the home ready; returns what stands in it, as words of `AFTER` by id."""


def nothing(home: Path) -> dict[str, str]:
    """Leave the home to be made."""
    assert not home.exists()
    return {}


def an_open_store(home: Path) -> dict[str, str]:
    """Make a home with a job that runs and one that is completed."""
    store = FileJobStore(home)
    running, done = a_job(JobState.RUNNING), a_job(JobState.COMPLETED)
    for job in (running, done):
        store.create(job)
    store.close()
    return {running.id: "running", done.id: "completed"}


def a_home_without_an_index(home: Path) -> dict[str, str]:
    """Leave a home of a version that had no index of principals."""
    store = FileJobStore(home)
    jobs = [a_job(state, who=who) for state in (JobState.RUNNING, JobState.COMPLETED) for who in (ADA, None)]
    for job in jobs:
        store.create(job)
    store.close()
    shutil.rmtree(home / "jobs" / "principals")
    return {job.id: job.status.value for job in jobs}


def an_old_list(home: Path) -> dict[str, str]:
    """Leave the list of an older version."""
    entries = [
        {"id": f"old-{number}", "label": "", "status": "completed", "result": result}
        | {"created_at": "2024-05-06T07:08:09Z"}
        for number, result in enumerate([None, "x" * 100_000])
    ]
    (home / "meta").mkdir(parents=True)
    (home / "meta" / "jobs.json").write_text(json.dumps(entries))
    return {str(entry["id"]): "completed" for entry in entries}


def leftovers(home: Path) -> dict[str, str]:
    """Leave what killed writers leave: a half written file, a removal, a job both live and final."""
    words = an_open_store(home)
    store, jobs = FileJobStore(home), home / "jobs"
    removed, double = a_job(JobState.COMPLETED), a_job(JobState.RUNNING)
    for job in (removed, double):
        store.create(job)
    store.folder(removed.id).mkdir(parents=True)
    (store.folder(removed.id) / "stdout").write_text("x")
    os.replace(next((jobs / "completed").rglob(f"{removed.id}.json")), jobs / "trash" / f"{removed.id}.json")
    live = jobs / "live" / f"{double.id}.json"
    record = live.read_bytes()
    store.update(double.id, completed(None))
    live.write_bytes(record)
    (jobs / "tmp" / "4194304-half.tmp").write_text("half")
    store.close()
    return words | {removed.id: "gone", double.id: "completed"}


def damaged_records(home: Path) -> dict[str, str]:
    """Damage the records of a live and of a finished job."""
    words = an_open_store(home)
    store, bad, done = FileJobStore(home), a_job(JobState.RUNNING), a_job(JobState.COMPLETED)
    for job in (bad, done):
        store.create(job)
    store.close()
    for job in (bad, done):
        next((home / "jobs").rglob(f"{job.id}.json")).write_text("{")
    return words | {bad.id: "gone", done.id: "gone"}


def life(job_id: str, size: int, who: str | None = None) -> Act:
    """Return a whole life: created, started, ended with a result of this size, pruned."""

    def act(home: Path, say: Say) -> None:
        store = FileJobStore(home)
        say(job_id, "creating")
        store.create(a_job(JobState.PENDING, job_id, who))
        say(job_id, "pending")
        say(job_id, "starting")
        store.update(job_id, lambda job: job.evolve(status=JobState.RUNNING, progress=JobProgress(1)))
        say(job_id, "running")
        say(job_id, "ending")
        store.update(job_id, completed("x" * size))
        say(job_id, "completed")
        say(job_id, "pruning")
        store.prune(lambda job: job.id == job_id, principal=who)
        say(job_id, "gone")

    return act


def opening(home: Path, _: Say) -> None:
    """Open the store."""
    FileJobStore(home)


def publishing(home: Path, say: Say) -> None:
    """Change something and close: the list for people is written."""
    store = FileJobStore(home)
    say(NEW, "creating")
    store.create(a_job(JobState.PENDING, NEW))
    say(NEW, "pending")
    store.close()


def reading(home: Path, _: Say) -> None:
    """Read everything, which sets damaged records aside."""
    assert len(FileJobStore(home).list()[0]) == 2


def listing(home: Path, _: Say) -> None:
    """List the jobs of a principal, which makes the index."""
    assert len(FileJobStore(home).list(principal=ADA)[0]) == 2


SCENARIOS: Final[dict[str, tuple[Prepare, Act]]] = {
    "a life": (an_open_store, life(new_job_id(), 100_000)),
    "a life of a principal's job": (an_open_store, life(new_job_id(), 0, ADA)),
    "making the index": (a_home_without_an_index, listing),
    "opening a new home": (nothing, opening),
    "importing an old list": (an_old_list, opening),
    "cleaning up": (leftovers, opening),
    "writing the list for people": (an_open_store, publishing),
    "setting aside": (damaged_records, reading),
}


def a_job(status: JobState, job_id: str = "", who: str | None = None) -> Job:
    """Return a job that is in no store yet."""
    return Job(job_id or new_job_id(), "label", status, utc_now(), principal=who)


def completed(result: object) -> Callable[[Job], Job]:
    """Return the change that ends a job."""
    return lambda job: job.evolve(status=JobState.COMPLETED, result=result)


def die_at(step: int) -> Callable[[], None]:
    """Die before system call number `step` of those that change a disk, or half way in a write.

    Returns:
        A function that calls it off.
    """
    left = [step]

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    real_calls = {name: getattr(os, name) for name in CALLS}
    for name, real in real_calls.items():
        setattr(os, name, dying(name, real))

    def call_off() -> None:
        for name, real in real_calls.items():
            setattr(os, name, real)

    return call_off


def killed_at(step: int, home: Path, act: Act) -> tuple[dict[str, str], bool]:
    """Fork a writer that dies at this step; return its last word on each job, and whether it died."""
    front, back = os.pipe()
    pid = os.fork()
    if pid == 0:
        write, leave = os.write, os._exit
        code = 1
        try:
            die_at(step)
            act(home, lambda job_id, word: write(back, f"{job_id} {word}\n".encode()))
            code = 0
        finally:
            leave(code)
    os.close(back)
    with os.fdopen(front) as pipe:
        words = dict(line.split() for line in pipe)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return words, code != 0


def sweep(home: Path, store: FileJobStore) -> None:
    """Remove the folders that have no record, as a prune of tomorrow does."""
    for folder in (home / "output").glob("*/*"):
        os.utime(folder, (0, 0))
    store.prune(among=[])


def entries(home: Path) -> set[str]:
    """Return the ids in the index of principals."""
    found = (home / "jobs" / "principals").rglob("*")
    return {path.name for path in found if path.is_file() and path.name != "complete.json"}


def told(store: FileJobStore, job: Job) -> list[int]:
    """Return the numbers of the events of a job that a reader of the journal gets; an earlier job may have
    had its id.
    """
    reader = JournalReader(store.journal, Position(1, 0))
    own = [event for event in reader.read_all() if event.job_id == job.id]
    return [event.number for event in own if event.at >= job.created_at]


def check_events(store: FileJobStore, job: Job) -> None:
    """Each transition of a record has its event, but for the last one, which its next writer or a reader
    appends.
    """
    if job.event is None:  # imported from an old list
        return
    numbers, all_of_them = told(store, job), list(range(1, job.event.number + 1))
    assert numbers in (all_of_them, all_of_them[:-1]), (numbers, job)
    store.update(job.id, completed(None))
    if job.status.terminal:
        store.journal.mend(job, numbers[-1] if numbers else 0)
    else:
        all_of_them.append(job.event.number + 1)
    assert told(store, job) == all_of_them


def check(home: Path, words: dict[str, str]) -> None:
    """Open the store, and hold it against what was acknowledged."""
    public = home / "meta" / "jobs.json"
    if public.exists():
        json.loads(public.read_bytes())
    store = FileJobStore(home)
    old_ids = {job.id: job.extra.get("old_id", job.id) for job in store.list(limit=1000)[0]}
    listed, new_ids = list(old_ids.values()), {old: new for new, old in old_ids.items()}
    for job_id, word in words.items():
        job = store.get(new_ids.get(job_id, job_id))
        assert (job.status if job else None) in AFTER[word], (job_id, word, job)
        assert job is None or job.result_note is None, job
    assert len(listed) == len(set(listed)), listed
    assert set(listed) <= set(words), (listed, words)
    if listed != list(old_ids):
        sweep(home, store)  # an import that is done again gives new ids
    folders = {old_ids.get(path.name, path.name) for path in (home / "output").glob("*/*")}
    for name in ("tmp", "trash"):
        assert list((home / "jobs" / name).iterdir()) == [], name
    assert folders <= set(words) - {job_id for job_id, word in words.items() if word == "gone"}, folders
    names = [path.stem for path in (home / "jobs").rglob("*.json") if "damaged" not in path.parts]
    assert len(names) == len(set(names)), names
    assert len(store.damaged()) <= 2
    own = {job.id for job in store.list(limit=1000)[0] if job.principal == ADA}
    assert {job.id for job in store.list(limit=1000, principal=ADA)[0]} == own
    assert entries(home) == own, (entries(home), own)
    assert store.prune(among=[]).remaining == len(listed)
    for job in store.list(limit=1000)[0]:
        check_events(store, job)
    store.close()


def main() -> None:
    """Kill at each step, until a writer comes to its end."""
    logging.disable()  # what is set aside is meant to be
    directory, (prepare, act) = Path(sys.argv[1]), SCENARIOS[sys.argv[2]]
    step, died = 0, True
    stands = prepare(directory / "prepared")
    while died:
        step += 1
        home = directory / str(step)
        if stands:
            shutil.copytree(directory / "prepared", home)
        words, died = killed_at(step, home, act)
        try:
            check(home, stands | words)
        except AssertionError as error:
            raise AssertionError(f"killed at step {step}") from error
        shutil.rmtree(home)
    print(step - 1)


if __name__ == "__main__":
    main()
