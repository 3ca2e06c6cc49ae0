"""Misuse of the decorator is a `TypeError` where it is written, which says what would be right."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import mcp  # noqa: F401  with it the decorator looks at functions as the SDK does
import pytest

from python_mcp_server import InvalidInput, smart_async


def plain(text: str = "") -> str:
    return text


async def waits() -> str:
    return "waited"


def steps() -> Iterator[int]:
    yield 1


async def async_steps() -> AsyncIterator[int]:
    yield 1


class Steps:
    def __call__(self) -> Iterator[int]:
        yield 1


class Greeter:
    def __call__(self, name: str) -> str:
        return f"hello {name}"


@pytest.mark.parametrize(
    ("thing", "right"),
    [
        (7.5, r"default_timeout=20"),
        ("12", r"default_timeout=20"),
        (None, r"above a function"),
        (Greeter, r"class .*Greeter.*above a function"),
        (classmethod(str), r"put @classmethod above @smart_async"),
        (staticmethod(plain), r"put @staticmethod above @smart_async"),
        (property(plain), r"decorate a method"),
        (steps, r"return a list"),
        (async_steps, r"return a list"),
        (functools.partial(steps), r"return a list"),
        (Steps(), r"return a list"),
        (min, r"built-in function min.*in a function of yours"),
    ],
    ids=[
        "number",
        "digits",
        "none",
        "class",
        "classmethod",
        "staticmethod",
        "property",
        "generator",
        "async-generator",
        "partial",
        "callable",
        "builtin",
    ],
)
@pytest.mark.parametrize("decorate", [smart_async, smart_async()], ids=["bare", "called"])
def test_what_is_not_a_function_is_refused(decorate: Any, thing: Any, right: str):
    with pytest.raises(TypeError, match=right if decorate is smart_async else "smart_async got"):
        decorate(thing)


def test_a_call_in_the_place_of_the_function_is_refused():
    with pytest.raises(TypeError, match="a call of waits; pass the function"):
        smart_async(waits())  # type: ignore[call-overload]


@pytest.mark.parametrize("names", ["password", ("password", "pin"), iter(["password"]), 7])
def test_a_secret_that_is_no_parameter_is_refused(names: Any):
    def body(password: str) -> None: ...

    with pytest.raises(InvalidInput, match="a list of these parameters: password"):
        smart_async(secret_parameters=names)(body)


@pytest.mark.parametrize("value", ["20", None, True, [20]])
def test_a_default_budget_that_is_not_a_number_is_refused(value: Any):
    with pytest.raises(TypeError, match=r"default_timeout is .*a number of seconds"):
        smart_async(default_timeout=value)


@pytest.mark.parametrize(
    "function",
    [plain, waits, Greeter(), functools.partial(plain, "x"), functools.partial(waits), divmod],
    ids=["plain", "async", "object", "partial", "async-partial", "builtin"],
)
def test_whatever_has_parameters_and_one_result_is_taken(function: Any):
    assert callable(smart_async(function))
    assert callable(smart_async("SOME_VARIABLE", 3)(function))
