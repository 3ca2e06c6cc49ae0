"""Misuse of the decorator is a `TypeError` where it is written, which says what would be right."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from mcp.server.mcpserver.tools import Tool  # with the SDK the decorator looks at functions as the SDK does

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
        (7.5, r"write @smart_async\(default_timeout=7.5\)"),
        ("12", r"write @smart_async\(default_timeout=12\)"),
        ("20s", r"nor the name of a variable.*default_timeout=20"),
        ("", r"nor the name of a variable.*default_timeout=20"),
        (Tool.from_function(plain), r"put @mcp.tool\(\) above @smart_async"),
        (smart_async(plain), r"decorate plain, or plain.__wrapped__, once"),
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
        "duration",
        "empty",
        "tool",
        "decorated",
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


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({"timeout": 3}, r"no option 'timeout'; default_timeout is how long a caller waits, timeout_seconds"),
        ({"budget_s": 3}, r"no option 'budget_s'; default_timeout is how long"),
        ({"memory_limit": 3}, r"no option 'memory_limit'; did you mean memory_limit_mb\?"),
        ({"zzz": 3}, r"no option 'zzz'; it takes timeout_env, default_timeout, .*secret_parameters$"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_with_the_one_meant(options: Any, right: str):
    with pytest.raises(TypeError, match=right):
        smart_async(**options)


@pytest.mark.parametrize(
    ("option", "value", "right"),
    [("name", 3, "must be a text"), ("name", "", "must be a text"), ("manager", "x", "must be a JobManager")],
)
def test_a_name_or_a_manager_of_another_kind_is_refused(option: str, value: object, right: str):
    with pytest.raises(InvalidInput, match=f"{option} is {value!r}; it {right}"):
        smart_async(**{option: value})  # type: ignore[call-overload]


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def call() -> Any:
        return function()

    return call


@pytest.mark.parametrize("function", [plain, Greeter(), functools.partial(plain, "x"), len])
def test_a_plain_body_is_refused_where_it_would_block_the_server(function: Any):
    with pytest.raises(TypeError, match=r"would block the server.*make it an async def"):
        smart_async(isolation="inline")(function)


@pytest.mark.parametrize("function", [waits, functools.partial(waits), wrapped(waits)])
def test_an_async_body_may_run_inline(function: Any):
    assert callable(smart_async(isolation="inline")(function))


def test_options_beside_the_function_count():
    with pytest.raises(TypeError, match="would block the server"):
        smart_async(plain, isolation="inline")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="default_timeout is '3'"):
        smart_async(plain, "3")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("function", "name"),
    [(functools.partial(functools.partial(plain), "x"), "plain"), (Greeter(), "Greeter"), (divmod, "divmod")],
)
def test_an_object_without_a_name_gets_the_one_of_its_code(function: Any, name: str):
    decorated = smart_async(function)
    assert (decorated.__name__, decorated.__qualname__) == (name, name)
    assert "args" not in decorated.__annotations__


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
