"""From a caller's request to a command: the interpreter with its packages, then the argv.

directory, header, python_version ──> interpreter_in_directory ──┐
dependencies, header, python_version ──> interpreter_with ───────┴─> Interpreter ──> command_for
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from python_mcp_server.errors import InvalidInput, ToolchainError
from python_mcp_server.runner.child import Command, Session
from python_mcp_server.runner.inline import launcher_arguments
from python_mcp_server.runner.python.environ import child_environment, scripts_folder
from python_mcp_server.runner.python.environments import Environment, HeaderPackages, environment_for
from python_mcp_server.runner.python.interpreter import (
    check_request,
    find_python,
    is_own,
    own_version,
    version_in,
)
from python_mcp_server.runner.python.pep723 import Header
from python_mcp_server.runner.python.project import Project, find_project, serves, sync_project
from python_mcp_server.runner.python.requirements import FilePackages
from python_mcp_server.runner.python.uv import Uv, find_uv

Strategy = Literal["uv-run", "system-python"]
UV: Final[Strategy] = "uv-run"
SYSTEM: Final[Strategy] = "system-python"
BY_STDIN: Final = ("-",)
"""How a script starts that the interpreter reads from its stdin."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The interpreter that runs a script.

    Attributes:
        python: Its path.
        strategy: Whether uv gave it its packages.
        detail: The interpreter, in words.
        venv: Its virtual environment, where its programs come first.
        resolved: The packages that were installed for it.
        version: Its version, where that is known without starting it.
        install_s: How long it took to prepare; None where nothing had to be.
        fresh: Whether packages were installed for this call; None where it has no packages of ours.
    """

    python: str
    strategy: Strategy
    detail: str
    venv: Path | None = None
    resolved: tuple[str, ...] = ()
    version: str = ""
    install_s: float | None = None
    fresh: bool | None = None

    @property
    def words(self) -> str:
        """Return the interpreter in words, and whether this call or an earlier one set it up."""
        if self.fresh is None:
            return self.detail
        return f"{self.detail} ({'set up for this call' if self.fresh else 'set up before'})"


@dataclass(frozen=True, slots=True)
class Script:
    """A file to run.

    Attributes:
        path: Where it is.
        home: The directory in `sys.path[0]` for inline code; None for a script in its own place.
        start: The arguments of the interpreter that start it, such as `-m NAME`; None for its path.
    """

    path: Path
    home: Path | None = None
    start: tuple[str, ...] | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of the interpreter before those of the script."""
        if self.start is not None:
            return self.start
        return (str(self.path),) if self.home is None else launcher_arguments(self.path, self.home)


def interpreter_in_directory(
    uv: Uv, directory: Path, header: Header | None, *, use_uv: bool, python_version: str | None
) -> Interpreter:
    """Return the interpreter for a script of a directory: by the script's header first, then by the
    directory's project.

    Where neither asks for anything, this interpreter itself is used, because uv would only cost time.
    """
    if python_version is not None:
        check_request(python_version)
    if not use_uv:
        return _system(uv, directory, python_version)
    if header is not None:
        return interpreter_with(uv, header, python_version)
    project = find_project(directory)
    if project is not None and (found := _of_project(uv, project, python_version)) is not None:
        return found
    if python_version is None or is_own(python_version):
        return _own("nothing here asks for another")
    return _timed(
        lambda: Interpreter(find_python(uv, python_version), UV, f"Python {python_version}, found by uv")
    )


def interpreter_with(uv: Uv, header: Header, python_version: str | None) -> Interpreter:
    """Return the interpreter for a script with the packages of its header and no others."""
    python_request = python_version or header.requires_python
    if python_request is not None:
        check_request(python_request)

    made = environment_for(uv, HeaderPackages(header), python_request)
    packages = _counted(len(header.dependencies))
    return _of_environment(made, f"with {packages}, in an environment of its own")


def _counted(packages: int) -> str:
    if packages == 0:
        return "no packages"
    return f"{packages} package{'' if packages == 1 else 's'}"


def command_for(
    interpreter: Interpreter, script: Script, args: Sequence[str] | None, cwd: Path, session: Session
) -> Command:
    """Return the command that runs a script."""
    own = interpreter.python == sys.executable
    env = child_environment(
        session.given, session.job_id, own=own, venv=interpreter.venv, limits=session.limits
    )
    stdin = script.path if script.start == BY_STDIN else None
    return Command((interpreter.python, *script.arguments, *(args or ())), cwd, env, stdin)


def check_arguments(args: Sequence[str] | None) -> None:
    """Refuse arguments that a command line cannot carry.

    Raises:
        InvalidInput: The text names the first wrong argument.
    """
    for arg in args or ():
        if not isinstance(arg, str) or "\0" in arg:  # type: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"args has {arg!r}; each must be text without NUL")


def _own(why: str) -> Interpreter:
    return Interpreter(
        sys.executable, SYSTEM, f"the server's own Python {own_version()} ({why})", version=own_version()
    )


def _of_venv(venv: Path) -> Interpreter:
    python = scripts_folder(venv) / ("python.exe" if sys.platform == "win32" else "python")
    return Interpreter(str(python), UV, f"the environment {venv}", venv, version=version_in(venv))


def _of_environment(made: Environment, packages: str) -> Interpreter:
    return Interpreter(
        made.python,
        UV,
        f"Python {made.python_version} {packages}",
        made.venv,
        made.resolved,
        made.python_version,
        made.install_s,
        fresh=made.install_s is not None,
    )


def _of_project(uv: Uv, project: Project, python_version: str | None) -> Interpreter | None:
    """Return the interpreter of a project for its scripts; None if the project has none for this version."""
    if project.managed:
        return _timed(lambda: _of_managed(uv, project, python_version))
    if project.venv and (python_version is None or serves(project.venv, python_version)):
        return _of_venv(project.venv)
    if project.requirements:
        made = environment_for(uv, FilePackages.read(project.requirements), python_version)
        return _of_environment(made, f"with the packages of {project.requirements}")
    return None


def _of_managed(uv: Uv, project: Project, python_version: str | None) -> Interpreter:
    synced = sync_project(uv, project, python_version)
    version = version_in(synced.venv)
    return Interpreter(
        synced.python, UV, f"the project {project.root}", synced.venv, version=version, fresh=synced.changed
    )


def _system(uv: Uv, directory: Path, python_version: str | None) -> Interpreter:
    """Return an interpreter as it is, without chosen packages."""
    request, why = python_version, "use_uv is false"
    try:
        if request is None and (project := find_project(directory)) is not None:
            request = project.requires_python
    except InvalidInput:
        why += ", and what a pyproject.toml asks for cannot be read"
    if request is None or is_own(request):
        return _own(why if request is None else f"it is {request}")
    return _timed(
        lambda: Interpreter(_installed_python(uv, request), SYSTEM, f"an installed Python {request}")
    )


def _installed_python(uv: Uv, request: str) -> str:
    try:
        find_uv()
    except ToolchainError:
        found = shutil.which(f"python{request}")
        if found is None:
            raise InvalidInput(
                f"python_version {request!r} is not installed; here is {own_version()}"
            ) from None
        return found
    return find_python(uv, request, download=False)


def _timed(prepare: Callable[[], Interpreter]) -> Interpreter:
    started = time.monotonic()
    interpreter = prepare()
    return replace(interpreter, install_s=time.monotonic() - started)
