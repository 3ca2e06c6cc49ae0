"""Text stays text, null means the default, and the JSON schema of a tool stays as it is."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from mcp.server.mcpserver import Resolve
from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel, Field, ValidationError
from typing_extensions import TypedDict

from python_mcp_server.server.sdk.arguments import Read, read_as_meant


class Size(BaseModel):
    width: int


class Keys(TypedDict):
    a: int


def many(  # noqa: PLR0917
    text: str,
    maybe: str | None = None,
    texts: list[str] | None = None,
    env: dict[str, str] | None = None,
    number: int = 3,
    ratio: float | None = None,
    flag: bool = True,
    anything: Any = None,
    bare="x",
    bounded: Annotated[float, Field(description="how much", ge=1)] = 2.0,
    by_field: int = Field(default=4, ge=2, description="how many"),
    by_factory: list[int] = Field(default_factory=lambda: [9]),  # noqa: B008
    long: Annotated[str | None, Field(max_length=6)] = None,
    size: Size | None = None,
    keys: Keys | None = None,
    either: str | list[str] = "",
    word: Literal["null", "none"] = "none",
    place: Path = Path(),
    data: bytes = b"",
    noted: Annotated[int, "a note"] = 1,
) -> None: ...


def tool_of(fn: Any, *, read: bool) -> Tool:
    signature = inspect.signature(fn, eval_str=True)
    parameters = list(signature.parameters.values())
    given = [read_as_meant(each) for each in parameters] if read else parameters

    def wrapper(**arguments: Any) -> Any: ...

    wrapper.__signature__ = signature.replace(parameters=given)  # type: ignore[attr-defined]
    return Tool.from_function(wrapper)


READ = tool_of(many, read=True)


def read(name: str, value: object) -> Any:
    return READ.fn_metadata.validate_arguments({"text": "x"} | {name: value})[name]


def test_the_schema_is_that_of_the_function():
    assert READ.parameters == tool_of(many, read=False).parameters


@pytest.mark.parametrize("name", ["text", "maybe", "anything", "bare", "long", "either", "place", "data"])
@pytest.mark.parametrize("text", ["null", "[1, 2]", '{"a":1}', "true", "3", '"'])
def test_a_parameter_that_takes_text_gets_the_text(name: str, text: str):
    if name == "long" and len(text) > 6:
        return
    kind = {"place": Path, "data": str.encode}.get(name, str)
    assert read(name, text) == kind(text)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("texts", '["null", "b"]', ["null", "b"]),
        ("texts", ["null", "[1]"], ["null", "[1]"]),
        ("texts", "null", None),
        ("env", '{"A": "[1]"}', {"A": "[1]"}),
        ("env", {"A": "null"}, {"A": "null"}),
        ("number", "7", 7),
        ("ratio", "null", None),
        ("flag", "false", False),
        ("by_factory", "[3]", [3]),
        ("size", '{"width": 2}', Size(width=2)),
        ("keys", '{"a": 2}', {"a": 2}),
        ("word", "null", "null"),
    ],
)
def test_json_in_a_text_is_read_where_no_text_is_meant(name: str, value: object, expected: object):
    assert read(name, value) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("maybe", None), ("texts", None), ("number", 3), ("flag", True), ("bounded", 2.0), ("by_field", 4),
        ("by_factory", [9]), ("long", None), ("either", ""),
        ("word", "none"), ("place", Path()), ("noted", 1),
        ("anything", None), ("bare", None),
    ],
)  # fmt: skip
def test_null_means_the_default_where_the_type_has_no_null(name: str, expected: object):
    assert read(name, None) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("text", None), ("number", "[1]"), ("number", "many"), ("texts", "[true]"), ("texts", [{"a": 1}]),
     ("bounded", 0), ("by_field", 1),
     ("long", "too long"), ("size", '{"width": "x"}')],
)  # fmt: skip
def test_what_fits_in_no_way_is_refused_with_what_was_sent(name: str, value: object):
    with pytest.raises(ValidationError) as caught:
        read(name, value)
    assert caught.value.errors()[0]["loc"][0] == name
    if isinstance(value, int):
        assert caught.value.errors()[0]["input"] == value


def test_a_parameter_that_the_server_fills_in_is_left_alone():
    def ask() -> int:
        return 1

    def body(n: Annotated[int, Resolve(ask)], text: str, later: "Unknown") -> None: ...  # type: ignore[name-defined] # noqa: F821, UP037

    resolved, _, later = inspect.signature(body).parameters.values()
    assert read_as_meant(later) is later
    resolved = resolved.replace(annotation=Annotated[int, Resolve(ask)])
    assert read_as_meant(resolved) is resolved


def test_reading_twice_is_reading_once():
    parameter = inspect.Parameter("n", inspect.Parameter.KEYWORD_ONLY, default=1, annotation=int)
    made = read_as_meant(parameter)
    assert read_as_meant(made) is made
    assert isinstance(made.annotation.__metadata__[0], Read)


class Tree(BaseModel):
    name: str
    parts: list[Tree] = []


@pytest.mark.parametrize("count", [1, 6_000])
def test_numbers_become_texts_at_any_depth_of_a_model(count: int):
    def body(trees: list[Tree], sizes: list[tuple[str, int]]) -> None: ...

    made = tool_of(body, read=True)
    sent = {"trees": [{"name": 1, "parts": [{"name": 2.5}]}] * count, "sizes": [[3, 4]] * count}
    read = made.fn_metadata.validate_arguments(sent)
    assert read["trees"] == [Tree(name="1", parts=[Tree(name="2.5")])] * count
    assert read["sizes"] == [("3", 4)] * count
    with pytest.raises(ValidationError) as caught:
        made.fn_metadata.validate_arguments(sent | {"trees": [{}] * count})
    assert [fault["loc"] for fault in caught.value.errors()] == [("trees", 0, "name")]
