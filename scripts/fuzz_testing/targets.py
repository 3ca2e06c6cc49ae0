"""What is fuzzed: the parsers of others' texts, and the arguments of every tool up to its body."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import ValidationError

from python_mcp_server.errors import PythonMcpError
from python_mcp_server.jobs.output import Wanted
from python_mcp_server.runner.python.environ import given_variables
from python_mcp_server.runner.python.pep723 import (
    check_requirements,
    check_specifier,
    parse_header,
    with_header,
)
from python_mcp_server.runner.textfile import decode, parse_toml, split_lines
from python_mcp_server.server.app import create_server
from python_mcp_server.store.encoding import Unreadable
from python_mcp_server.store.encoding import decode as decode_record
from python_mcp_server.store.maintenance import read_old_list
from python_mcp_server.tools import saved

LINES = st.lists(
    st.sampled_from(
        [
            "# /// script",
            "# ///",
            "#",
            "# dependencies = [",
            "# 'six',",
            "# ]",
            "x = 1",
            "# [tool.a]",
            "# b = '''",
            "# '''",
        ]
    )
    | st.text(max_size=20),
    max_size=15,
)
CODE = st.lists(
    st.sampled_from(
        [
            "p = argparse.ArgumentParser(description='a')",
            "p.add_argument('--x', type=int, default=",
            "'''",
            '"""',
            "def f(",
            ")",
            "-" * 500,
            "(" * 150,
            "\0",
            "\\N{",
            "1" * 5_000,
            "    ",
            "# coding: utf-7",
        ]
    )
    | st.text(max_size=20),
    max_size=12,
)
TEXT = st.text(max_size=200) | LINES.map("\n".join) | CODE.map("\n".join)
ODD = st.sampled_from([10**400, 2**63, "null", "[1]"])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50) | ODD,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=12,
)
JSON = PLAIN.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=99)
PAGES = st.builds(
    Wanted, st.just("stdout"), st.integers(), st.integers(), st.none() | st.integers(), st.none() | TEXT
)
VARIABLES = st.dictionaries(st.text(max_size=9), PLAIN)


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to fuzz.

    Attributes:
        name: Its name.
        given: The strategy of its input.
        run: Takes an input.
        refusals: The errors that are its sentences.
    """

    name: str
    given: st.SearchStrategy[Any]
    run: Callable[[Any], object]
    refusals: tuple[type[Exception], ...] = (PythonMcpError,)


def parsers(folder: Path) -> list[Target]:
    """Return the parsers; files are written into this folder."""
    return [
        Target("header", TEXT, parse_header),
        Target("header with packages", TEXT, lambda text: with_header(text, ["six"], ">=3")),
        Target("requirement", TEXT, lambda text: check_requirements([text])),
        Target("specifier", TEXT, lambda text: check_specifier(text, "requires_python")),
        Target("TOML", TEXT, parse_toml, (ValueError,)),
        Target("text", st.binary(max_size=200), lambda data: split_lines(decode(data, "replace"))),
        Target("variables", VARIABLES, lambda given: given_variables(given, None, folder)),
        Target("file of variables", TEXT, lambda text: _variables_of_file(folder, text)),
        Target("name of a script", TEXT, lambda text: saved.library_of(None).file(text)),
        Target("saved script", TEXT, lambda text: _describe(folder, text)),
        Target("page", PAGES, lambda wanted: wanted.check()),
        Target("record", JSON, lambda data: decode_record(data, "a", "live"), (PythonMcpError, Unreadable)),
        Target("old list", JSON, lambda data: read_old_list(data, "jobs.json")),
    ]


def _variables_of_file(folder: Path, text: str) -> object:
    (folder / "variables").write_bytes(text.encode("utf-8", "surrogatepass"))
    return given_variables(None, "variables", folder)


def _describe(folder: Path, text: str) -> object:
    library = folder / "scripts"
    library.mkdir(exist_ok=True)
    (library / "script.py").write_bytes(text.encode("utf-8", "surrogatepass"))
    return saved.list_scripts(str(folder))


def tools() -> Iterator[Target]:
    """Yield the tools: their arguments go the way of a client's up to the body, which is not run."""
    for tool in asyncio.run(create_server().list_tools()):
        yield _tool(tool.name)


def _tool(name: str) -> Target:
    built: Any = create_server()._tool_manager.get_tool(name)  # noqa: SLF001  no public way leads to it
    built = getattr(built, "build", lambda: built)()
    built.fn = _nothing
    names = list(built.parameters.get("properties", {}))
    known = st.dictionaries(st.sampled_from(names), PLAIN | TEXT, max_size=6) if names else st.just({})
    given = known | st.dictionaries(st.text(max_size=9), PLAIN, max_size=3)
    return Target(name, given, lambda arguments: asyncio.run(_call(built, arguments)))


async def _call(tool: Any, arguments: dict[str, Any]) -> None:
    try:
        await tool.run(arguments, Context())
    except ToolError as error:
        if not isinstance(error.__cause__, ValidationError | PythonMcpError):
            raise


async def _nothing(**_arguments: Any) -> dict[str, Any]:
    return {}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings of the parsers off the screen."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(action="ignore"):
        yield
