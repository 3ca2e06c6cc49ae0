"""SIGKILL at any instruction: the store opens, and every acknowledged write is in it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from python_mcp_server.model import JobState
from python_mcp_server.store.files import FileJobStore
from tests.helpers.programs import python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

WRITER = """
import os, signal, sys
from pathlib import Path
from python_mcp_server.model import Job, JobProgress, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore

def kill_at(step):
    '''Die before system call number `step` of those that change a disk, or half way in a write.'''
    left = [step]
    def dying(name, real):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return call
    for name in ("open", "write", "fchmod", "close", "replace", "unlink", "mkdir", "rmdir", "chmod"):
        setattr(os, name, dying(name, getattr(os, name)))

def say(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()

store = FileJobStore(Path(sys.argv[1]))
import filelock, shutil
"""

LIVES = """
kill_at(int(sys.argv[2]))
for number in range(int(sys.argv[3])):
    job_id = new_job_id() if number % 2 else f"odd-{os.getpid()}-{number}"
    job = Job(job_id, "label", JobState.PENDING, utc_now())
    store.create(job)
    say(job.id, "pending")
    store.update(job.id, lambda job: job.evolve(status=JobState.RUNNING, progress=JobProgress(1)))
    say(job.id, "running")
    say(job.id, "ending")
    result = "x" * 100_000 * (number % 2)
    store.update(job.id, lambda job: job.evolve(status=JobState.COMPLETED, result=result))
    say(job.id, "completed")
    if number % 4 == 0:
        say(job.id, "pruning")
        store.prune(lambda found: found.id == job.id)
        say(job.id, "gone")
say("finished", "finished")
"""

AFTER = {
    "pending": {JobState.PENDING, JobState.RUNNING},
    "running": {JobState.RUNNING},
    "ending": {JobState.RUNNING, JobState.COMPLETED},
    "completed": {JobState.COMPLETED},
    "pruning": {JobState.COMPLETED, None},
    "gone": {None},
}


def written(home: Path, step: int, jobs: int) -> tuple[dict[str, str], bool]:
    """Run a writer that dies at a step; return the last word on each job, and whether it came to the end."""
    with python("-c", WRITER + LIVES, home, str(step), str(jobs)) as process:
        out, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) in ((0, ""), (-signal.SIGKILL, ""))
    words = dict(line.split() for line in out.splitlines() if line.count(" ") == 1)
    return words, words.pop("finished", None) is not None


def check(home: Path, acknowledged: dict[str, str]) -> None:
    """Open the store, and hold it against what was acknowledged."""
    store = FileJobStore(home)
    listed, more = store.list(limit=10_000)
    found = {job.id: job.status for job in listed}
    assert (len(found), more, store.damaged()) == (len(listed), False, [])
    for job_id, word in acknowledged.items():
        assert found.get(job_id) in AFTER[word], (job_id, word)
        job = store.get(job_id)
        assert (job.status if job else None) == found.get(job_id)
        if job and job.status is JobState.COMPLETED:
            assert job.result_note is None
    left = [path for name in ("tmp", "trash") for path in (home / "jobs" / name).iterdir()]
    finished = [
        path.stem for tree in ("completed", "live") for path in (home / "jobs" / tree).rglob("*.json")
    ]
    assert (left, len(finished)) == ([], len(set(finished)))
    assert len(listed) - len(acknowledged) <= 1
    store.close()


@pytest.mark.parametrize("first", range(1, 9))
def test_a_writer_killed_at_each_step_loses_nothing_it_acknowledged(tmp_path: Path, first: int):
    step, finished = first, False
    while not finished:
        home = tmp_path / str(step)
        acknowledged, finished = written(home, step, 2)
        check(home, acknowledged)
        step += 8
    assert step > 40


def test_writers_killed_at_any_instant_lose_nothing_they_acknowledged(home: Path):
    FileJobStore(home).close()
    acknowledged: dict[str, str] = {}
    for wanted_lines in (1, 7, 40, 90):
        with python("-c", WRITER + LIVES, home, "1000000000", "1000000") as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(wanted_lines)]
            process.kill()
            lines += process.stdout.readlines()
        acknowledged |= dict(line.split() for line in lines if line.endswith("\n"))
    store = FileJobStore(home)
    listed = store.list(limit=10_000)[0]
    found = {job.id: job.status for job in listed}
    assert len(found) == len(listed)
    assert store.damaged() == []
    for job_id, word in acknowledged.items():
        assert found.get(job_id) in AFTER[word] | ({None} if word == "completed" else set()), (job_id, word)
    store.close()
