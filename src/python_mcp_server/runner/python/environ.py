"""The environment variables of a child: the worker's own without our private ones, then the caller's file,
then the caller's variables. Values are secrets: no error text here shows one.
"""

from __future__ import annotations

import io
import os
import re
from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final, cast

from python_mcp_server.errors import InvalidInput, quoted
from python_mcp_server.limits import Limits
from python_mcp_server.processes import JOB_VARIABLE
from python_mcp_server.runner.enforce import thread_variables
from python_mcp_server.runner.textfile import read_settings, split_lines
from python_mcp_server.settings import PREFIX

_PRIVATE_PREFIXES: Final = (PREFIX, "LOKY_", "JOBLIB_")
_OF_OUR_INTERPRETER: Final = frozenset({"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__"})
_MOST_BYTES: Final = 1 << 20
_MOST_LINES: Final = 10_000
"""Guessed: far more than any program reads. dotenv takes 10 to 50 us for each."""
_MOST_BLANKS: Final = 256
_BLANKS: Final = re.compile(rf"(?<![^\S\r\n])[^\S\r\n]{{{_MOST_BLANKS + 1}}}")
"""dotenv looks at the rest of a run of blanks from each of them."""
_VARIABLE: Final = re.compile(r"\$\{(?P<name>[^}:]*+)(?P<end>(?::-(?P<default>[^}]*+))?\})?")
_DEFAULTS: Final = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


def given_variables(
    env_vars: Mapping[str, str] | None, env_file: str | None, base: Path, fallback: Path | None = None
) -> dict[str, str]:
    """Return the variables that the caller sets: the file's, then `env_vars` on top.

    Args:
        env_vars: Names and values.
        env_file: A file in dotenv form; relative to `base`.
        base: Where relative paths start.
        fallback: A file that is read if it exists and no `env_file` is given.

    Raises:
        InvalidInput: A name or value is not valid, or the file is missing.
    """
    path = _env_file(env_file, base) if env_file is not None else fallback
    given = _read_env_file(path) if path is not None and path.is_file() else {}
    for name, value in (env_vars or {}).items():
        _check(name, value)
        given[name] = value
    return given


def child_environment(
    given: Mapping[str, str],
    job_id: str,
    *,
    own: bool,
    venv: Path | None = None,
    limits: Limits | None = None,
) -> dict[str, str]:
    """Return the whole environment of a child.

    Args:
        given: The result of `given_variables`.
        job_id: The job, so that its tree can be found.
        own: Whether the child is this very interpreter; any other must not see our packages.
        venv: The virtual environment whose programs come first.
        limits: The number of its cores is how many threads numerical libraries start, unless the variables
            say otherwise.
    """
    env = {name: value for name, value in os.environ.items() if not _private(name, own=own)}
    env = {**_DEFAULTS, **env, **thread_variables(limits), **given, JOB_VARIABLE: job_id}
    if venv is not None:
        env["VIRTUAL_ENV"] = str(venv)
        env["PATH"] = str(scripts_folder(venv)) + os.pathsep + env.get("PATH", os.defpath)
    return env


def scripts_folder(venv: Path) -> Path:
    """Return where a virtual environment keeps its programs."""
    return venv / ("Scripts" if os.name == "nt" else "bin")


def packages_folders(venv: Path) -> list[Path]:
    """Return where a virtual environment keeps its packages."""
    return [venv / "Lib" / "site-packages"] if os.name == "nt" else list(venv.glob("lib/*/site-packages"))


def _private(name: str, *, own: bool) -> bool:
    return name.startswith(_PRIVATE_PREFIXES) or (not own and name in _OF_OUR_INTERPRETER)


def _env_file(env_file: str, base: Path) -> Path:
    path = base / os.path.expanduser(env_file)
    if not os.path.isfile(path):  # which, unlike a Path, says no of a name that is too long
        looked = "" if str(path) == env_file else f" (looked at {quoted(str(path))})"
        raise InvalidInput(f"env_file {quoted(env_file)} does not exist as a file{looked}")
    return path


def _read_env_file(path: Path) -> dict[str, str]:
    from dotenv import dotenv_values

    text = read_settings(path, f"env_file {str(path)!r}", _MOST_BYTES)
    if (count := len(split_lines(text))) > _MOST_LINES:
        raise InvalidInput(f"env_file {str(path)!r} has {count} lines; it may have up to {_MOST_LINES}")
    if (blanks := _BLANKS.search(text)) is not None:
        raise InvalidInput(
            f"env_file {str(path)!r} has over {_MOST_BLANKS} blanks in a row, at character {blanks.start()}"
        )
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    read = _interpolated({name: value for name, value in values.items() if name and value is not None}, path)
    for name, value in read.items():
        if "\0" in name or "\0" in value:
            raise InvalidInput(
                f"env_file {str(path)!r} holds a NUL character, at {name!r}, which no variable can"
            )
    return read


def _interpolated(values: Mapping[str, str], path: Path) -> dict[str, str]:
    """Put variables in the place of `${NAME}` and `${NAME:-default}`, as dotenv does but up to a bound.

    In dotenv, 40 lines that each name the one before twice take all memory.
    """
    made: dict[str, str] = {}
    known = ChainMap(made, cast("MutableMapping[str, str]", os.environ))
    room = _MOST_BYTES
    for name, value in values.items():
        parts: list[str] = []
        at = 0
        for variable in _VARIABLE.finditer(value, 0, value.rfind("}") + 1):
            if variable["end"] is None:
                continue
            parts += value[at : variable.start()], known.get(variable["name"], variable["default"] or "")
            room -= len(parts[-1])
            if room < 0:
                raise InvalidInput(
                    f"env_file {str(path)!r} grows beyond {_MOST_BYTES} characters by its ${{NAME}}"
                )
            at = variable.end()
        made[name] = "".join([*parts, value[at:]])
    return made


def _check(name: object, value: object) -> None:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise InvalidInput(
            f"env_vars has the name {_shown(name)}; a name is text without '=' and NUL, and not empty"
        )
    if not isinstance(value, str):
        raise InvalidInput(f"env_vars[{name!r}] is of type {type(value).__name__}; a value must be text")
    if "\0" in value:
        raise InvalidInput(f"env_vars[{name!r}] holds a NUL character, which no variable can")


def _shown(name: object) -> str:
    """Return a name for an error; after a '=' in it, there may be a value."""
    before, sign, _value = name.partition("=") if isinstance(name, str) else (name, "", "")
    return f"{before!r} and '=' after it" if sign else repr(before)
