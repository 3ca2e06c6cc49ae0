"""Prepares pytest in the environment of a directory: installed there, or brought in by uv beside it.

directory ──> Interpreter ──probe──> installed? ──> overlays ──> a folder with launcher, plugin, run.json

An overlay is an environment of its own whose packages come last in the suite's `sys.path`, so it
changes nothing in the directory, and never hides a package of the suite.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from python_mcp_server.atomic import remove_tree
from python_mcp_server.errors import InvalidInput, ToolchainError
from python_mcp_server.runner.child import Command, Session
from python_mcp_server.runner.command import UV, Interpreter, Script
from python_mcp_server.runner.python.environ import child_environment, packages_folders
from python_mcp_server.runner.python.environments import Environment, HeaderPackages, environment_for
from python_mcp_server.runner.python.pep723 import Header
from python_mcp_server.runner.python.uv import Uv, run_before

Workers = int | Literal["auto"]

EVENTS: Final = "events.jsonl"
_PLUGIN: Final = "python_mcp_pytest"
_PROBE: Final = """\
from importlib.util import find_spec
print(*(name for name in ("pytest", "xdist") if getattr(find_spec(name), "origin", None)))
"""
LAUNCH: Final = """\
import json, os, sys

if __name__ == "__main__":
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
        run = json.load(file)
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()
    sys.path += [*run["overlays"], folder]
    import pytest

    sys.argv[:] = [os.path.join(os.path.dirname(pytest.__file__), "__main__.py"), *run["args"]]
    sys.exit(int(pytest.main()))
"""
"""Starts pytest as `python -m pytest` would, in any Python from 3.8 on. Packages that uv brought in come last
in `sys.path`, so that the suite's own win. Tests that start processes with `spawn` import this file again."""
_NO_PYTEST: Final = "[tool.uv]\noverride-dependencies = [\"pytest ; python_version < '0'\"]\n"
"""Leaves pytest out of the overlay of xdist: execnet puts that folder first in its workers, where a second
pytest would hide the suite's own."""
_NO_AUTOLOAD: Final = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"


@dataclass(frozen=True, slots=True)
class Suite:
    """The selection of tests for pytest.

    Attributes:
        args: Arguments of pytest.
        workers: Processes of xdist; 0 for none, "auto" for one per core where xdist is installed.
        with_pytest: Whether uv brings pytest in if it is missing.
        with_xdist: The same for pytest-xdist.
        only: Ids of the tests to run; None for all.
    """

    args: tuple[str, ...]
    workers: Workers = "auto"
    with_pytest: bool = False
    with_xdist: bool = False
    only: tuple[str, ...] | None = None


def launcher(folder: Path) -> Script:
    """Return the script that starts pytest, in a folder that `prepare` has filled."""
    return Script(folder / "launch.py")


def prepare(uv: Uv, interpreter: Interpreter, suite: Suite, directory: Path, folder: Path) -> Interpreter:
    """Fill the folder that pytest starts from, and return the interpreter with what uv brought in.

    Raises:
        InvalidInput: pytest or pytest-xdist is missing, and the caller did not ask for it.
        ToolchainError: The interpreter cannot start, or uv fails.
        LimitExceeded: The call's time limit was reached.
    """
    there = _probe(uv.session, interpreter, directory)
    missing = _missing(suite, there, interpreter)
    overlays = [_overlay(uv, interpreter, package) for package in missing]
    xdist = "xdist" in there or "pytest-xdist" in missing
    run: dict[str, object] = {
        "args": [*(_loaded(uv.session) if xdist else ()), "-p", _PLUGIN, *suite.args],
        "overlays": [str(path) for overlay in overlays for path in packages_folders(overlay.venv)],
        "workers": suite.workers,
        "only": suite.only,
    }
    _write(folder, run)
    if not missing:
        return interpreter
    detail = f"{interpreter.detail}, with {' and '.join(missing)} brought in by uv"
    times = [t for t in (interpreter.install_s, *(made.install_s for made in overlays)) if t is not None]
    fresh = bool(interpreter.fresh) or any(made.install_s is not None for made in overlays)
    return replace(
        interpreter, strategy=UV, detail=detail, install_s=sum(times) if times else None, fresh=fresh
    )


def _probe(session: Session, interpreter: Interpreter, directory: Path) -> frozenset[str]:
    """Return the installed ones of pytest and xdist."""
    env = child_environment(
        session.given, session.job_id, own=interpreter.python == sys.executable, venv=interpreter.venv
    )
    command = Command((interpreter.python, "-c", _PROBE), directory, env)
    try:
        said = run_before(session, command, "probe", "before pytest was started")
    finally:
        for stream in ("stdout", "stderr"):
            (session.folder / f"probe.{stream}").unlink(missing_ok=True)
    if said.failed:
        why = next((line for line in reversed(said.err.split("\n")) if line.strip()), "it said nothing")
        raise ToolchainError(f"{interpreter.python} cannot be used: it ended with {said.exit_code}: {why}")
    return frozenset(said.out.split())


def _missing(suite: Suite, there: frozenset[str], interpreter: Interpreter) -> list[str]:
    """Return the packages that uv adds, xdist first."""
    where = interpreter.detail
    if "pytest" not in there and not suite.with_pytest:
        raise InvalidInput(
            f"pytest is not installed in {where}; install it there, or set with_pytest to true, "
            "and uv brings it in beside it"
        )
    missing = ["pytest-xdist"] if "xdist" not in there and suite.with_xdist else []
    if "xdist" not in there and not missing and suite.workers not in (0, "auto"):
        raise InvalidInput(
            f"workers is {suite.workers}, but pytest-xdist is not installed in {where}; "
            "set with_xdist to true, and uv brings it in, or workers to 0"
        )
    return missing if "pytest" in there else [*missing, "pytest"]


def _overlay(uv: Uv, interpreter: Interpreter, package: str) -> Environment:
    packages = HeaderPackages(Header(None, (package,), _NO_PYTEST if package == "pytest-xdist" else ""))
    return environment_for(uv, packages, None if interpreter.python == sys.executable else interpreter.python)


def _loaded(session: Session) -> tuple[str, ...]:
    """Return the arguments that load xdist where pytest does not load plugins by itself."""
    off = session.given.get(_NO_AUTOLOAD, os.environ.get(_NO_AUTOLOAD))
    return ("-p", "xdist.plugin") if off else ()


def _write(folder: Path, run: dict[str, object]) -> None:
    """Fill the folder anew, without the files of an earlier run of the job."""
    remove_tree(str(folder))
    folder.mkdir(mode=0o700)
    (folder / "launch.py").write_text(LAUNCH, "utf-8")
    shutil.copyfile(Path(__file__).with_name("plugin.py"), folder / f"{_PLUGIN}.py")
    (folder / "run.json").write_text(json.dumps(run), "utf-8")
