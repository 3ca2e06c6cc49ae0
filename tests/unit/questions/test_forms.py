"""Forms are made of what authors write, refused where no client could show them, and hold answers to
what they say."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import cloudpickle
import pytest
from mcp.server.elicitation import render_elicitation_schema
from pydantic import BaseModel, Field

from python_mcp_server.errors import InvalidInput
from python_mcp_server.questions.forms import form_of, from_words, validate


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Order:
    name: Annotated[str, "Whose it is"]
    copies: int = field(default=1, metadata={"title": "Copies"})
    weight: float | None = None
    gift: bool = False
    size: Size = Size.SMALL
    colour: Literal["red", "blue"] = "red"
    extras: list[Literal["bow", "card"]] = field(default_factory=list)
    due: date | None = None
    at: datetime | None = None


ORDER: dict[str, Any] = {
    "name": {"type": "string", "description": "Whose it is"},
    "copies": {"type": "integer", "title": "Copies", "default": 1},
    "weight": {"type": "number"},
    "gift": {"type": "boolean", "default": False},
    "size": {"type": "string", "enum": ["small", "large"], "default": "small"},
    "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
    "extras": {"type": "array", "items": {"type": "string", "enum": ["bow", "card"]}},
    "due": {"type": "string", "format": "date"},
    "at": {"type": "string", "format": "date-time"},
}


class Dictionary(TypedDict):
    name: str
    copies: NotRequired[int]


class Model(BaseModel):
    name: str = Field(description="Whose it is", max_length=9)
    copies: int | None = Field(None, ge=1)
    size: Size = Size.SMALL
    only: Literal["this"] = "this"


def test_a_dataclass_becomes_a_form_also_when_it_travelled_by_value():
    for kind in (Order, cloudpickle.loads(cloudpickle.dumps(Order))):
        assert form_of(kind) == {"type": "object", "properties": ORDER, "required": ["name"]}


def test_a_typed_dictionary_becomes_a_form():
    properties = {"name": {"type": "string"}, "copies": {"type": "integer"}}
    assert form_of(Dictionary) == {"type": "object", "properties": properties, "required": ["name"]}


def test_a_pydantic_model_becomes_a_form_that_the_sdk_takes_too():
    form = form_of(Model)
    assert form["required"] == ["name"]
    assert form["properties"]["size"] == {
        "default": "small", "enum": ["small", "large"], "title": "Size", "type": "string",
    }  # fmt: skip
    assert form["properties"]["only"]["enum"] == ["this"]

    class Plain(BaseModel):
        name: str = Field(description="Whose it is", max_length=9)
        copies: int | None = None
        gift: bool = False

    theirs = render_elicitation_schema(Plain)
    ours = form_of(Plain)
    assert {key: theirs[key] for key in ours} == ours


def test_without_a_schema_one_text_is_asked_for():
    assert form_of(None)["properties"] == {"answer": {"type": "string"}}


class Nested(TypedDict):
    inner: Dictionary


class Unfound(TypedDict):
    lost: "NoSuchType"  # type: ignore[name-defined]  # noqa: F821, UP037


def of(**prop: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": prop}}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("a text", "schema is 'a text'; it must be a JSON schema, a dataclass"),
        (Nested, "field 'inner' is of type Dictionary; a question may ask for str"),
        (Unfound, "a type of Unfound cannot be found"),
        ({"type": "string"}, "schema must be that of an object"),
        ({"properties": {}, "oneOf": []}, "schema has 'oneOf'"),
        ({"properties": {}, "required": ["y"]}, "schema requires 'y'"),
        (of(type="object"), "its type must be one of string, number, integer, boolean, array"),
        ({"properties": {"x": "string"}}, "field 'x' of the schema is 'string'"),
        (of(type="string", pattern=".*"), "field 'x' of the schema has 'pattern'; a string may have"),
        (
            of(type="string", format="phone"),
            "has format 'phone'; it must be one of email, uri, date, date-time",
        ),
        (of(type="array", items={"type": "string"}), "its items must be an enum of texts"),
        (of(type="string", enum=[1]), "only texts can be offered"),
        (of(type="string", default={1}), "schema holds something that is no JSON"),
        (of(type="string", title="x" * 70_000), "schema takes 70"),
        (of(type=["string", "integer"]), "field 'x' of the schema is {'type': ['string', 'integer']}"),
        (of(type=["null"]), "its type must be one of string"),
        (of(type=[["string"], "null"]), "its type must be one of string"),
        ({"properties": {}, "required": True}, "schema has required True; it must be a list of names"),
        ({"properties": {}, "required": [["a"]]}, "schema has required [['a']]; it must be a list of names"),
        (of(type="string", oneOf="abc"), "offers 'abc'; only texts can be offered, one or more, each as"),
        (of(type="string", oneOf=[1]), "offers [1]; only texts can be offered"),
        (of(type="string", oneOf=[]), "offers []; only texts can be offered"),
        (of(type="string", enum="abc"), "offers 'abc'; only texts can be offered, one or more"),
        (of(type="string", enum=[]), "offers []; only texts can be offered"),
        (of(type="string", enum=["a"], enumNames=5), "has enumNames 5; it must be a list of texts"),
        (of(type="array", items=None), "its items must be an enum of texts"),
        (of(type="array", items=[1]), "its items must be an enum of texts"),
        (
            of(type="array", items={"enum": ["a"]}, minItems="1"),
            "has minItems '1'; it must be a whole number",
        ),
        (of(type="string", minLength="x"), "has minLength 'x'; it must be a whole number from 0"),
        (of(type="string", maxLength=-1), "has maxLength -1; it must be a whole number from 0"),
        (of(type="integer", minimum="5"), "has minimum '5'; it must be a number"),
        (of(type="number", minimum=True), "has minimum True; it must be a number"),
        (of(type="number", minimum=3, maximum=2), "has minimum 3 above maximum 2; nothing would fit"),
        (of(type="string", title=5), "has title 5; it must be a text"),
        (of(type="string", format=["date"]), "has format ['date']; it must be one of"),
        (of(type="integer", default="2"), "has default '2'; it must be an integer"),
        (of(type="string", default=None), "has default None; it must be a string"),
        (of(type="string", enum=["a"], default="b"), "has default 'b'; it must be one of 'a'"),
        (of(type="number", default=float("inf")), "schema holds something that is no JSON"),
        ({"properties": {}, 5: 1, "x": 1}, "schema has 5"),
    ],
)
def test_what_no_client_can_show_is_refused_with_a_sentence(schema: Any, says: str):
    with pytest.raises(InvalidInput) as refused:
        form_of(schema)
    assert says in str(refused.value)


def test_a_field_that_may_be_null_need_not_be_answered():
    prop = {"type": ["integer", "null"], "minimum": 1, "default": None}
    schema = {"properties": {"x": prop, "y": {"type": "string"}}, "required": ["x", "y"]}
    form = form_of(schema)
    assert form["properties"]["x"] == {"type": "integer", "minimum": 1}
    assert validate(form, {"x": None, "y": "a"}) == {"y": "a"}


FORM = form_of(
    {
        "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 4},
            "n": {"type": "integer", "minimum": 1, "maximum": 3},
            "x": {"type": "number"},
            "yes": {"type": "boolean"},
            "one": {"type": "string", "oneOf": [{"const": "a", "title": "An A"}, {"const": "b"}]},
            "some": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 1},
            "mail": {"type": "string", "format": "email"},
            "link": {"type": "string", "format": "uri"},
            "day": {"type": "string", "format": "date"},
            "at": {"type": "string", "format": "date-time"},
            "left": {"type": "string", "default": "out"},
        },
        "required": ["name"],
    }
)


def test_an_answer_that_fits_is_returned_with_what_was_left_out():
    given = {
        "name": "Ann", "n": 2.0, "x": 1, "yes": False, "one": "b", "some": ["a"], "mail": "a@b.org",
        "link": "https://b.org", "day": "2026-01-31", "at": "2026-01-31T12:00:00Z",
    }  # fmt: skip
    assert validate(FORM, given | {"n": 2.0, "more": 1, "left": None}) == given | {"n": 2, "left": "out"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "the answer is None; it must be an object with 'name' (string)"),
        ({}, "the answer lacks 'name'"),
        ({"name": None}, "the answer lacks 'name'"),
        ({"name": 3}, "'name' of the answer is 3; it must be a string"),
        ({"name": "A"}, "it must be at least 2 characters"),
        ({"name": "Annabel"}, "it must be at most 4 characters"),
        ({"name": "Ann", "n": 2.5}, "it must be an integer"),
        ({"name": "Ann", "n": True}, "it must be an integer"),
        ({"name": "Ann", "n": 0}, "it must be at least 1"),
        ({"name": "Ann", "n": 4}, "it must be at most 3"),
        ({"name": "Ann", "x": "1"}, "it must be a number"),
        ({"name": "Ann", "yes": 1}, "it must be true or false"),
        ({"name": "Ann", "one": "c"}, "it must be one of 'a', 'b'"),
        ({"name": "Ann", "some": ["c"]}, "it must be some of 'a', 'b'"),
        ({"name": "Ann", "some": []}, "it must be at least 1 choices"),
        ({"name": "Ann", "some": "a"}, "it must be an array"),
        ({"name": "Ann", "mail": "ann"}, "it must be an address"),
        ({"name": "Ann", "link": "b.org"}, "it must be a URI"),
        ({"name": "Ann", "day": "31.1."}, "it must be a date"),
        ({"name": "Ann", "at": "noon"}, "it must be a time"),
        ({"name": "Ann", "more": 1}, "the answer has 'more'; the question asks for"),
        ({"name": "x" * 70_000}, "the answer takes 70"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_what_would(content: Any, says: str):
    with pytest.raises(InvalidInput) as refused:
        validate(FORM, content, strict=True)
    assert says in str(refused.value)


def test_typed_words_take_the_types_of_the_form():
    words = {"name": "12", "n": "2", "x": "1.5", "yes": "No", "some": "a, b", "odd": "1"}
    assert from_words(FORM, words) == {
        "name": "12", "n": 2, "x": 1.5, "yes": False, "some": ["a", "b"], "odd": "1",
    }  # fmt: skip
    assert from_words(FORM, {"n": "two", "yes": "maybe"}) == {"n": "two", "yes": "maybe"}
