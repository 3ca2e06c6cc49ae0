"""Options, and ways to print, that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import click

from python_mcp_server.cli.streams import say
from python_mcp_server.errors import InvalidInput
from python_mcp_server.settings import variable
from python_mcp_server.store.opening import FILE, MEMORY, StorePlace, place_of

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*options: Decorator) -> Decorator:
    """Return one decorator that adds these options, in this order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


class Number(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  click 8.1 takes none
    """A finite number: `click.FloatRange` takes "nan" as one of every range, and "inf" without an upper end.

    Args:
        unit: What it counts, such as "seconds".
        least: The smallest one; None where `Limits` or `RunPlan` checks it.
        most: The largest one.
    """

    name = "number"

    def __init__(self, unit: str, least: float | None = None, most: float | None = None) -> None:
        self._right = f"a number of {unit}"
        if least is not None:
            self._right += f", {least:g} or more" if most is None else f" from {least:g} to {most:g}"
        self._least = -math.inf if least is None else least
        self._most = math.inf if most is None else most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ARG002
        """Return the number.

        Raises:
            InvalidInput: The text is not a number, or the number is out of bounds.
        """
        try:
            number = float(value)
        except ValueError:
            raise InvalidInput(f"{_typed_name(param)} is {value!r}; it must be {self._right}") from None
        if not (math.isfinite(number) and self._least <= number <= self._most):
            raise InvalidInput(f"{_typed_name(param)} is {number}; it must be {self._right}")
        return number


class _Text(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]  click 8.1 takes none
    """A text that shows: a blank one is mostly that of a variable of the shell that is not set."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """Return the text.

        Raises:
            InvalidInput: It is blank.
        """
        if all(char.isspace() or char < " " or char == "\x7f" for char in value):
            raise InvalidInput(f"{_typed_name(param)} is {value!r}; give a value, or leave it out")
        return value


TEXT: Final = _Text()


def _typed_name(param: click.Parameter | None) -> str:
    return "it" if param is None else param.opts[-1]


def _set_home(_context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    """Pass the home on through the environment, because workers and children must find the same home."""
    if value is not None:
        os.environ[variable("home")] = _whole(value)


home_option: Final[Decorator] = click.option(
    "--home",
    type=TEXT,
    metavar="DIR",
    expose_value=False,
    callback=_set_home,
    help="Where jobs and their output lie, unless $PYTHON_MCP_STORE says where.  "
    "[default: $PYTHON_MCP_HOME, else ~/.python_mcp]",
)


def tell_missing_store(place: StorePlace, *, makes: bool = False) -> bool:
    """Whether there is no store here; stderr says so, because the name may be mistyped. `makes` says that it
    is made now.
    """
    missing = place.kind != MEMORY and not place.exists()
    made = "it is made now" if makes else "the first job makes it"
    if missing and place.kind == FILE:
        say(f"there is no home at {str(place.path)!r}; {made}, and --home names another one")
    elif missing:
        say(f"there is no store at {place}; {made}, and PYTHON_MCP_STORE names another one")
    return missing


def home_manager(*, makes: bool = False) -> JobManager:
    """Return a manager of the store. Where there is no store, stderr says so, and the manager is one of no
    jobs, because a look makes none; with `makes` the store is made.
    """
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.memory import InMemoryJobStore

    settings = Settings.from_environ()
    missing = tell_missing_store(place_of(settings), makes=makes)
    return JobManager(InMemoryJobStore() if missing and not makes else None, settings)


json_option: Final[Decorator] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout."
)
json_and_home: Final = together(json_option, home_option)

environment_options: Final = together(
    click.option("--python", "python_version", type=TEXT, metavar="VERSION",
                 help="The version of Python, such as 3.12."),
    click.option("--with", "dependencies", type=TEXT, multiple=True, metavar="PACKAGE",
                 help="A package that is needed, such as 'numpy>=2'; may be repeated. It runs in an "
                 "environment of its own then."),
    click.option("--no-uv", is_flag=True, help="Use an installed interpreter as it is, without packages."),
    click.option("--cwd", "directory", type=TEXT, metavar="DIR",
                 help="The working directory.  [default: this one]"),
    click.option("--env", "env_vars", multiple=True, metavar="NAME=VALUE",
                 help="A variable; may be repeated."),
    click.option("--env-file", type=TEXT, metavar="FILE", help="A file of variables."),
)  # fmt: skip
"""The options that choose an interpreter, its packages, its directory and its variables."""
limit_options: Final = together(
    click.option("--memory-limit-mb", type=Number("MB"), metavar="MB",
                 help="End it where all its processes together hold more."),
    click.option("--cpu-time-limit", "cpu_time_limit_seconds", type=Number("seconds"), metavar="SECONDS",
                 help="End it where all its processes together used more CPU time."),
    click.option("--nice", type=int, metavar="N",
                 help="Its priority: 0 (normal) to 19 (only when idle); down to -20 with the right to it."),
    click.option("--cpus", metavar="N|LIST", help="How many cores it may use, or which: 0,2."),
)  # fmt: skip
"""The limits of a run, but for its time."""


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `environment_options` and `limit_options` were given, as parameters of a tool's body.

    All that the body would refuse is refused here, before there is a job.

    Raises:
        InvalidInput: A value has no meaning, or not on this machine; the text names it.
        UsageError: Two options exclude each other.
    """
    from python_mcp_server.limits import Limits
    from python_mcp_server.runner.enforce import check_here
    from python_mcp_server.runner.python.environ import given_variables
    from python_mcp_server.runner.python.interpreter import check_request
    from python_mcp_server.runner.python.pep723 import check_requirements
    from python_mcp_server.tools.scripts import existing_directory

    packages, python_version, file = (
        options[name] for name in ("dependencies", "python_version", "env_file")
    )
    if packages and options["no_uv"]:
        raise click.UsageError("--no-uv and --with exclude each other; leave one out")
    names = ("memory_limit_mb", "cpu_time_limit_seconds", "nice")
    limits = Limits.given(**{name: options[name] for name in names}, cpus=_cpus(options["cpus"]))
    check_here(limits)
    check_requirements(packages)
    if python_version is not None:
        check_request(python_version)
    folder = existing_directory(_whole(options["directory"] or "."))
    variables, env_file = _variables(options["env_vars"]), None if file is None else _whole(file)
    given_variables(variables, env_file, folder)
    return {
        "directory": str(folder),
        "dependencies": list(packages),
        "use_uv": not options["no_uv"],
        "python_version": python_version,
        "env_vars": variables,
        "env_file": env_file,
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
            shown = "'=…'" if separator else repr(name)  # a value is not told
            raise InvalidInput(f"--env is {shown}; it must be NAME=VALUE")
        variables[name] = value
    return variables or None


def _cpus(text: str | None) -> int | list[int] | None:
    if text is None:
        return None
    numbers = text.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise InvalidInput(f"--cpus is {text!r}; it must be how many cores, such as 2, or which, such as 0,2")
    return int(text) if len(numbers) == 1 else [int(number) for number in numbers]


def tell(words: str, data: object, *, as_json: bool) -> None:
    """Print the outcome of a command: in words, or as JSON."""
    if as_json:
        print_json(data)
    else:
        click.echo(words)


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
