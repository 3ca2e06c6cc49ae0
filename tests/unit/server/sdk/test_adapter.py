"""A decorated function looks and answers to the SDK exactly as an undecorated one, or with a job handle."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from mcp import Client
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict, RootModel

from python_mcp_server.errors import InvalidInput, RemoteError
from python_mcp_server.server.sdk.adapter import ToolAdapter, adapt
from python_mcp_server.server.sdk.private import progress_sender
from python_mcp_server.server.sdk.replies import failure
from tests.helpers import run

HANDLE = {"job_id": "j-1", "status": "running", "message": "Task exceeded 1.0s time budget"}


class Report(BaseModel):
    number: int
    note: str | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    when: datetime


class Pair(typing.TypedDict):
    left: int
    right: typing.NotRequired[str]


@dataclass
class Point:
    x: int
    names: list[str]


def an_int(n: int) -> int:
    return n


def a_text(n: int) -> str:
    return str(n)


def a_list(n: int) -> list[str]:
    return [str(n)] * 2


def a_dict(n: int) -> dict[str, Any]:
    return {"n": n}


def a_bare_dict(n: int) -> dict:
    return {"n": n}


def a_typed_dict(n: int) -> Pair:
    return {"left": n}


def a_dataclass(n: int) -> Point:
    return Point(n, ["a"])


def a_model(n: int) -> Report:
    return Report(number=n)


def a_strict_model(n: int) -> Strict:
    return Strict(when=datetime(2026, 1, n))  # noqa: DTZ001


def nothing(n: int) -> None:
    return None


def anything(n):
    return {"n": n}


def an_optional(n: int) -> int | None:
    return n


def an_image(n: int) -> Image:
    return Image(data=bytes([n]), format="png")


def images(n: int) -> list[Image]:
    return [Image(data=bytes([n]), format="png"), Image(data=b"2", format="png")]


def a_whole_result(n: int) -> CallToolResult:
    return CallToolResult(content=[], structured_content={"n": n})


KINDS = [
    an_int, a_text, a_list, a_dict, a_bare_dict, a_typed_dict, a_dataclass, a_model, a_strict_model, nothing,
    anything, an_optional, an_image, images, a_whole_result,
]  # fmt: skip


def decorated(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fn` behind its face; `async_mode` makes it answer a handle."""
    seen = adapt(fn)

    @functools.wraps(fn)
    async def wrapper(**arguments: Any) -> CallToolResult:
        ctx = arguments.pop(seen.context_name)
        assert isinstance(ctx, Context)
        handed_over = arguments.pop("async_mode")
        arguments.pop("job_label")
        if seen.body_context:
            arguments[seen.body_context] = ctx
        return seen.handle(HANDLE) if handed_over else seen.answer(fn(**arguments))

    wrapper.__signature__ = seen.signature  # type: ignore[attr-defined]
    wrapper.__annotations__ = seen.annotations
    return wrapper


class Numbers(RootModel[list[int]]): ...


class Counts(RootModel[dict[str, int]]): ...


class Either(RootModel[list[int] | int]): ...


def some_numbers(n: int) -> Numbers:
    return Numbers([n, n])


def some_counts(n: int) -> Counts:
    return Counts({"n": n})


def one_of_both(n: int) -> Either:
    return Either([n])


@pytest.mark.parametrize("fn", [some_numbers, some_counts, one_of_both])
async def test_a_model_that_is_no_object_is_answered_as_by_the_undecorated_tool(fn: Callable[..., Any]):
    plain, ours = MCPServer("same"), MCPServer("same")
    plain.tool()(fn)
    ours.tool()(decorated(fn))
    async with Client(plain, mode="2026-07-28") as one, Client(ours, mode="2026-07-28") as other:
        expected = await one.call_tool(fn.__name__, {"n": 3})
        assert await other.call_tool(fn.__name__, {"n": 3}) == expected
        handed_over = await other.call_tool(fn.__name__, {"n": 3, "async_mode": True})
        assert handed_over.structured_content == HANDLE
    async with Client(ours, mode="legacy") as older:
        assert [tool.name for tool in (await older.list_tools()).tools] == [fn.__name__]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("fn", KINDS)
async def test_answers_are_the_undecorated_tools_and_handles_are_at_top_level(
    fn: Callable[..., Any], mode: Any
):
    plain, ours = MCPServer("same"), MCPServer("same")
    plain.tool()(fn)
    ours.tool()(decorated(fn))
    async with Client(plain, mode=mode) as one, Client(ours, mode=mode) as other:
        schema = (await other.list_tools()).tools[0].output_schema
        assert (schema is None) == ((await one.list_tools()).tools[0].output_schema is None)
        assert schema is None or schema["type"] == "object"
        expected = await one.call_tool(fn.__name__, {"n": 3})
        assert await other.call_tool(fn.__name__, {"n": 3}) == expected
        assert not expected.is_error
        handed_over = await other.call_tool(fn.__name__, {"n": 3, "async_mode": True})
        assert handed_over.structured_content == HANDLE


def test_the_schema_has_the_functions_own_parameters_and_ours():
    def body(n: int, *rest: int, ctx: Context, unit: str = "m", **more: int) -> int:
        """Say it."""
        return n

    server = MCPServer("one")
    server.tool()(decorated(body))
    tool = run(server.list_tools())[0]
    properties = tool.input_schema["properties"]
    assert list(properties) == ["n", "unit", "async_mode", "job_label"]
    assert properties["unit"]["default"] == "m"
    assert all(properties[name]["description"] for name in ("async_mode", "job_label"))
    assert tool.input_schema["required"] == ["n"]
    assert tool.description == "Say it."


def test_parameters_that_the_function_has_itself_are_left_alone():
    def body(n: int, async_mode: bool = True, mcp_context: str = "mine") -> int:
        return n

    seen = adapt(body)
    assert seen.signature.parameters["async_mode"].default is True
    assert typing.get_args(seen.signature.parameters["mcp_context"].annotation)[0] is str
    assert seen.context_name == "mcp_context_"
    assert seen.body_context is None


def test_the_bodys_own_context_receives_the_context():
    def body(n: int, ctx: Context | None = None) -> bool:
        return isinstance(ctx, Context)

    seen = adapt(body)
    assert (seen.context_name, seen.body_context) == ("ctx", "ctx")
    assert call(decorated(body)).structured_content == {"result": True}


def test_a_function_that_cannot_be_a_tool_can_still_be_decorated():
    def body(_hidden: int, later: "NotYetThere") -> int:  # type: ignore[name-defined] # noqa: F821, UP037
        return _hidden

    assert "async_mode" in adapt(body).signature.parameters


def test_a_function_without_a_possible_schema_can_be_decorated():
    def lock() -> tuple[threading.Lock, int]:
        return threading.Lock(), 1

    assert adapt(lock).signature.return_annotation is CallToolResult


def test_an_error_has_the_workers_traceback_cut_in_its_middle():
    error = ValueError("no such number")
    trace = "Traceback (most recent call last):\n" + "line\n" * 5_000 + "the last line"
    error.add_note(f"In the worker:\n{trace}")
    result = some_face().error(error)
    text = result.content[0].text  # type: ignore[union-attr]
    assert result.is_error
    assert text.startswith("ValueError: no such number\n\nTraceback (most recent call last):\nline\n")
    assert "\n[... 21" in text
    assert text.endswith("the last line")
    assert len(text) < 5_000


def test_an_error_of_ours_is_its_sentence_and_nothing_else():
    error = InvalidInput("size is -1; it must be positive")
    error.add_note("In the worker:\nTraceback")
    assert some_face().error(error).content[0].text == "size is -1; it must be positive"  # type: ignore[union-attr]


def test_an_error_of_a_type_that_cannot_travel_is_named():
    text = some_face().error(RemoteError("their.Error", "bad", "trace")).content[0].text  # type: ignore[union-attr]
    assert text == "Error: bad\n\ntrace"


BROKEN = os.fsdecode(b"caf\xe9")


@dataclass
class Named:
    name: str


def a_broken_text(n: int) -> str:
    return BROKEN


def a_broken_tree(n: int) -> dict[str, Any]:
    return {BROKEN: [BROKEN, (BROKEN,)]}


def a_broken_dataclass(n: int) -> Named:
    return Named(BROKEN)


def a_broken_whole_result(n: int) -> CallToolResult:
    text = TextContent(type="text", text=BROKEN)
    return CallToolResult(content=[text], structured_content={"name": BROKEN})


@pytest.mark.parametrize("fn", [a_broken_text, a_broken_tree, a_broken_dataclass, a_broken_whole_result])
def test_text_that_is_no_unicode_is_answered_with_a_replacement(fn: Callable[..., Any]):
    result = adapt(fn).answer(fn(1))
    assert not result.is_error
    assert "caf\ufffd" in result.content[0].text  # type: ignore[union-attr]
    assert "caf\ufffd".encode() in result.model_dump_json().encode()


def test_broken_text_in_handles_and_errors_is_repaired():
    assert "caf\ufffd" in some_face().handle({"message": BROKEN}).model_dump_json()
    for error in (RuntimeError(BROKEN), InvalidInput(BROKEN), RemoteError("a.B", BROKEN, BROKEN)):
        assert "caf\ufffd" in some_face().error(error).model_dump_json()
    with pytest.raises(ToolError, match="caf\ufffd"):
        some_face().error(ToolError(BROKEN))
    with pytest.raises(MCPError, match="caf\ufffd"):
        some_face().error(MCPError(-32602, BROKEN))


def a_float(n: int) -> float:
    return float(n)


def floats(n: int) -> list[float]:
    return [float(n)]


def a_loop() -> list[Any]:
    looped: list[Any] = []
    looped.append(looped)
    return looped


@pytest.mark.parametrize(
    ("fn", "value", "words"),
    [
        (a_list, a_loop(), "type list that cannot be answered: it does not fit the declared return type"),
        (an_int, "many", "type str that cannot be answered: it does not fit the declared return type"),
        (a_float, float("inf"), "JSON has no NaN and no infinity"),
        (floats, [1.0, float("nan")], "[1]: JSON has no NaN and no infinity"),
    ],
)
def test_a_value_that_cannot_be_answered_is_an_error_that_says_why(
    fn: Callable[..., Any], value: object, words: str
):
    result = adapt(fn).answer(value)
    assert result.is_error
    assert words in result.content[0].text  # type: ignore[union-attr]


def test_what_json_lacks_is_answered_with_what_stands_for_it_and_a_note():
    odd = {"n": float("inf"), "bytes": b"\xff", "other": range}
    result = adapt(a_dict).answer(odd)
    assert isinstance(result, CallToolResult)
    assert not result.is_error
    assert result.structured_content == {"n": None, "bytes": "/w==", "other": "<class 'range'>"}
    note = result.content[1].text  # type: ignore[union-attr]
    assert note.startswith("(n: JSON has no NaN and no infinity, so null stands for it; bytes: ")


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("not today")


def test_a_value_that_came_as_json_is_answered_with_the_reason():
    def fn() -> list[int]: ...

    view, note = adapt(fn), "the result, a generator, cannot be sent back"
    told = view.answer([1, 2], note=note)
    assert told.structured_content == {"result": [1, 2]}
    assert [block.text for block in told.content] == ["1", "2", f"({note})"]  # type: ignore[union-attr]


class Leaving:
    def __str__(self) -> str:
        raise SystemExit(3)


def leaving(n: int) -> list[Any]:
    return [n, Leaving()]


def leaving_undeclared(n: int):
    return [n, Leaving()]


def test_a_value_whose_text_ends_programs_ends_no_server():
    assert "cannot be answered: SystemExit: 3" in str(adapt(leaving).answer(leaving(1)).content)
    assert "is not JSON (3)" in str(adapt(leaving_undeclared).answer(leaving(1)).content)
    assert "its text cannot be had: SystemExit" in str(failure(ValueError(Leaving())).content)


def test_an_exception_without_a_text_is_named():
    text = some_face().error(Mute()).content[0].text  # type: ignore[union-attr]
    assert text.endswith("Mute: (its text cannot be had: ValueError)")


def test_a_long_text_of_an_exception_is_shown_as_head_and_tail():
    text = some_face().error(ValueError("HEAD" + "x" * 100_000 + "TAIL")).content[0].text  # type: ignore[union-attr]
    assert text.startswith("ValueError: HEAD")
    assert text.endswith("TAIL")
    assert "characters left out" in text
    assert len(text) < 5_000


@pytest.mark.parametrize("error", [ToolError("said so"), MCPError(-32602, "no")])
def test_errors_that_the_sdk_knows_are_left_to_it(error: Exception):
    with pytest.raises(type(error)):
        some_face().error(error)


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("gives_token", [True, False])
def test_progress_is_sent_only_to_a_caller_that_asked(gives_token: bool, mode: Any):
    async def main():
        server = MCPServer("one")

        @server.tool()
        async def listened(ctx: Context) -> bool:
            return progress_sender(ctx) is not None

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            await asyncio.sleep(0)

        async with Client(server, mode=mode) as client:
            result = await client.call_tool("listened", {}, progress_callback=hear if gives_token else None)
            assert result.structured_content == {"result": gives_token}

    run(main())


def some_face() -> ToolAdapter:
    return adapt(an_int)


def call(fn: Callable[..., Any]) -> CallToolResult:
    async def main() -> CallToolResult:
        server = MCPServer("one")
        server.tool()(fn)
        async with Client(server) as client:
            return await client.call_tool(fn.__name__, {"n": 3})

    return run(main())
