"""The directory's own environment: the project that it belongs to, as uv sees it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from python_mcp_server.atomic import make_directory
from python_mcp_server.context import report_progress
from python_mcp_server.errors import InvalidInput, UvRefused
from python_mcp_server.regular import refuse_links
from python_mcp_server.runner.python.environ import packages_folders
from python_mcp_server.runner.python.interpreter import version_in
from python_mcp_server.runner.python.unused import mark_used
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.runner.textfile import WAY_OUT, parse_toml, read_settings, split_lines


@dataclass(frozen=True, slots=True)
class Project:
    """The Python settings of a directory, found in it or above it, up to the repository's root.

    Attributes:
        root: The directory where they were found.
        managed: Whether its `pyproject.toml` describes a project that uv can install.
        requires_python: The Python that the project asks for.
        venv: Its virtual environment, where there is one.
        requirements: Its `requirements.txt`, where there is one.
    """

    root: Path
    managed: bool = False
    requires_python: str | None = None
    venv: Path | None = None
    requirements: Path | None = None


def find_project(directory: Path) -> Project | None:
    """Return the project of a directory, or None where no file there is about Python.

    Raises:
        InvalidInput: Its `pyproject.toml` cannot be read.
    """
    for folder in _up_to_repository(directory):
        if (found := _project_at(folder)) is not None:
            return found
    return None


def _up_to_repository(directory: Path) -> list[Path]:
    """Return the directory and those above it in its repository; outside one, the directory alone."""
    chain: list[Path] = []
    for folder in (directory, *directory.parents):
        chain.append(folder)
        if (folder / ".git").exists():
            return chain
    return [directory]


def _project_at(folder: Path) -> Project | None:
    venv = folder / ".venv"
    present = venv if (venv / "pyvenv.cfg").is_file() else None
    pyproject = folder / "pyproject.toml"
    document = _read(pyproject) if pyproject.is_file() else {}
    table = _table(document, "project")
    if table is not None and (_table(_table(document, "tool"), "uv") or {}).get("managed") is not False:
        requires: object = table.get("requires-python")
        return Project(
            folder,
            managed=True,
            requires_python=requires if isinstance(requires, str) else None,
            venv=present,
        )
    requirements = folder / "requirements.txt"
    listed = requirements if requirements.is_file() else None
    return Project(folder, venv=present, requirements=listed) if present or listed else None


def _read(pyproject: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_settings(pyproject, str(pyproject)))
    except InvalidInput as error:
        raise InvalidInput(f"{error}; {WAY_OUT}") from None
    except ValueError as error:
        raise InvalidInput(f"{pyproject} cannot be read: {error}; {WAY_OUT}") from None


def _table(document: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    table: Any = (document or {}).get(name)
    return cast("dict[str, Any]", table) if isinstance(table, dict) else None


@dataclass(frozen=True, slots=True)
class Synced:
    """A project's environment that is up to date; `changed` where anything was installed or removed."""

    python: str
    venv: Path
    changed: bool


def sync_project(uv: Uv, project: Project, python: str | None) -> Synced:
    """Bring a project's environment up to date, as `uv run` does, and return it.

    Args:
        uv: The uv of this call.
        project: A managed project.
        python: Another interpreter than the project's own. Then the environment lies under our
            home, and the project's `.venv` is not touched.
    """
    report_progress(0, None, f"bringing the environment of {project.root.name} up to date")
    arguments = ["run", "--quiet", "--no-env-file"]
    env: dict[str, str] = {}
    if python is not None and not serves(project.venv, python):
        arguments += ["--python", python]
        env["UV_PROJECT_ENVIRONMENT"] = str(_private_environment(uv.session.home, project.root, python))
    show = "import sys; print(sys.executable); print(sys.prefix)"
    started_ns = time.time_ns()
    try:
        answer = uv(*arguments, "python", "-I", "-c", show, cwd=project.root, env=env)
    except UvRefused as refused:
        if refused.by_request:
            raise InvalidInput(
                f"the project in {project.root} cannot be installed: {refused}; {WAY_OUT}"
            ) from None
        raise
    executable, prefix = split_lines(answer)[-2:]
    folders = packages_folders(Path(prefix))
    return Synced(executable, Path(prefix), any(path.stat().st_mtime_ns >= started_ns for path in folders))


def serves(venv: Path | None, python: str) -> bool:
    """Whether a virtual environment has the requested Python."""
    return venv is not None and f"{version_in(venv)}.".startswith(f"{python}.")


def _private_environment(home: Path, root: Path, python: str) -> Path:
    key = hashlib.sha256(f"{root}\0{python}".encode()).hexdigest()[:32]
    folder = home / "environments"
    make_directory(str(folder))
    refuse_links(str(folder / key), 1)  # uv would empty what it leads to
    mark_used(folder / key)
    return folder / key
