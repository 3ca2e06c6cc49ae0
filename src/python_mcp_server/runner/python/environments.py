"""Environments with packages, made once by uv and kept under the home.

There is one environment per set of packages and Python; the name of its directory is a digest of both, so a
second run finds it with one read. Two calls that need the same environment meet at its lock. The record
`ready.json` is written last: an environment without one was never finished, and is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from python_mcp_server.atomic import make_directory, write_file
from python_mcp_server.context import report_progress
from python_mcp_server.errors import InvalidInput, LimitExceeded, UvRefused
from python_mcp_server.regular import NotRegular, make_own, read_regular, refuse_links
from python_mcp_server.runner.python.environ import scripts_folder
from python_mcp_server.runner.python.interpreter import find_python, own_version, version_in
from python_mcp_server.runner.python.pep723 import Header, check_requirements, render
from python_mcp_server.runner.python.requirements import local_path, stamp
from python_mcp_server.runner.python.unused import mark_used
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.runner.textfile import MOST_BYTES


@dataclass(frozen=True, slots=True)
class Environment:
    """A finished environment.

    Attributes:
        venv: Its directory.
        resolved: What is installed, as `name==version`.
        python_version: The version of its interpreter.
        install_s: How long this call had to wait for it; None where the environment existed before.
    """

    venv: Path
    resolved: tuple[str, ...]
    python_version: str
    install_s: float | None = None

    @property
    def python(self) -> str:
        """Return the path of its interpreter."""
        return str(scripts_folder(self.venv) / ("python.exe" if os.name == "nt" else "python"))


def environment_for(uv: Uv, packages: Packages, python_request: str | None) -> Environment:
    """Return an environment with these packages; it is made now if it does not exist yet.

    Args:
        uv: The uv of this call.
        packages: The packages of a header or a file.
        python_request: A checked version or specifier; None for this interpreter's version.

    Raises:
        InvalidInput: A requirement is not valid or cannot be met; the text is the resolver's sentence.
        ToolchainError: uv is missing or fails for a reason of the machine.
        LimitExceeded: A limit of the call came first.
        StoreError: A symbolic link is in its place.
    """
    venv = uv.session.home / "environments" / _digest(packages, python_request)
    refuse_links(str(venv), 1)  # uv would empty what it leads to
    mark_used(venv)  # before the look, so that another process does not remove it after that
    if (found := _ready(venv)) is not None:
        return found
    started = time.monotonic()
    made = _make_under_lock(uv, venv, packages, python_request)
    return replace(made, install_s=time.monotonic() - started)


def _ready(venv: Path) -> Environment | None:
    try:
        facts: dict[str, Any] = json.loads(read_regular(str(venv / "ready.json"), MOST_BYTES))
        found = Environment(venv, tuple(facts["resolved"]), str(facts["python_version"]))
    except (FileNotFoundError, NotRegular, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if os.access(found.python, os.X_OK) else None


def _make_under_lock(uv: Uv, venv: Path, packages: Packages, python_request: str | None) -> Environment:
    from filelock import FileLock, Timeout

    packages.check()
    make_directory(str(venv.parent))
    make_own(f"{venv}.lock")
    deadline = uv.session.deadline
    wait_s = -1 if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        with FileLock(f"{venv}.lock", timeout=wait_s, mode=0o600):
            return _ready(venv) or _make(uv, venv, packages, python_request)
    except Timeout:
        raise LimitExceeded(
            "the time limit came while another call installed the same packages", "time_limit"
        ) from None


def _make(uv: Uv, venv: Path, packages: Packages, python_request: str | None) -> Environment:
    report_progress(0, None, packages.task)
    python = find_python(uv, python_request) if python_request else sys.executable
    uv("venv", "--clear", "--no-project", "--python", python, str(venv))
    made = Environment(venv, (), version_in(venv) or own_version())
    if _installed(uv, made, packages):
        frozen = uv("pip", "freeze", "--python", made.python)
        made = replace(made, resolved=tuple(frozen.split("\n")[:-1]))
    ready = {"resolved": made.resolved, "python_version": made.python_version}
    write_file(str(venv / "ready.json"), json.dumps(ready).encode())
    return made


def _installed(uv: Uv, made: Environment, packages: Packages) -> bool:
    try:
        return packages.install(uv, made.python)
    except UvRefused as refused:
        if refused.by_request:
            raise InvalidInput(f"{packages.name} cannot be installed: {refused}{packages.way_out}") from None
        raise


def _digest(packages: Packages, python_request: str | None) -> str:
    facts = [python_request or sys.executable, own_version(), *packages.facts]
    return hashlib.sha256("\0".join(facts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


class Packages(Protocol):
    """The contract of the packages of an environment, of a header or a file."""

    @property
    def facts(self) -> Sequence[str]:
        """The texts that name the environment: another one is made where any of them changes."""
        ...

    @property
    def name(self) -> str:
        """The packages, as the error names them."""
        ...

    @property
    def way_out(self) -> str:
        """The end of that error, which says what to do; may be empty."""
        ...

    @property
    def task(self) -> str:
        """The message of the progress while they are installed."""
        ...

    def check(self) -> None:
        """Refuse wrong requirements before uv is started.

        Raises:
            InvalidInput: The text names it.
        """
        ...

    def install(self, uv: Uv, python: str) -> bool:
        """Let uv install them for an interpreter; return whether there was anything to install.

        Raises:
            UvRefused: The packages cannot be installed.
        """
        ...


@dataclass(frozen=True, slots=True)
class HeaderPackages:
    """The packages of a header, and the sources that its `[tool.uv]` names."""

    header: Header

    @property
    def facts(self) -> Sequence[str]:
        """The requirements, with a stamp that changes when a package on this machine changes."""
        return (*(f"{wanted} {_stamp(wanted)}" for wanted in self._wanted), self.header.tool_text)

    @property
    def name(self) -> str:
        """The requirements."""
        return f"dependencies {', '.join(self._wanted)}"

    @property
    def way_out(self) -> str:
        """Nothing, because the resolver names the requirement."""
        return ""

    @property
    def task(self) -> str:
        """The number of requirements, and their names."""
        count = len(self._wanted)
        if not count:
            return "preparing an environment"
        what = "1 dependency" if count == 1 else f"{count} dependencies"
        return f"installing {what}: {', '.join(self._wanted)}"

    def check(self) -> None:
        """Refuse a text that is not a requirement."""
        check_requirements(self._wanted)

    def install(self, uv: Uv, python: str) -> bool:
        """Install the requirements. Only uv's command for scripts understands a `[tool.uv]`."""
        if not self._wanted:
            return False
        wanted: Sequence[str] = ("--", *self._wanted)
        if self.header.tool_text:
            script, locked = uv.session.folder / "install.py", uv.session.folder / "install.txt"
            write_file(str(script), f"{render(self.header)}\n".encode())
            options = ("--no-hashes", "--emit-index-url", "--python", python)
            uv("export", "--script", str(script), *options, "--output-file", str(locked))
            wanted = ("--requirements", str(locked))
        uv("pip", "install", "--python", python, *wanted)
        return True

    @property
    def _wanted(self) -> Sequence[str]:
        return sorted(set(self.header.dependencies))


def _stamp(requirement: str) -> str:
    path = local_path(requirement, Path())
    return "" if path is None else stamp(path)
