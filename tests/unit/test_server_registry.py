"""A tool's docstring becomes what a model reads, and a refused call gets one line."""

from __future__ import annotations

from typing import Any

from mcp import Client
from mcp.server.mcpserver import MCPServer

from python_mcp_server.errors import JobNotFound
from python_mcp_server.server.registry import make_tool, read_docstring
from tests.helpers import run

DOCSTRING = """Count things,
    and say so.

    A second paragraph
    on two lines:

    * a point
    * another

    Args:
        first: What is counted,
            on two lines.
        second (optional): Nothing: really.

    Returns:
        The count.
    """


async def count(first: int, second: str | None = None, cpus: int | list[int] | None = None) -> dict[str, Any]:
    if first < 0:
        raise JobNotFound(str(first))
    return {"first": first, "second": second}


count.__doc__ = DOCSTRING


def test_a_docstring_is_split_into_text_and_parameters():
    text, parameters = read_docstring(DOCSTRING)
    assert text == "Count things, and say so.\n\nA second paragraph on two lines:\n\n* a point\n* another"
    assert parameters == {"first": "What is counted, on two lines.", "second": "Nothing: really."}


def test_a_docstring_without_sections_and_none_at_all_are_fine():
    assert read_docstring("Only this.") == ("Only this.", {})
    assert read_docstring("") == ("", {})


def test_descriptions_and_hints_reach_the_client():
    tool = make_tool(count, "count_it", "Count", read_only_hint=True)
    assert tool.parameters["properties"]["first"]["description"] == "What is counted, on two lines."
    assert tool.annotations is not None
    assert (tool.annotations.title, tool.annotations.read_only_hint) == ("Count", True)
    assert "Returns" not in tool.description


def test_refusals_are_one_line_that_names_the_value():
    assert refusal({"first": "many"}).startswith("first is 'many'; input should be a valid integer")
    assert refusal({}) == "first is missing; it is required"
    assert refusal({"first": -1}) == "Job -1 not found"
    assert len(refusal({"first": "x" * 10_000})) < 300
    assert refusal({"first": True}) == "first is True; true and false are no numbers"
    assert refusal({"first": 1, "cpus": [0, True]}) == "cpus is [0, True]; true and false are no numbers"


def test_an_unknown_argument_is_refused_with_the_nearest_name():
    assert refusal({"first": 1, "secnd": "x"}) == "count_it has no parameter 'secnd'; did you mean second?"
    assert refusal({"first": 1, "zzz": 1}) == "count_it has no parameter 'zzz'; it takes first, second, cpus"


def refusal(arguments: dict[str, Any]) -> str:
    server = MCPServer("counter", tools=[make_tool(count, "count_it", "Count")])

    async def main() -> str:
        async with Client(server) as client:
            result = await client.call_tool("count_it", arguments)
            assert result.is_error
            return result.content[0].text  # type: ignore[union-attr]

    text = run(main())
    assert "\n" not in text
    return text
