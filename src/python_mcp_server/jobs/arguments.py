"""Results of other jobs as arguments: placeholders, which are replaced by the results when the body starts.

A placeholder may stand anywhere in arguments of plain lists, tuples and dictionaries. A record has it as
`{"$result": id}`; its spec lists the ids, so a dictionary of a user that looks alike stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from python_mcp_server.errors import InvalidInput
from python_mcp_server.model import Job, JobState
from python_mcp_server.options import JobOptions
from python_mcp_server.store.layout import is_job_id

if TYPE_CHECKING:
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.store.contract import JobStore

_KEY: Final = "$result"


@dataclass(frozen=True, slots=True)
class Result:
    """Stands for the result of another job among the arguments of a queued job.

    The job waits for the other one, and its body gets that one's result: plain JSON.

    Attributes:
        of: The name of the other job in the same graph, or its token.
    """

    of: str

    def __post_init__(self) -> None:
        if not isinstance(cast("object", self.of), str):
            raise InvalidInput(f"Result has {self.of!r:.160}; it must be the name or the token of a job")

    def __reduce__(self) -> NoReturn:
        raise InvalidInput(
            f"Result({self.of!r:.160}) is an argument of a call; it must be one of a job that is submitted"
        )


def results_in(value: Any) -> Iterator[str]:
    """Yield what the placeholders in a value stand for."""
    if isinstance(value, Result):
        yield value.of
    elif type(value) is dict:
        for inner in cast("dict[Any, Any]", value).values():
            yield from results_in(inner)
    elif type(value) in (list, tuple):
        for inner in cast("list[Any]", value):
            yield from results_in(inner)


def with_results(value: Any, result: Callable[[str], Any]) -> Any:
    """Return a value with `result(of)` in the place of each placeholder."""
    if isinstance(value, Result):
        return result(value.of)
    if type(value) is dict:
        return {name: with_results(inner, result) for name, inner in cast("dict[Any, Any]", value).items()}
    if type(value) in (list, tuple):
        return type(value)(with_results(inner, result) for inner in cast("list[Any]", value))
    return value


def encoded(value: Any) -> Any:
    """Return a value with its placeholders as a record has them."""
    return with_results(value, lambda of: {_KEY: of})


def decoded(value: Any, ids: Collection[str]) -> Any:
    """Return a value of a record with placeholders for these jobs."""
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        if len(named) == 1 and named.get(_KEY) in ids:
            return Result(named[_KEY])
        return {name: decoded(inner, ids) for name, inner in named.items()}
    return [decoded(inner, ids) for inner in cast("list[Any]", value)] if isinstance(value, list) else value


def spec_renamed(spec: dict[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """Return a spec with the results of other jobs in the place of those of the jobs in `ids`."""
    of: tuple[str, ...] = tuple(spec.get("results") or ())
    if not of:
        return spec

    def other(value: Any) -> Any:
        return with_results(decoded(value, of), lambda job_id: {_KEY: ids.get(job_id, job_id)})

    renamed = {"args": other(spec["args"]), "kwargs": other(spec["kwargs"])}
    return spec | renamed | {"results": [ids.get(job_id, job_id) for job_id in of]}


def waiting_for_results(request: Request) -> Request:
    """Return a request that also waits for the jobs whose results are among its arguments.

    Raises:
        InvalidInput: A placeholder does not name a job.
    """
    wanted = dict.fromkeys(results_in([request.args, request.kwargs]))
    for of in wanted:
        if not is_job_id(of):
            raise InvalidInput(f"Result has {of!r:.160}; it must be the token of a job, or a name of a graph")
    if not wanted:
        return request
    options = request.options or JobOptions()
    options = replace(options, after=(*options.after, *wanted))
    return replace(request, options=options, results=tuple(wanted))


def resolved(store: JobStore, request: Request) -> Request:
    """Return a request with the results in the place of its placeholders; each one is read once. Blocks.

    Raises:
        InvalidInput: A job has no result, or one that is no JSON; the text says why.
        StoreError: The store cannot be read.
    """
    results = {of: _result(store, of) for of in request.results}
    args = with_results(request.args, results.__getitem__)
    return replace(request, args=args, kwargs=with_results(request.kwargs, results.__getitem__))


def _result(store: JobStore, job_id: str) -> Any:
    job = store.get(job_id)
    if job is None:
        raise InvalidInput(f"the result of job {job_id} is an argument, and that job was removed")
    if job.status is not JobState.COMPLETED:
        raise InvalidInput(f"the result of {_named(job)} is an argument, and that job is {job.status}")
    if job.result_note is not None:
        raise InvalidInput(f"the result of {_named(job)} cannot be an argument: {job.result_note:.300}")
    return job.result


def _named(job: Job) -> str:
    return f"job {job.id}" if job.label == job.id else f"job {job.id} ({job.label})"


def renamed(arguments: tuple[tuple[Any, ...], Mapping[str, Any]], ids: Mapping[str, str]) -> tuple[Any, Any]:
    """Return `(args, kwargs)` with placeholders for ids in the place of those for the names of a graph."""
    args, kwargs = arguments

    def result(of: str) -> Result:
        return Result(ids.get(of, of))

    return with_results(args, result), with_results(dict(kwargs), result)
