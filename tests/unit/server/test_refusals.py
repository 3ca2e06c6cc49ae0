"""What a client is told of a call that is refused: short, in plain words, about the first fault."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from pydantic import Field, ValidationError

from python_mcp_server import InMemoryJobStore, JobManager
from python_mcp_server.errors import MOST_CHARS, InvalidInput, JobNotFound, QuestionNotOpen
from python_mcp_server.server import registry
from python_mcp_server.server.app import create_server
from python_mcp_server.server.refusals import complaint
from python_mcp_server.server.registry import make_tool

LONG = "x" * 1_000_000


async def take(  # noqa: PLR0917 - the parameters of a tool
    args: list[str] | None = None,
    rows: list[list[str]] | None = None,
    cpus: int | list[int] | None = None,
    env_vars: dict[str, str] | None = None,
    share: Annotated[float, Field(gt=0)] = 1,
    sure: bool = True,
    directory: str = "",
    workers: int | Literal["auto"] = "auto",
) -> dict[str, Any]:
    """Take arguments."""
    raise InvalidInput(f"directory is {directory!r}; it must exist")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a text": ({"args": "a b"}, "args is 'a b'; give a list of texts, such as [\"a\"]"),
    "items": ({"args": [{}] * 3000}, "args[0] is {} and 2999 more are wrong; give a text"),
    "two items": ({"args": [None, "a", 1, []]}, "args[0] is null and 1 more is wrong; give a text"),
    "a truth for a text": ({"args": ["a", 1, True]}, 'args[2] is true; give a text, such as "true"'),
    "an item of an item": ({"rows": [["a", None]]}, "rows[0][1] is null; give a text"),
    "a row": ({"rows": ["a b"]}, "rows[0] is 'a b'; give a list of texts, such as [\"a\"]"),
    "rows": ({"rows": 3}, 'rows is 3; give a list of lists of texts, such as [["a"]]'),
    "a constant": ({"workers": "many"}, "workers is 'many'; give a whole number or \"auto\""),
    "an object": ({"env_vars": []}, 'env_vars is a list; give an object with texts, such as {"NAME": "a"}'),
    "a near name": ({"sur": 1}, "take has no parameter 'sur'; did you mean sure?"),
    "a part of names": ({"vars": 1}, "take has no parameter 'vars'; did you mean env_vars?"),
    "another's name": ({"cwd": "/"}, "take has no parameter 'cwd'; did you mean directory?"),
    "any of two": ({"cpus": "many"}, "cpus is 'many'; give a whole number or a list of whole numbers"),
    "a secret": (
        {"env_vars": {"A_TOKEN": ["secret"]}},
        "env_vars['A_TOKEN'] is a list; give a text",
    ),
    "a range": ({"share": -1}, "share is -1; it must be greater than 0"),
    "a truth": ({"sure": "maybe"}, "sure is 'maybe'; give true or false"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_the_first_wrong_value_is_named_in_plain_words(name: str):
    arguments, sentence = WRONG[name]
    assert await refusal("take", arguments) == sentence


MANY: dict[str, tuple[dict[str, Any], str]] = {
    "items": ({"args": ["a"] + [{}] * 20_000}, "args[1] is {}; give a text"),
    "items of items": ({"rows": [["a", *[None] * 20_000]]}, "rows[0][1] is null; give a text"),
    "numbers beside them": ({"args": [1, None] * 10_000}, "args[1] is null; give a text"),
    "values": ({"env_vars": {str(n): [] for n in range(20_000)}}, "env_vars['0'] is a list; give a text"),
    "a union": (
        {"cpus": ["x"] * 20_000},
        "cpus is ['x', 'x', 'x', 'x', 'x', 'x', ...]; give a whole number or a list of whole numbers",
    ),
    "numbers as texts": ({"args": [1] * 20_000}, "directory is ''; it must exist"),
}


@pytest.mark.parametrize("name", MANY)
async def test_many_wrong_values_are_not_told_apart(name: str, monkeypatch: pytest.MonkeyPatch):
    told = Counted()
    monkeypatch.setattr(registry, "complaint", told.complaint)
    arguments, sentence = MANY[name]
    assert await refusal("take", arguments) == sentence
    assert told.faults <= 2


class Counted:
    """Counts the faults that a sentence is made of: pydantic takes 2 s to tell of a million."""

    faults = 0

    def complaint(self, error: ValidationError, *more: Any) -> str:
        self.faults = error.error_count()
        return complaint(error, *more)


@pytest.mark.parametrize("where", ["args", "directory", "share", "cpus"])
async def test_an_integer_of_too_many_digits_is_refused_with_a_sentence(where: str):
    number = 10**5000
    told = await refusal("take", {where: [number, None] if where == "cpus" else number})
    assert f"{where} is " in told
    assert "a whole number of about 5000 digits" in told


@pytest.mark.parametrize(
    "arguments", [{"args": LONG}, {LONG: 1}, {"env_vars": {LONG: 1}}, {"share": LONG}, {"directory": LONG}]
)
async def test_no_refusal_repeats_a_value_of_any_length(arguments: dict[str, Any]):
    assert len(await refusal("take", arguments)) <= MOST_CHARS


async def refusal(tool: str, arguments: dict[str, Any]) -> str:
    manager = JobManager(InMemoryJobStore())
    server = create_server(manager, tools=[make_tool(take, "take", "Take")])
    async with Client(server) as client:
        result = await client.call_tool(tool, arguments)
    manager.store.close()
    assert result.is_error
    return result.content[0].text  # type: ignore[union-attr]


async def test_names_that_nothing_has_are_refused_before_they_are_looked_for(home: Path):
    manager = JobManager()
    async with manager, Client(create_server(manager)) as client:
        for asking in (
            client.call_tool(LONG),
            client.read_resource(f"job://{LONG}"),
            client.get_prompt(LONG),
        ):
            with pytest.raises(MCPError) as caught:
                await asking
            assert len(str(caught.value.error)) < MOST_CHARS
    manager.store.close()


@pytest.mark.parametrize("kind", [InvalidInput, JobNotFound, QuestionNotOpen])
def test_errors_that_repeat_a_value_are_bounded_and_keep_both_ends(kind: type[Exception]):
    for long in (LONG, f"{LONG}: {'many words ' * 1_000}"):
        error = kind(f"begin {long} end")
        assert len(str(error)) <= MOST_CHARS
        assert str(error).split("…")[-1].removesuffix(" not found").endswith("end")
        assert str(error).removeprefix("Job ").startswith("begin x")
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
