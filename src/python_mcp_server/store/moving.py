"""Copies the jobs of one store to another, with their files and what belongs to them in the home. Used by the
command line only.

A job whose id is in the target already was copied before, so a copy that was interrupted goes on where it
was. The files of a job are copied before its record: a record in the target says that all of it is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from python_mcp_server.atomic import make_directory, translate_os_errors
from python_mcp_server.errors import StoreError
from python_mcp_server.model import Job, JobState, utc_now
from python_mcp_server.store.contract import JobStore
from python_mcp_server.store.home_parts import copy_parts, move_schedules

MOVED: Final = "moved"
_PAGE: Final = 200


@dataclass(slots=True)
class Moved:
    """The result of a copy.

    Attributes:
        copied: How many jobs are in the target now and were not before.
        present: How many were there already.
        live: The ids of the jobs that stay, because their processes live.
        schedules: How many schedules are in the target now; they are no longer in the source.
        differing: The parts of the home, such as "queues.json", that were in the target already and stay as
            they are there.
    """

    copied: int = 0
    present: int = 0
    live: list[str] = field(default_factory=list[str])
    schedules: int = 0
    differing: list[str] = field(default_factory=list[str])


def move_jobs(source: JobStore, target: JobStore, is_alive: Callable[[Job], bool]) -> Moved:
    """Copy all jobs; the source keeps those that have ended. One that has not ended goes on in the target
    alone, and only if its processes are gone. The rules of the queues, and all else that tells how jobs run,
    are copied before the jobs. The schedules are moved after them, unless a job stays.

    Args:
        source: Where the jobs are.
        target: Where they are to be; it has another home.
        is_alive: Whether a process of this job lives.

    Raises:
        StoreError: A store cannot be used, or the files of a job cannot be copied. Another call goes on.
    """
    moved = Moved(differing=copy_parts(source, target))
    for listed in _all_jobs(source):
        if not listed.status.terminal:
            _move_live(source, target, listed.id, is_alive, moved)
        elif target.peek(listed.id) is not None:
            moved.present += 1
        elif (job := source.get(listed.id)) is not None and job.error_kind != MOVED:
            _copy(source, target, job)
            moved.copied += 1
    if not moved.live:
        moved.schedules = move_schedules(source, target)
    return moved


def _all_jobs(store: JobStore) -> Iterator[Job]:
    before, more = None, True
    while more:
        page, more = store.list(limit=_PAGE, before=before)
        yield from page
        more = more and bool(page)
        before = page[-1].id if page else None


def _move_live(
    source: JobStore, target: JobStore, job_id: str, is_alive: Callable[[Job], bool], moved: Moved
) -> None:
    """Copy a job and end it in the source, both under its lock there: no server starts it meanwhile."""

    def change(job: Job) -> Job:
        if is_alive(job):
            moved.live.append(job.id)
            return job
        if target.peek(job.id) is None:
            _copy(source, target, job)
            moved.copied += 1
        else:  # an earlier call was killed here
            moved.present += 1
        error = f"it was moved to another store ({target.home}), and goes on there"
        end = {"completed_at": utc_now(), "error": error, "error_kind": MOVED, "call": None}
        return job.evolve(status=JobState.FAILED, **end)

    job = source.update(job_id, change)
    if job.status.terminal and job.error_kind != MOVED and target.peek(job_id) is None:
        _copy(source, target, job)  # it has ended since it was listed
        moved.copied += 1


def _copy(source: JobStore, target: JobStore, job: Job) -> None:
    there, here = source.folder(job.id), target.folder(job.id)
    with translate_os_errors(str(target.home), f"copy the files of job {job.id}"):
        if there.is_dir():
            make_directory(str(here.parent))
            try:
                shutil.copytree(there, here, symlinks=True, dirs_exist_ok=True)
            except shutil.Error as error:
                raise StoreError(f"Could not copy {there}: {error!s:.200}; make it readable") from error
    target.create(job)
