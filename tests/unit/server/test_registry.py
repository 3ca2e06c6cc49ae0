"""A tool's docstring becomes what a model reads, and a refused call gets one line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from mcp import Client
from mcp.server.mcpserver import MCPServer

from python_mcp_server.errors import JobNotFound
from python_mcp_server.server.registry import DeclaredTool, description_of, make_tool
from tests.helpers import run

DOCSTRING = """Count things,
    and say so.

    A second paragraph
    on two lines:

    * a point
    * another

    Returns:
        The count.
    """


async def count(
    first: Annotated[int, "What is counted."],
    second: str | None = None,
    cpus: Annotated[int | list[int] | None, "Two kinds."] = None,
    third: Annotated[Literal["a", "b"] | None, "One of two."] = None,
) -> dict[str, Any]:
    if first < 0:
        raise JobNotFound(str(first))
    return {"first": first, "second": second}


count.__doc__ = DOCSTRING
NAMES = "first, second, cpus, third"


def test_a_description_is_the_docstring_without_its_sections():
    assert description_of(DOCSTRING) == (
        "Count things, and say so.\n\nA second paragraph on two lines:\n\n* a point\n* another"
    )
    assert description_of("Only this.") == "Only this."
    assert description_of("") == ""


def test_a_schema_says_once_what_a_model_needs():
    assert make_tool(count, "count_it", "Count").parameters == {
        "type": "object",
        "properties": {
            "first": {"type": "integer", "description": "What is counted."},
            "second": {"type": "string"},
            "cpus": {
                "anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}],
                "description": "Two kinds.",
            },
            "third": {"type": "string", "enum": ["a", "b"], "description": "One of two."},
        },
        "required": ["first"],
        "additionalProperties": False,
    }


def test_an_output_schema_is_told_only_where_it_is_wanted():
    assert make_tool(count, "count_it", "Count").output_schema is None
    assert make_tool(count, "count_it", "Count", DeclaredTool).output_schema == {
        "type": "object",
        "additionalProperties": True,
    }


def test_hints_reach_the_client():
    tool = make_tool(count, "count_it", "Count", read_only_hint=True)
    assert tool.annotations is not None
    assert (tool.annotations.title, tool.annotations.read_only_hint) == ("Count", True)
    assert "Returns" not in tool.description


def test_refusals_are_one_line_that_names_the_value():
    assert refusal({"first": "many"}) == "first is 'many'; give a whole number"
    assert refusal({}) == "first is missing; it is required"
    assert refusal({"first": -1}) == "Job -1 not found"
    assert len(refusal({"first": "x" * 10_000})) < 300
    assert refusal({"first": True}) == "first is true; true and false are not numbers"
    assert refusal({"first": 1, "cpus": [0, True]}) == "cpus is [0, True]; true and false are not numbers"


def test_an_unknown_argument_is_refused_with_the_nearest_name():
    assert refusal({"first": 1, "secnd": "x"}) == "count_it has no parameter 'secnd'; did you mean second?"
    assert refusal({"first": 1, "zzz": 1}) == f"count_it has no parameter 'zzz'; it takes {NAMES}"


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
