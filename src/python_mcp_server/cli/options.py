"""Options, and ways to print, that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

import click

from python_mcp_server.errors import InvalidInput
from python_mcp_server.settings import given_text, variable

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _set_home(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Pass the home on through the environment, because workers and children must find the same home."""
    if (value := given_text(value)) is not None:
        os.environ[variable("home")] = _whole(value)


home_option: Final[Decorator] = click.option(
    "--home",
    metavar="DIR",
    expose_value=False,
    callback=_set_home,
    help="Where jobs and their output lie, unless $PYTHON_MCP_STORE says where.  "
    "[default: $PYTHON_MCP_HOME, else ~/.python_mcp]",
)

json_option: Final[Decorator] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout."
)

_ENVIRONMENT: Final[tuple[Decorator, ...]] = (
    click.option("--python", "python_version", metavar="VERSION",
                 help="The version of Python, such as 3.12."),
    click.option("--with", "packages", multiple=True, metavar="PACKAGE",
                 help="A package that is needed, such as 'numpy>=2'; may be repeated. It runs in an "
                 "environment of its own then."),
    click.option("--no-uv", is_flag=True, help="Use an installed interpreter as it is, without packages."),
    click.option("--cwd", "directory", metavar="DIR", help="The working directory.  [default: this one]"),
    click.option("--env", "variables", multiple=True, metavar="NAME=VALUE",
                 help="A variable; may be repeated."),
    click.option("--env-file", metavar="FILE", help="A file of variables."),
)  # fmt: skip
_LIMITS: Final[tuple[Decorator, ...]] = (
    click.option("--memory-limit-mb", type=float, metavar="MB",
                 help="End it where all its processes together hold more."),
    click.option("--cpu-time-limit", "cpu_time_limit_seconds", type=float, metavar="SECONDS",
                 help="End it where all its processes together used more CPU time."),
    click.option("--nice", type=int, metavar="N", help="Its priority: 0 (normal) to 19 (only when idle)."),
    click.option("--cpus", metavar="N|LIST", help="How many cores it may use, or which: 0,2."),
)  # fmt: skip


def environment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose an interpreter, its packages, its directory and its variables."""
    return reduce(lambda made, option: option(made), reversed(_ENVIRONMENT), command)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the limits of a run, but for its time."""
    return reduce(lambda made, option: option(made), reversed(_LIMITS), command)


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `environment_options` and `limit_options` were given, as parameters of a tool's body.

    Raises:
        InvalidInput: A variable has no name, or a limit has no meaning; the text names it.
        UsageError: Two options exclude each other.
    """
    from python_mcp_server.limits import Limits

    if options["packages"] and options["no_uv"]:
        raise click.UsageError("--no-uv and --with exclude each other; leave one out")
    file = options["env_file"]
    names = ("memory_limit_mb", "cpu_time_limit_seconds", "nice")
    limits = Limits.given(**{name: options[name] for name in names}, cpus=_cpus(options["cpus"]))
    return {
        "directory": _whole(options["directory"] or "."),
        "dependencies": list(options["packages"]),
        "use_uv": not options["no_uv"],
        "python_version": options["python_version"],
        "env_vars": _variables(options["variables"]),
        "env_file": None if file is None else _whole(file),
        "limits": {} if limits is None else limits.to_json(),
    }


def script_path(typed: str) -> str | None:
    """Return the absolute path of a script, or of a directory with a `__main__.py`; None for another one."""
    path = _whole(typed)
    return path if os.path.isfile(path) or os.path.isfile(os.path.join(path, "__main__.py")) else None


def _whole(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _variables(pairs: tuple[str, ...]) -> dict[str, str] | None:
    variables: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not (name and separator):
            raise InvalidInput(f"--env is {name!r}; it must be NAME=VALUE")
        variables[name] = value
    return variables or None


def _cpus(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise InvalidInput(f"--cpus is {text!r}; it must be how many cores, such as 2, or which, such as 0,2")
    return int(text) if len(numbers) == 1 else [int(number) for number in numbers]


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
