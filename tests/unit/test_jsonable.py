"""The JSON form of a value: that of pydantic where it has one, with a note where JSON does not say all."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_mcp_server.jsonable import TEXT_LIMIT, block_of, jsonable
from tests.helpers.odd_values import BEYOND_PYDANTIC, LIKE_PYDANTIC, NOTED, Row


@pytest.mark.parametrize("kind", LIKE_PYDANTIC)
def test_the_form_is_that_of_pydantic(kind: str):
    value, expected = LIKE_PYDANTIC[kind]
    assert repr(jsonable(value)) == f"Jsonable(value={expected!r}, note=None)"
    assert json.loads(pydantic_core.to_json(value, fallback=str)) == expected


@pytest.mark.parametrize("kind", BEYOND_PYDANTIC)
def test_more_kinds_have_a_form_than_pydantic_knows(kind: str):
    value, expected = BEYOND_PYDANTIC[kind]
    assert repr(jsonable(value)) == f"Jsonable(value={expected!r}, note=None)"


@pytest.mark.parametrize("kind", NOTED)
def test_what_json_does_not_say_is_noted(kind: str):
    value, expected, note = NOTED[kind]
    form = jsonable(value)
    assert form.value == expected
    assert (form.note or "").startswith(note)
    json.dumps(form.value, allow_nan=False)


PARTS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates()
    | st.datetimes() | st.times() | st.timedeltas() | st.decimals() | st.uuids()
    | st.fractions()
)  # fmt: skip


@given(st.recursive(PARTS, lambda parts: st.lists(parts) | st.dictionaries(st.text() | st.integers(), parts)))
def test_any_form_is_json_and_agrees_with_pydantic_wherever_that_has_one(value: Any):
    form = jsonable(value)
    json.dumps(form.value, allow_nan=False)
    try:
        theirs = pydantic_core.from_json(pydantic_core.to_json(value, inf_nan_mode="null", fallback=str))
    except (pydantic_core.PydanticSerializationError, ValueError):
        return
    assert form.value == theirs or "surrogate" in str(theirs)


def test_notes_name_the_first_places_and_count_the_others():
    assert (jsonable([math.nan] * 10).note or "").startswith("[0], [1], [2], 7 more: JSON has no NaN")


def test_an_integer_with_too_many_digits_becomes_a_text():
    value = 10**5000
    text, note = jsonable([value])
    assert text == [hex(value)]
    assert note is not None


def test_a_value_that_contains_itself_keeps_a_text_of_itself():
    looped: list[Any] = []
    looped.append(looped)
    assert jsonable(looped).value == "[[...]]"
    assert "contains itself" in (jsonable(looped).note or "")


class Stubborn:
    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__


class Broken(dict[str, Any]):
    def items(self) -> Any:
        raise ValueError("not today")


def test_the_code_of_a_value_never_costs_the_outcome():
    assert jsonable(Stubborn()) == (
        "<its text cannot be made: SystemExit>",
        f"a value of type {__name__}.Stubborn is not JSON (SystemExit); this is its text",
    )
    assert isinstance(jsonable(Broken(a=math.nan)).note, str)


@pytest.mark.parametrize("inside", [list[Any], dict[str, Any]])
def test_a_value_that_nests_too_deeply_becomes_a_text(inside: type):
    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = [value] if inside is list[Any] else {"in": value}
        return value

    assert jsonable(nested(150)) == (nested(150), None)
    assert jsonable([nested(100), nested(100)]).note is None
    text, note = jsonable(nested(240))
    assert text == str(nested(240))
    assert "nested too deeply" in (note or "")


def test_numpy_numbers_become_the_nearest_python_numbers():
    long = np.longdouble(1) / 4
    value = [long, np.array([long, math.nan]), np.clongdouble(1 + 2j), {"a": np.array([1j], np.clongdouble)}]
    assert jsonable(value).value == [0.25, [0.25, None], "1+2j", {"a": ["1j"]}]


def test_an_iterator_can_be_read_again():
    for values in (map(str, [1, 2]), iter(["1", "2"]), zip(["1", "2"], strict=True), enumerate("12")):
        value = {"in": [values]}
        first = jsonable(value)
        assert first.value["in"][0]
        assert jsonable(value) == first
        assert jsonable(list(values)).value == first.value["in"][0]
    assert jsonable(str(n) for n in range(2)).value == ["0", "1"]


def test_a_text_is_bounded():
    class Long:
        def __str__(self) -> str:
            return "x" * TEXT_LIMIT * 2

    assert len(jsonable(Long()).value) < TEXT_LIMIT + 100


def test_names_of_fields_are_those_that_are_asked_for():
    row = Row(row_count=1)
    assert list(jsonable([row]).value[0]) == ["rowCount", "extraPart"]
    assert list(jsonable([row], by_alias=None).value[0]) == ["row_count", "extra_part"]


def test_blocks_of_content_and_what_makes_them_are_known_without_the_sdk():
    from mcp.server.mcpserver import Image
    from mcp_types import TextContent

    assert block_of(TextContent(type="text", text="a")) == {"type": "text", "text": "a"}
    assert block_of(Image(data=b"png", format="png")) == {
        "type": "image", "data": "cG5n", "mimeType": "image/png",
    }  # fmt: skip
    assert block_of({"type": "text", "text": "a"}) is None
