"""What is done to a whole graph by the id of the job that stands for it.

The record of that job is final as soon as the graph is submitted. A wait for it, and a cancel of it, are for
the jobs of the graph.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from python_mcp_server.errors import JobNotFound
from python_mcp_server.jobs.chains import GRAPH_TOOL
from python_mcp_server.model import Job, JobState

if TYPE_CHECKING:
    from python_mcp_server.store.contract import JobStore


def is_graph(job: Job) -> bool:
    """Whether a job stands for a graph that is submitted: it has ended, and no body of it began."""
    return job.tool == GRAPH_TOOL and job.status is JobState.COMPLETED and job.started_at is None


def jobs_of(store: JobStore, graph: Job) -> list[Job]:
    """Return the jobs of a graph that were not removed, predecessors first. Blocks.

    Raises:
        StoreError: The store cannot be read.
    """
    result: Any = graph.result if is_graph(graph) else None
    named: Any = cast("dict[str, Any]", result).get("jobs") if isinstance(result, dict) else None
    ids = [*cast("dict[str, str]", named).values()] if isinstance(named, dict) else []
    return [job for job_id in ids if (job := store.peek(job_id)) is not None]


def unended_of(store: JobStore, graph: Job) -> list[str]:
    """Return the ids of the jobs of a graph that have not ended, successors first. Blocks."""
    return [job.id for job in reversed(jobs_of(store, graph)) if not job.status.terminal]


def cancelled_of(store: JobStore, job_ids: list[str]) -> int:
    """Return how many of these jobs are cancelled. Blocks."""
    jobs = map(store.peek, job_ids)
    return sum(job is not None and job.status is JobState.CANCELLED for job in jobs)


def cancel_graph(store: JobStore, graph: Job, cancel: Callable[[str], Job]) -> None:
    """Cancel the jobs of a graph; return when their last processes are gone. Blocks."""
    for job_id in unended_of(store, graph):
        with suppress(JobNotFound):  # it was removed meanwhile
            cancel(job_id)


async def wait_for_jobs(
    job_ids: list[str], timeout_s: float, wait: Callable[[str, float], Awaitable[tuple[Job, bool]]]
) -> bool:
    """Wait until these jobs have ended, or the time is over; return whether it ran out first."""
    deadline = time.monotonic() + timeout_s
    for job_id in job_ids:
        with suppress(JobNotFound):  # it was removed, so it has ended
            if (await wait(job_id, max(0.0, deadline - time.monotonic())))[1]:
                return True
    return False


async def cancel_jobs(job_ids: list[str], cancel: Callable[[str], Awaitable[Job]]) -> None:
    """Cancel these jobs at once; return when their last processes are gone."""
    for error in await asyncio.gather(*map(cancel, job_ids), return_exceptions=True):
        if isinstance(error, BaseException) and not isinstance(error, JobNotFound):
            raise error
