"""Graphs of jobs: submitted as one, so that either all of them are queued or none runs.

The job of the graph itself is the gate: it is written first, as one that is to be cancelled, and the jobs
that wait for no other job wait for it. When all are written it is completed, which lets them start. If the
submitter dies before that, the next look of any server cancels the gate, and with it all that waits; while
the submitter lives, the others leave the gate alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Final, cast

from python_mcp_server.errors import InvalidInput, JobNotFound, StoreError
from python_mcp_server.jobs.arguments import Result, renamed, results_in
from python_mcp_server.jobs.chains import GRAPH_TOOL, release_after
from python_mcp_server.jobs.request import Request, request_of
from python_mcp_server.jobs.settle import settle
from python_mcp_server.jobs.spending import take_back
from python_mcp_server.kinds import AsyncJob
from python_mcp_server.limits import Limits
from python_mcp_server.model import MOST_LABEL_CHARS, Job, JobState, Outcome, cut_label, new_job_id, utc_now
from python_mcp_server.options import OF_GRAPHS, JobOptions, check_name
from python_mcp_server.store.layout import is_job_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from python_mcp_server.jobs.engine import Engine
    from python_mcp_server.store.contract import JobStore

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Node:
    request: Request
    after: tuple[str, ...]


class Graph:
    """Jobs that depend on each other, to be submitted as one: `await manager.submit_graph(graph)`."""

    def __init__(self, label: str = "graph") -> None:
        """Make an empty graph.

        Args:
            label: The name of the whole, for those who read lists of jobs: 1 to 200 characters.

        Raises:
            InvalidInput: The label is something else.
        """
        if not (isinstance(cast("object", label), str) and 1 <= len(label) <= MOST_LABEL_CHARS):
            raise InvalidInput(
                f"the graph's label is {label!r:.160}; it must be a text of 1 to {MOST_LABEL_CHARS} "
                "characters"
            )
        self.label = label
        self._nodes: dict[str, _Node] = {}

    def add(
        self,
        name: str,
        job: Request | AsyncJob | Callable[..., Any],
        *,
        after: Iterable[str] = (),
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        label: str | None = None,
        timeout_seconds: float | None = None,
        **options: Any,
    ) -> Result:
        """Add a job.

        Args:
            name: Its name in the graph: 1 to 60 of `A-Z a-z 0-9 _ -`.
            job: The job, or a function to call.
            after: The names of the jobs that must end before it starts, also of those that are added later,
                or tokens of other jobs. Those whose `Result` is among its arguments come to them.
            args: The function's arguments; none beside a job.
            kwargs: The function's keyword arguments; none beside a job.
            label: What lists show; that of the job, or its name in the graph, where None.
            timeout_seconds: Its time limit; 0 for none, None for that of the job.
            **options: The fields of `JobOptions` that differ from those of the job, such as
                `run_after_failure`.

        Returns:
            What stands for its result among the arguments of other jobs.

        Raises:
            InvalidInput: The name is taken, or something else is wrong; nothing was added.
        """
        check_name(name, "job's name")
        if name in self._nodes:
            raise InvalidInput(f"the graph has a job {name!r} already; each needs a name of its own")
        _check_lists(after, args, kwargs)
        request = _request(job, tuple(args), dict(kwargs or {}), timeout_seconds)
        wanted = tuple(dict.fromkeys((*after, *results_in([request.args, request.kwargs]))))
        known = {
            each.name: getattr(request.options or JobOptions(), each.name) for each in fields(JobOptions)
        }
        known = {name: value for name, value in known.items() if name not in OF_GRAPHS}
        if wrong := next((option for option in options if option not in known), None):
            raise InvalidInput(f"the job {name!r} has no option {wrong!r:.160}; there are {', '.join(known)}")
        label = label or request.label or name
        request = replace(request, options=JobOptions(**(known | options)), label=label)
        self._nodes[name] = _Node(request, wanted)
        return Result(name)

    def ordered(self) -> dict[str, tuple[Request, tuple[str, ...]]]:
        """Return the mapping of each name to its request and what it waits for, predecessors first.

        Raises:
            InvalidInput: The graph is empty, a job waits for one that is not there, or for itself.
        """
        if not self._nodes:
            raise InvalidInput("the graph has no job; add one")
        sorter = TopologicalSorter[str]()
        for name, node in self._nodes.items():
            for other in node.after:
                if other not in self._nodes and not is_job_id(other):
                    raise InvalidInput(
                        f"the job {name!r} waits for {other!r:.160}, which is not in the graph; it has "
                        f"{', '.join(self._nodes):.160}"
                    )
            sorter.add(name, *(other for other in node.after if other in self._nodes))
        try:
            order = [*sorter.static_order()]
        except CycleError as error:
            ring = " -> ".join(error.args[1])
            raise InvalidInput(
                f"the jobs of the graph wait for each other: {ring}; remove one step"
            ) from None
        return {name: (self._nodes[name].request, self._nodes[name].after) for name in order}


def is_whole_graph(job: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether what is submitted is a graph, which takes no arguments.

    Raises:
        InvalidInput: It is one, and has some.
    """
    if isinstance(job, Graph) and (args or kwargs):
        raise InvalidInput("a graph takes no arguments and no options; they belong to its jobs, as in `add`")
    return isinstance(job, Graph)


def _check_lists(after: Any, args: Any, kwargs: Any) -> None:
    if isinstance(after, str) or not isinstance(after, Iterable):
        raise InvalidInput(f"after is {after!r:.160}; it must be a list of names")
    if isinstance(args, str) or not isinstance(args, Iterable):
        raise InvalidInput(f"args is {args!r:.160}; it must be a list of arguments")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise InvalidInput(f"kwargs is {kwargs!r:.160}; it must be arguments by name")


def _request(job: Any, args: tuple[Any, ...], kwargs: dict[str, Any], timeout_s: float | None) -> Request:
    if isinstance(job, (Request, AsyncJob)):
        if args or kwargs:
            raise InvalidInput("args and kwargs are for a function; a job has its arguments already")
        if isinstance(job, AsyncJob):
            return request_of(job, timeout_seconds=timeout_s)
        return job if timeout_s is None else replace(job, limits=_timed(job.limits, timeout_s))
    if not callable(job):
        raise InvalidInput(f"the job is {job!r:.160}; it must be a job or a function")
    return Request(job, args, kwargs, limits=None if not timeout_s else _timed(None, timeout_s))


def _timed(limits: Limits | None, timeout_s: float) -> Limits:
    return replace(limits or Limits(), timeout_seconds=timeout_s or None)


@dataclass(frozen=True, slots=True)
class SubmittedGraph:
    """A graph that was submitted.

    Attributes:
        id: The id of the job that stands for the whole; its result is `{"jobs": {name: id}}`.
        jobs: Mapping of a job's name to its token.
    """

    id: str
    jobs: Mapping[str, str] = field(default_factory=dict[str, str])

    def __getitem__(self, name: str) -> str:
        return self.jobs[name]


async def submit_graph(engine: Engine, graph: Graph) -> SubmittedGraph:
    """Submit all jobs of a graph; they are durable when this returns, and start only then.

    Raises:
        InvalidInput: The graph is not valid, or one of its jobs is refused; no job was queued.
        JobNotFound: A token that a job waits for is unknown; no job was queued.
        StoreError: A job cannot be recorded; those that are recorded are cancelled.
    """
    if not isinstance(cast("object", graph), Graph):
        raise InvalidInput(f"the graph is {graph!r:.160}; it must be a Graph")
    order = graph.ordered()
    jobs = {name: new_job_id() for name in order}
    made, own = SubmittedGraph(new_job_id(), jobs), set(jobs.values())
    queued = {name: await _queued(engine, made, own, name, node) for name, node in order.items()}
    services, store = engine.services, engine.services.store
    gate = Job(
        made.id,
        cut_label(graph.label),
        JobState.PENDING,
        utc_now(),
        tool=GRAPH_TOOL,
        background=True,
        ending=JobState.CANCELLED.value,
        owner=services.identity,
        principal=next(request.principal for _, request in queued.values()),
    )
    await services.in_store(store.create, gate)
    try:
        repeats = False
        for name, (job, request) in queued.items():
            new = job, request
            if repeats:  # it may wait for one of the jobs that are there already
                new = await _queued(engine, made, own, name, order[name])
            jobs[name] = (await engine.submissions.add(*new)).id
            repeats = repeats or jobs[name] != job.id
    except Exception:
        await services.in_store(_withdraw, store, made.id, own)
        raise
    except BaseException:
        services.in_background(partial(_withdraw, store, made.id, own))
        raise
    await services.in_store(_open_gate, store, made)
    engine.slots.wake()
    return made


async def _queued(
    engine: Engine, made: SubmittedGraph, own: set[str], name: str, node: tuple[Request, tuple[str, ...]]
) -> tuple[Job, Request]:
    """Return the record and the request of a job of a graph. It waits for the gate, unless it waits for one
    of the jobs that are the graph's `own`: those that it repeats may have ended.
    """
    request, after = node
    args, kwargs = renamed((request.args, request.kwargs), made.jobs)
    options = replace(
        request.options or JobOptions(),
        after=tuple(made.jobs.get(other, other) for other in after),
        graph=made.id,
        node=name,
    )
    request = replace(request, args=args, kwargs=kwargs, options=options)
    job, request = await engine.prepare(request, made.jobs[name])
    if any(made.jobs.get(other) in own for other in after):
        return job, request
    owner = job.owner if job.call is None else None
    return job.evolve(waits_for=(made.id, *job.waits_for), owner=owner), request


def _open_gate(store: JobStore, made: SubmittedGraph) -> None:
    """Complete the job of the graph, and let the first jobs start."""
    result = {"jobs": dict(made.jobs)}
    opened = {"status": JobState.COMPLETED, "ending": None, "owner": None, "result": result}
    job = store.update(made.id, lambda job: job.evolve(**opened, completed_at=utc_now()))
    release_after(store, made.id)
    if job.status is not JobState.COMPLETED:
        raise StoreError(f"the graph {made.id} was cancelled while it was submitted; submit it again")


def _withdraw(store: JobStore, graph_id: str, own: set[str]) -> None:
    """Cancel what was written of a graph that is refused, and remove it."""
    try:
        settle(store, graph_id, Outcome(cancelled=True))
        for job_id in (*own, graph_id):
            job = store.peek(job_id)
            if job is not None and job.status.terminal and store.remove(job_id) and job_id != graph_id:
                take_back(store, job)
    except (StoreError, JobNotFound) as error:
        _log.warning("what was written of the graph %s stays, and never runs: %s", graph_id, error)
