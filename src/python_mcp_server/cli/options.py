"""Options, and ways to print, that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import click

from python_mcp_server.settings import given_text, variable

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _set_home(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Pass the home on through the environment, because workers and children must find the same home."""
    if (value := given_text(value)) is not None:
        os.environ[variable("home")] = os.path.abspath(os.path.expanduser(value))


home_option: Final[Decorator] = click.option(
    "--home",
    metavar="DIR",
    expose_value=False,
    callback=_set_home,
    help="Where jobs and their output lie.  [default: $PYTHON_MCP_HOME, else ~/.python_mcp]",
)

json_option: Final[Decorator] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout."
)


def print_json(data: object) -> None:
    """Print one JSON document on stdout, with control and invisible characters escaped."""
    import json

    lines = json.dumps(data, indent=2, ensure_ascii=False).split("\n")
    click.echo("\n".join(line if line.isprintable() else "".join(map(_escaped, line)) for line in lines))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
