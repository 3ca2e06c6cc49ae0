"""Environments with packages, made once by uv and kept under the home.

One per set of requirements and Python; the name of its directory is a digest of both, so a second
run finds it with one read. Two calls that want the same one meet at its lock. The record `ready.json`
is written last: an environment without one was never finished, and is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from python_mcp_server.context import report_progress
from python_mcp_server.errors import InvalidInput, LimitExceeded, UvRefused
from python_mcp_server.runner.environ import scripts_folder
from python_mcp_server.runner.metadata import Header, check_requirements, render
from python_mcp_server.runner.pythons import find_python, own_version, version_in
from python_mcp_server.runner.session import make_private
from python_mcp_server.runner.uv import Uv


@dataclass(frozen=True, slots=True)
class Environment:
    """A finished environment.

    Attributes:
        venv: Its directory.
        resolved: What is installed, as `name==version`.
        python_version: Of its interpreter.
    """

    venv: Path
    resolved: tuple[str, ...]
    python_version: str

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(scripts_folder(self.venv) / ("python.exe" if os.name == "nt" else "python"))


def environment_for(uv: Uv, header: Header, python_request: str | None) -> Environment:
    """Return an environment with these packages; made now if there is none yet.

    Args:
        uv: Of this call.
        header: The packages, and where its `[tool.uv]` says that they come from.
        python_request: A checked version or specifier; None for this interpreter's version.

    Raises:
        InvalidInput: A requirement is none, or cannot be met; the text is the resolver's sentence.
        ToolchainError: uv is missing or the machine cannot serve.
        LimitExceeded: The call's time limit came first.
    """
    wanted = replace(header, dependencies=tuple(sorted(set(header.dependencies))))
    venv = uv.session.home / "environments" / _digest(wanted, python_request)
    return _ready(venv) or _make_under_lock(uv, venv, wanted, python_request)


def _ready(venv: Path) -> Environment | None:
    try:
        facts: dict[str, Any] = json.loads((venv / "ready.json").read_bytes())
        found = Environment(venv, tuple(facts["resolved"]), str(facts["python_version"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return found if os.access(found.python, os.X_OK) else None


def _make_under_lock(uv: Uv, venv: Path, wanted: Header, python_request: str | None) -> Environment:
    from filelock import FileLock, Timeout

    check_requirements(wanted.dependencies)
    make_private(venv.parent)
    deadline = uv.session.deadline
    wait_s = -1 if deadline is None else max(0.0, deadline - time.monotonic())
    try:
        with FileLock(f"{venv}.lock", timeout=wait_s, mode=0o600):
            return _ready(venv) or _make(uv, venv, wanted, python_request)
    except Timeout:
        raise LimitExceeded(
            "the time limit came while another call installed the same packages", "time_limit"
        ) from None


def _make(uv: Uv, venv: Path, wanted: Header, python_request: str | None) -> Environment:
    report_progress(0, None, _message(wanted.dependencies))
    python = find_python(uv, python_request) if python_request else sys.executable
    uv("venv", "--clear", "--no-project", "--python", python, str(venv))
    made = Environment(venv, (), version_in(venv) or own_version())
    if wanted.dependencies:
        _install(uv, made, wanted)
    frozen = uv("pip", "freeze", "--python", made.python) if wanted.dependencies else ""
    made = Environment(venv, tuple(frozen.split("\n")[:-1]), made.python_version)
    partial = venv / "ready.json.partial"
    partial.write_text(
        json.dumps({"resolved": made.resolved, "python_version": made.python_version}), "utf-8"
    )
    partial.replace(venv / "ready.json")
    return made


def _install(uv: Uv, made: Environment, wanted: Header) -> None:
    try:
        uv("pip", "install", "--python", made.python, *_sources(uv, made, wanted))
    except UvRefused as refused:
        if refused.by_request:
            raise InvalidInput(
                f"dependencies {', '.join(wanted.dependencies)} cannot be installed: {refused}"
            ) from None
        raise


def _sources(uv: Uv, made: Environment, wanted: Header) -> Sequence[str]:
    """Return what `uv pip install` is told; what a `[tool.uv]` says, only uv's scripts understand."""
    if not wanted.tool_text:
        return ("--", *wanted.dependencies)
    script, locked = uv.session.folder / "install.py", uv.session.folder / "install.txt"
    script.write_text(render(wanted) + "\n", "utf-8")
    options = ("--no-hashes", "--emit-index-url", "--python", made.python)
    uv("export", "--script", str(script), *options, "--output-file", str(locked))
    return ("--requirements", str(locked))


def _message(wanted: tuple[str, ...]) -> str:
    if not wanted:
        return "preparing an environment"
    what = "1 dependency" if len(wanted) == 1 else f"{len(wanted)} dependencies"
    return f"installing {what}: {', '.join(wanted)}"


def _digest(wanted: Header, python_request: str | None) -> str:
    facts = [
        python_request or sys.executable,
        own_version(),
        *(f"{w} {_stamp(w)}" for w in wanted.dependencies),
    ]
    facts.append(wanted.tool_text)
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]


def _stamp(requirement: str) -> str:
    """Return what changes when a package that lies on this machine changes, so that it is built again."""
    local = re.search(r"@\s*(file:\S+)", requirement)
    if local is None:
        return ""
    path = Path(url2pathname(urlsplit(local[1]).path))
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return str(max((file.stat().st_mtime_ns for file in files if file.exists()), default=0))
