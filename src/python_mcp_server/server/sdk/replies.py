"""How a tool answers: the value of a body becomes JSON once, and each answer is made of that JSON.

    value ──▶ Shown (result, note, reply) ──▶ answer in time
                  └──▶ the job's record   ──▶ answer later, by any server

So a call answers the same, however long it took. The JSON is the SDK's own, through the tool's output model
where it has one, and `jsonable` elsewhere; what JSON lacks is null, or a text, with a note. What a body
raised becomes a result that can always be sent.

The pictures that a result names are read and sent with it: not on the event loop, and never more than a
bound, whatever a record says. A result with images has its JSON as text in front of them and no structured
content, because Claude Code and Codex show their models nothing else where there is some.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import pydantic_core
from mcp.server.mcpserver.utilities.func_metadata import (
    FuncMetadata,
    _pydantic_readable_typeddict,  # pyright: ignore[reportPrivateUsage]
)
from mcp_types import CallToolResult, ImageContent, TextContent
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, SchemaSerializer

from python_mcp_server.errors import PythonMcpError, RemoteError
from python_mcp_server.jobs.reply import Replies, Shown, content_beside
from python_mcp_server.jobs.request import TRACE_HEADER
from python_mcp_server.jsonable import Form, jsonable, unspent
from python_mcp_server.runner.output import cut_middle
from python_mcp_server.runner.pictures import content_of, kind_of
from python_mcp_server.server.text import message_of, named, repair_unicode, type_name

if TYPE_CHECKING:
    from python_mcp_server.model import Job


_TRACEBACK_CHARS: Final = 4_000
_MOST: Final = 50
_MOST_BYTES: Final = 8_000_000
"""Of all pictures of one answer: a client takes a second for so many."""
TOOLS: Final = frozenset({
    "py_run_script_in_dir", "py_run_script_with_dependencies", "py_run_saved_script", "py_benchmark_script",
})  # fmt: skip
"""The tools whose results name pictures; `pictures` in the result of another tool means something else."""
_SHOW_A_JOB: Final = frozenset({"py_wait_job", "py_job_status"})
PLAIN_FORM: Final[Mapping[str, Any]] = {"style": "mcp", "structured": "objects"}
"""How a tool that this server does not know answers."""


def failure(exc: BaseException) -> CallToolResult:
    """Return an error result: a sentence, and the worker's traceback, a long one cut in its middle."""
    if isinstance(exc, PythonMcpError):
        sentence, trace = message_of(exc), exc.traceback_text if isinstance(exc, RemoteError) else ""
    else:
        sentence, trace = named(exc), _trace_of(exc)
    return error_with_trace(sentence, trace)


def error_with_trace(sentence: str, trace: str) -> CallToolResult:
    """Return an error result with this sentence and this traceback."""
    trace = trace.rstrip()
    return error_result(f"{sentence}\n\n{cut_middle(trace, _TRACEBACK_CHARS)}".rstrip())


def _trace_of(exc: BaseException) -> str:
    """Return the worker's traceback, which has the exception's notes too; without one, its notes."""
    kept: Any = getattr(exc, "__notes__", ())
    notes = [note for note in kept if isinstance(note, str)]
    traces = [note.removeprefix(TRACE_HEADER) for note in notes if note.startswith(TRACE_HEADER)]
    return "\n".join(traces or notes)


def error_result(text: str) -> CallToolResult:
    """Return an error result with this text."""
    return CallToolResult(content=[TextContent(type="text", text=repair_unicode(text))], is_error=True)


Aside = Callable[[str, Callable[[], Any]], Awaitable[Any]]
"""Runs a blocking call in a thread, two of a turn at once: `JobManager.aside`."""


async def with_pictures(result: CallToolResult, tool: str, aside: Aside) -> CallToolResult:
    """Add the pictures of a tool's result to it; where it shows a job, those of the job's result."""
    answer = cast("dict[str, Any]", result.structured_content or {})
    if tool in _SHOW_A_JOB:
        job = cast("dict[str, Any]", answer.get("job") or {})
        tool, answer = job.get("tool", ""), job.get("result")
    if tool in TOOLS and (images := await _images(answer, aside)):
        result.content.extend(images)
        result.structured_content = None
    return result


async def add_pictures(wire: dict[str, Any] | None, tool: str, aside: Aside) -> None:
    """Add the pictures of a tool's result to its wire form."""
    if wire is None or tool not in TOOLS:
        return
    if images := await _images(wire.get("structuredContent"), aside):
        content = cast("list[Any]", wire["content"])
        content += [image.model_dump(by_alias=True, mode="json", exclude_none=True) for image in images]
        del wire["structuredContent"]


async def _images(answer: Any, aside: Aside) -> list[ImageContent]:
    listed: Any = cast("Mapping[str, Any]", answer).get("pictures") if isinstance(answer, dict) else None
    pictures = cast("list[Mapping[str, Any]]", listed if isinstance(listed, list) else [])
    wanted = [each for each in pictures if each.get("attached")]
    if not wanted:
        return []
    turn = f"pictures in {os.path.dirname(str(wanted[0].get('path')))}"  # of a disk that may hang
    return cast("list[ImageContent]", await aside(turn, lambda: _read(wanted[:_MOST])))


def _read(wanted: list[Mapping[str, Any]]) -> list[ImageContent]:
    """Read the pictures that exist and still match the result."""
    images: list[ImageContent] = []
    left = _MOST_BYTES
    for each in wanted:
        small = each.get("preview")
        data = content_of(str(small or each["path"]), left)
        kind = kind_of(data)
        if kind is not None and (small or len(data) == each["size_bytes"]):
            left -= len(data)
            images.append(ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=kind))
    return images


class OutputModel:
    """The type that a tool declares for its results, as JSON has it.

    Args:
        kind: The type.
        wrapped: Whether a result is inside of it, as `result`.
        by_alias: As `jsonable` takes it.
        validates: Whether values are made to fit it, as the SDK does, or only written by it, as FastMCP does.
    """

    def __init__(self, kind: Any, *, wrapped: bool, by_alias: bool | None, validates: bool = True) -> None:
        self._kind = kind
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
        self._wrapped = wrapped
        self._by_alias = by_alias
        self._validates = validates

    def show(self, value: Any) -> Shown:
        """Return the JSON of a body's value; one that does not fit stays what it is, with the reason."""
        try:
            shown = self._written(self._validated(value) if self._validates else value)
        except BaseException as error:  # noqa: BLE001  the value's own code, and what pydantic says of it
            return self._show_plain(value, _reason(error))
        if shown.note is None or self.misfit(shown.result) is None:
            return shown
        reason = f"{shown.note}, and the declared return type does not allow that"
        return self.refused(value, shown.result, reason)

    def _show_plain(self, value: Any, reason: str) -> Shown:
        """Fit the value by its plain form: pydantic takes neither numpy's numbers nor broken Unicode."""
        plain = jsonable(value, by_alias=self._by_alias)
        try:
            return self._written(self._read(plain.value))._replace(note=plain.note)
        except (ValidationError, PydanticSerializationError):
            return self.refused(value, plain.value, reason)

    def _written(self, made: Any) -> Shown:
        form = Form(by_alias=self._by_alias)
        dumped = self._dumped(made, form)
        return Shown(form.of(dumped["result"] if self._wrapped else dumped), form.note)

    def show_json(self, result: Any, note: str | None) -> Shown:
        """Return the result of `show`, from JSON that was made without this model."""
        try:
            return self._written(self._read(result))._replace(note=note)
        except (ValidationError, PydanticSerializationError) as error:
            return self.refused(result, result, note or _reason(error))

    def _validated(self, value: Any) -> Any:
        if isinstance(value, Iterator):
            value = unspent(cast("Iterator[Any]", value))
        wrapped = {"result": value} if self._wrapped else value
        return self._adapter.validate_python(wrapped, by_alias=True, by_name=True)

    def _read(self, result: Any) -> Any:
        text = pydantic_core.to_json(repair_unicode({"result": result} if self._wrapped else result))
        return self._adapter.validate_json(text, by_alias=True, by_name=True)

    def _dumped(self, made: Any, form: Form) -> Any:
        # the SDK writes an instance by its own class, so that a subclass keeps its fields; FastMCP does not
        own = self._validates and isinstance(made, BaseModel)
        kind = cast("Any", type(made)) if own else self._kind
        how: dict[str, Any] = {"by_alias": self._by_alias, "warnings": False, "fallback": form.of}
        return _serializer(kind).to_python(made, mode="json", **how)

    def misfit(self, result: Any) -> str | None:
        """Return why this JSON does not fit; None where it does."""
        try:
            self._read(result)
        except ValidationError as error:
            return _reason(error)
        return None

    def refused(self, value: Any, result: Any, reason: str) -> Shown:
        """Return the record's form of a value that cannot be answered."""
        sentence = f"the body returned a value of type {type_name(value)} that cannot be answered: {reason}"
        return Shown(result, sentence, {"error": True})


@lru_cache(maxsize=1024)
def _serializer(kind: Any) -> SchemaSerializer:
    """Return pydantic's serializer of a type; NaN and infinities stay, so that they can be reported."""
    schema = TypeAdapter(kind).core_schema
    return SchemaSerializer(schema, config={"ser_json_inf_nan": "constants"})


class ServerReplies(Replies, Protocol):
    """How one tool answers, in a process that has its model."""

    def show_json(self, result: Any, note: str | None) -> Shown:
        """Return the result of `show`, from JSON that was made without the tool's model."""
        ...


class SdkReplies:
    """How a tool answers on the SDK's server."""

    def __init__(self, metadata: FuncMetadata) -> None:
        kind = metadata.output_model
        wrapped = metadata.wrap_output
        self._model: OutputModel | None = None
        if kind is not None:
            self._model = OutputModel(_pydantic_readable_typeddict(kind), wrapped=wrapped, by_alias=True)
        structured = None if kind is None else "wrapped" if wrapped else "whole"
        self.form: Mapping[str, Any] = {"style": "mcp", "structured": structured, "by_alias": True}

    def show(self, value: Any) -> Shown:
        """Return the JSON of a body's value."""
        if isinstance(value, CallToolResult):
            return show_answer(value, self._model)
        if self._model is None:
            shown = Shown(*jsonable(value))
            return _with(shown, content_beside(value, shown.result, self.form))
        shown = self._model.show(value)
        if "error" in shown.reply:
            return shown
        beside = content_beside(value, shown.result, self.form)
        if beside or isinstance(value, BaseModel):
            return _with(shown, beside)
        return _with(shown, _text_beside(jsonable(value).value, shown.result, self.form))

    def show_json(self, result: Any, note: str | None) -> Shown:
        """Return the result of `show`, from JSON that was made without the tool's model."""
        if self._model is None:
            return Shown(result, note)
        shown = self._model.show_json(result, note)
        return _with(shown, _text_beside(result, shown.result, self.form))


def _with(shown: Shown, beside: Mapping[str, Any]) -> Shown:
    return shown._replace(reply={**beside, **shown.reply}) if beside else shown


def _text_beside(raw: Any, result: Any, form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content that a reply needs where the model has changed a value, because the SDK makes the
    text of the original value.
    """
    raw = repair_unicode(raw)
    if pydantic_core.to_json(raw) == pydantic_core.to_json(repair_unicode(result)):
        return {}
    blocks: list[TextContent] = list(_blocks(raw, form))
    return {"content": [block.model_dump(by_alias=True, exclude_none=True) for block in blocks]}


def show_answer(answer: CallToolResult, model: OutputModel | None) -> Shown:
    """Return the record's form of a whole answer, which must fit the tool's model unless it is an error."""
    form = Form(by_alias=True)
    said = answer.model_dump(by_alias=True, mode="json", exclude_unset=True, fallback=form.of)
    said = repair_unicode(form.of(said))
    structured = said.get("structuredContent")
    if model is not None and not answer.is_error and (reason := model.misfit(structured)) is not None:
        return model.refused(answer, structured, reason)
    return Shown(said["content"] if structured is None else structured, form.note, {"answer": said})


def answer_of(shown: Shown, form: Mapping[str, Any]) -> CallToolResult:
    """Return the answer of a call."""
    reply = {**form, **shown.reply}
    if (answer := reply.get("answer")) is not None:
        return CallToolResult.model_validate(answer, by_name=False)
    result, note = repair_unicode(shown.result), repair_unicode(shown.note)
    content = _content(result, reply)
    if reply.get("error"):
        content = [text_block(note or "this is no answer"), *content]
        return CallToolResult.model_validate({"content": content, "isError": True})
    content += [text_block(f"({note})")] if note else []
    made: dict[str, Any] = {"content": content, "structuredContent": _structured(result, reply)}
    if reply["style"] == "fastmcp" and reply["structured"] == "wrapped":
        made["_meta"] = {"fastmcp": {"wrap_result": True}}
    return CallToolResult.model_validate(made)


def result_from_record(job: Job, replies: ServerReplies | None) -> CallToolResult:
    """Return the answer that the call of a completed job would have given.

    Args:
        job: The job.
        replies: How its tool answers; None where this server does not know the tool.
    """
    reply = job.reply or {}
    shown = Shown(job.result, job.result_note, reply)
    form = PLAIN_FORM if replies is None else replies.form
    doubtful = not reply or reply.get("raw") or (job.result_note is not None and not reply.get("error"))
    if replies is not None and doubtful:  # a note may be of the store, whose file is damaged
        fitted = replies.show_json(job.result, job.result_note)
        shown = fitted._replace(reply={**fitted.reply, **reply})
    return answer_of(shown, {**PLAIN_FORM, **form})


def _structured(result: Any, reply: Mapping[str, Any]) -> Any:
    kind = reply["structured"]
    if kind == "wrapped":
        return {"result": result}
    has_all = kind == "whole" or (kind == "objects" and isinstance(result, dict))
    return cast("Any", result) if has_all else None


def _content(result: Any, reply: Mapping[str, Any]) -> list[Any]:
    beside = reply.get("content")
    if isinstance(beside, list):
        return list(repair_unicode(cast("Any", beside)))
    if beside == "one":
        return [text_block(_json(result, reply))]
    return list(_blocks(result, reply))


def _blocks(result: Any, reply: Mapping[str, Any]) -> Any:
    """Return the text of a result: the SDK makes a block of each member of a list, FastMCP one of all."""
    if result is None or (result == [] and reply["style"] == "fastmcp"):
        return
    if isinstance(result, str):
        yield text_block(result)
    elif isinstance(result, list) and reply["style"] == "mcp":
        for each in cast("list[Any]", result):
            yield from _blocks(each, reply)
    else:
        yield text_block(_json(result, reply))


def _json(result: Any, reply: Mapping[str, Any]) -> str:
    return pydantic_core.to_json(result, indent=2 if reply["style"] == "mcp" else None).decode()


def text_block(text: str) -> Any:
    """Return a block of text."""
    return TextContent(type="text", text=text)


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError) or "Circular reference" in message_of(error):
        return "it contains itself, or is nested too deeply; return plain data"
    if isinstance(error, ValidationError):
        first: Any = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "result")
        misfit = f"{where and where + ': '}{repair_unicode(first['msg'])}"
        return f"it does not fit the declared return type: {misfit}"
    if isinstance(error, PydanticSerializationError):
        return f"it is not JSON: {message_of(error)}"
    return named(error)
