"""The jobs that belong together: the nodes of a graph, or those that one waits for and that wait for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.jobs.recovery import GRAPH_TOOL
from python_mcp_server.store.keys import AFTER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from python_mcp_server.model import Job
    from python_mcp_server.store.contract import JobStore

_MOST: Final = 1_000


@dataclass(frozen=True, slots=True)
class Relatives:
    """The jobs that belong to one.

    Attributes:
        graph: The job that stands for their graph, if they have one.
        names: Mapping of each job's id to its name in the graph; empty where there is no graph.
        jobs: Mapping of each job's id to the job, predecessors first; None for one that was removed.
    """

    graph: Job | None
    names: Mapping[str, str]
    jobs: Mapping[str, Job | None]

    def after(self, job_id: str) -> tuple[str, ...]:
        """Return the ids of the jobs that this one waits or waited for."""
        return after_of(self.jobs.get(job_id))


def after_of(job: Job | None) -> tuple[str, ...]:
    """Return the ids of the jobs that a job waits or waited for."""
    return () if job is None or job.options is None else job.options.after


def predecessors_of(store: JobStore, job: Job) -> dict[str, Job | None]:
    """Return the mapping of the ids of the jobs that a job waits or waited for to these. Blocks.

    Raises:
        StoreError: The store cannot be read.
    """
    return {job_id: store.peek(job_id) for job_id in after_of(job)}


def relatives_of(store: JobStore, job: Job) -> Relatives:
    """Return the jobs that belong to a job, 1,000 at most. Blocks.

    Without a graph these are all that it waits or waited for, directly or not, and those that wait for it
    now.

    Raises:
        StoreError: The store cannot be read.
    """
    graph = job if job.tool == GRAPH_TOOL else None
    if graph is None and job.options is not None and job.options.graph is not None:
        graph = store.get(job.options.graph)
    names = _names(graph)
    found: dict[str, Job | None] = {} if job is graph else {job.id: job}
    _add(store, found, [*names, *after_of(job)])
    waiting = [] if names else [job.id]
    while waiting and len(found) < _MOST:
        for other in store.indexed(AFTER + waiting.pop(), _MOST):
            if other.id not in found:
                found[other.id] = other
                waiting.append(other.id)
                _add(store, found, after_of(other))
    return Relatives(graph, names, _in_order(found))


def _names(graph: Job | None) -> dict[str, str]:
    result: Any = None if graph is None else graph.result
    named: Any = cast("dict[str, Any]", result).get("jobs") if isinstance(result, dict) else None
    if not isinstance(named, dict):
        return {}
    return {str(job_id): name for name, job_id in cast("dict[str, Any]", named).items()}


def _add(store: JobStore, found: dict[str, Job | None], ids: Iterable[str]) -> None:
    """Add these jobs, and all that they wait or waited for."""
    ahead = [*ids]
    while ahead and len(found) < _MOST:
        job_id = ahead.pop()
        if job_id not in found:
            found[job_id] = store.peek(job_id)
            ahead += after_of(found[job_id])


def _in_order(found: dict[str, Job | None]) -> dict[str, Job | None]:
    """Return the jobs with predecessors first; the ids give the order of those that do not depend."""
    ordered = dict[str, "Job | None"]()
    rest = sorted(found)
    while rest:
        ready = [each for each in rest if all(o in ordered or o not in found for o in after_of(found[each]))]
        ordered |= {each: found[each] for each in ready or rest}
        rest = [each for each in rest if each not in ordered]
    return ordered
