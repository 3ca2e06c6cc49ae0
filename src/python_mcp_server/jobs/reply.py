"""How a job's call answers. The record keeps it, so that any server answers as the call would have in time.

A reply is a dictionary of JSON in the record. Its form is known when the job is made; the facts that depend
on the value are added when the job ends.

    style        the rules that make text of a result: "mcp" or "fastmcp"
    structured   the place of the result in structured content: it is the content ("whole"), in it as
                 `result` ("wrapped"), or the content if it is an object ("objects"); null for none
    by_alias     as `jsonable` takes it
    content      blocks of content that cannot be derived from the result; "one" where its JSON is one text
    answer       the whole answer, where the body returned one
    error        true where the answer is an error, because the result does not fit the declared type
    raw          true where the tool's model was not known when the job ended
    job_result   the rest of a job's own `JobResult`; see `job_result`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast

from python_mcp_server.job_result import facts_of
from python_mcp_server.jsonable import block_of, jsonable
from python_mcp_server.model import JOB_RESULT


class Shown(NamedTuple):
    """A body's value as its record has it.

    Attributes:
        result: The JSON.
        note: The facts of the value that the JSON leaves out, or why the value is not an answer.
        reply: The facts that the value adds to the form of the reply.
    """

    result: Any = None
    note: str | None = None
    reply: Mapping[str, Any] = {}


class Replies(Protocol):
    """How one tool answers the callers of one kind of server."""

    @property
    def form(self) -> Mapping[str, Any]:
        """Return the facts that all replies share."""
        ...

    def show(self, value: Any) -> Shown:
        """Return this value's form for the record. The value's own code may run."""
        ...


class Adapter(Protocol):
    """A server's view of a tool."""

    def replies(self, style: str) -> Replies:
        """Return how the tool answers the callers of this kind of server, "mcp" or "fastmcp"."""
        ...


@dataclass(frozen=True, slots=True)
class RawReplies:
    """How a tool without a known model answers; see `show_raw`."""

    form: Mapping[str, Any]

    def show(self, value: Any) -> Shown:
        """Return this value's form for the record."""
        return show_raw(value, self.form)


@dataclass(frozen=True, slots=True)
class JobReplies:
    """How a job of the framework answers: with its `JobResult`."""

    form: Mapping[str, Any] = field(default_factory=lambda: {JOB_RESULT: {}})

    def show(self, value: Any) -> Shown:
        """Return the form of the result for the record."""
        return Shown(*facts_of(value))


def replies_of(form: Mapping[str, Any] | None, adapter: Adapter | None) -> Replies | None:
    """Return how a job's tool answers, from the job's record and this process's knowledge of the tool."""
    if form is not None and JOB_RESULT in form:
        return JobReplies()
    if adapter is not None:
        return adapter.replies((form or {}).get("style", "mcp"))
    return None if form is None else RawReplies(form)


Show = Callable[[Any], Shown]


def show_raw(value: Any, form: Mapping[str, Any] | None) -> Shown:
    """Return a value's form for the record, for a tool without a known model; the value's code may raise."""
    known = form or {}
    if JOB_RESULT in known:
        return JobReplies().show(value)
    result, note = jsonable(value, by_alias=known.get("by_alias", True))
    beside = content_beside(value, result, known)
    return Shown(result, note, {"raw": True} | beside if known or beside else {})


def content_beside(value: Any, result: Any, form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that a reply needs so that its content is made of the value, not of its JSON."""
    if (block := block_of(value)) is not None:
        return {"content": [block]}
    try:
        if form.get("style") == "fastmcp":
            return _mixed(value, form.get("by_alias", True))
        return _apart(value, result)
    except RecursionError:  # it contains itself: its JSON is a text
        return {}


def _apart(value: Any, result: Any) -> dict[str, Any]:
    """Return the blocks as the SDK makes them: one of each member of a list."""
    if not isinstance(value, list | tuple):
        return {"content": "one"} if _becomes_other(value, result) else {}
    parts = list(_parts(cast("list[Any]", value)))
    if not any(block_of(part) or _becomes_other(part, ...) for part in parts):
        return {}
    return {"content": [_as_block(part) for part in parts if part is not None]}


def _mixed(value: Any, by_alias: bool | None) -> dict[str, Any]:
    """Return the blocks as FastMCP makes them: one of a list, unless the list has a block of content."""
    parts = cast("list[Any]", value) if isinstance(value, list | tuple) else []
    if not any(block_of(part) for part in parts):
        return {}
    return {"content": [_as_block(part, None, by_alias=by_alias) for part in parts]}


def _becomes_other(value: Any, result: Any) -> bool:
    """Whether a value that is neither text nor list becomes one of these as JSON, so that its text would
    differ.
    """
    if value is None or isinstance(value, str | int | float | dict | list | tuple):
        return False
    return isinstance(jsonable(value).value if result is ... else result, str | list)


def _parts(values: Any) -> Iterator[Any]:
    """Yield the members of lists within lists, because the SDK makes a block of each."""
    for each in values:
        if isinstance(each, list | tuple):
            yield from _parts(each)
        else:
            yield each


def _as_block(value: Any, indent: int | None = 2, *, by_alias: bool | None = True) -> dict[str, Any]:
    if (block := block_of(value)) is not None:
        return block
    if isinstance(value, str):
        return {"type": "text", "text": str.__str__(value)}
    separators = None if indent else (",", ":")
    form = jsonable(value, by_alias=by_alias).value
    text = json.dumps(form, indent=indent, separators=separators, ensure_ascii=False)
    return {"type": "text", "text": text}
