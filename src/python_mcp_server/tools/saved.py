"""Where saved scripts lie, and how they are written: at once or not at all, with a history of versions.

scripts/report.py                 what runs; it may be edited by hand
scripts/.versions/report/3.py     what was saved, by number; the newest is what runs, unless it was edited

No lock is needed: a version takes its number by being the first to have it, and what a save replaces is
a version already. So nothing that was saved is lost to another who saves in the same instant.


The bodies of `py_save_script`, `py_run_saved_script` and `py_list_scripts`."""

from __future__ import annotations

import ast
import inspect
import os
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import Limits
from python_mcp_server.runner.command import Interpreter, Script, interpreter_in_directory
from python_mcp_server.runner.inline import as_utf8
from python_mcp_server.runner.python.environ import given_variables
from python_mcp_server.runner.python.pep723 import parse_header, with_header
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.runner.session import make_private
from python_mcp_server.settings import Settings
from python_mcp_server.tools import parameters
from python_mcp_server.tools.call import script_call, stored
from python_mcp_server.tools.hints import BY_SAVING
from python_mcp_server.tools.results import SavedScript, SaveResult, ScriptList, ScriptResult
from python_mcp_server.tools.scripts import arguments_of, description_of, existing_directory, source_of

_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])\Z", re.IGNORECASE)
_NAME_BYTES: Final = 200
_HISTORY: Final = ".versions"
_KEPT: Final = 20
"""Versions of one script; guessed: more than anybody goes back."""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of saved scripts.

    Attributes:
        folder: Where they lie.
        directory: Where they run.
        private: Whether only this user may read them; a project's scripts are as its other files.
    """

    folder: Path
    directory: Path
    private: bool

    def file(self, script_name: str) -> Path:
        """Return the file of a name that cannot leave the folder.

        Raises:
            InvalidInput: The name is no plain file name.
        """
        stem = script_name.removesuffix(".py")
        wrong = (
            not stem.strip()
            or stem.startswith((".", "-", " "))
            or stem.endswith((".", " "))
            or ".." in script_name
            or _FORBIDDEN.search(stem)
            or _RESERVED.match(stem.partition(".")[0])
            or len(stem.encode("utf-8", errors="replace")) > _NAME_BYTES
        )
        if wrong:
            raise InvalidInput(
                f"script_name {script_name!r} is no plain file name; "
                "write one such as 'report', no directories"
            )
        return self.folder / f"{stem}.py"

    def files(self) -> list[Path]:
        """Return the scripts, by name."""
        found = self.folder.glob("*.py")
        return sorted(path for path in found if not path.name.startswith(".") and path.is_file())

    def save(self, path: Path, text: str, *, overwrite: bool) -> int | None:
        """Write a script and return the number of its version; None where there is one that must stay.

        Raises:
            InvalidInput: The text is no Unicode.
            StoreError: It cannot be written; nothing has changed then.
        """
        data = _encoded(text)
        with stored(self.folder):
            (make_private if self.private else _make)(self.folder)
            if self._write(path, data):
                return self._keep(path, data)
            if not overwrite:
                return None
            self._keep(path, path.read_bytes())  # it was edited by hand, or saved before there was a history
            number = self._keep(path, data)
            self._write(path, data, replace=True)
            for old in versions(path)[:-_KEPT]:
                if old != number:
                    version_file(path, old).unlink(missing_ok=True)
            return number

    def _keep(self, path: Path, data: bytes) -> int:
        """Return the number of the version with this text; a new one unless there is one."""
        present = present_version(path, data)
        if present is not None:
            return present
        known = versions(path)
        history = path.parent / _HISTORY
        if not history.exists() and not self.private:
            _make(history)
            self._write(history / ".gitignore", b"*\n")
        (make_private if self.private else _make)(history / path.stem)
        return next(
            number
            for number in count(known[-1] + 1 if known else 1)
            if self._write(version_file(path, number), data)
        )

    def _write(self, path: Path, data: bytes, *, replace: bool = False) -> bool:
        """Write a file at once or not at all; return False where there is one that must stay."""
        partial = path.with_name(f".{os.getpid()}-{os.urandom(8).hex()}.partial")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(partial, flags, 0o600 if self.private else 0o666)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            if replace:
                partial.replace(path)
            else:
                _place(partial, path, data)
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        return True


def place_of(directory: str | None) -> Place:
    """Return where scripts are saved: of a project in its `scripts`, else where the setting says.

    Raises:
        InvalidInput: There is no such directory.
    """
    if directory is not None:
        project = existing_directory(directory)
        return Place(project / "scripts", project, private=False)
    folder = Settings.from_environ().scripts
    return Place(folder, folder, private=True)


def versions(path: Path) -> list[int]:
    """Return the numbers of a script's versions, oldest first."""
    names = (path.parent / _HISTORY / path.stem).glob("*.py")
    return sorted(int(name.stem) for name in names if name.stem.isdecimal())


def version_file(path: Path, number: int) -> Path:
    """Return the file of a version."""
    return path.parent / _HISTORY / path.stem / f"{number}.py"


def present_version(path: Path, data: bytes) -> int | None:
    """Return the number of the version that a script is; None where it was edited by hand."""
    for number in reversed(versions(path)):
        try:
            if version_file(path, number).read_bytes() == data:
                return number
        except FileNotFoundError:
            continue  # it was too old, and another has just saved
    return None


def _place(partial: Path, path: Path, data: bytes) -> None:
    """Give a file its name, unless there is one of that name, even one that came this instant."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # this file system has no links
        with path.open("xb") as file:
            file.write(data)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"source holds {text[error.start]!r}, half of a character, at position {error.start}; "
            "send whole Unicode"
        ) from None


def save_script(  # noqa: PLR0917 - the parameters of a tool
    script_name: Annotated[str, 'Plain file name such as "report"; no directories.'],
    source: Annotated[str, "The code; py_list_scripts shows its docstring and argparse arguments."],
    dependencies: Annotated[
        list[str] | None, 'Packages it needs, such as "pandas>=2"; written into its header.'
    ] = None,
    requires_python: Annotated[str | None, 'Such as ">=3.11".'] = None,
    overwrite: Annotated[
        bool, "Replace a script of this name; else it stays, and `written` is false."
    ] = False,
    directory: Annotated[
        str | None,
        "A project, to save into its `scripts`. Default: the user's scripts, there in every directory.",
    ] = None,
) -> SaveResult:
    """Save a Python script under a name, to run it again with py_run_saved_script, also in later sessions.

    Use this for code that will be needed more than once. The packages it needs are written into the
    script itself, as a PEP 723 header. It runs in the directory of the saved scripts, so name other
    files by absolute paths. What it replaces is kept as an earlier version.
    """
    place = place_of(directory)
    path = place.file(script_name)
    text = with_header(as_utf8(source), dependencies, requires_python)
    if path.is_dir():
        raise InvalidInput(f"script_name is {script_name!r}, but {path} is a directory; choose another name")
    version = place.save(path, text, overwrite=overwrite)
    if version is None:
        message = (
            f"a script named {path.stem!r} exists already; choose another name, or set overwrite to true"
        )
        return SaveResult(written=False, path=str(path), message=message)
    message = f"saved as {path.stem!r}{_warning(text)}"
    return SaveResult(written=True, path=str(path), message=message, version=version)


def run_saved_script(  # noqa: PLR0917 - the parameters of a tool
    script_name: Annotated[str, "The name it was saved under."],
    args: parameters.Args = None,
    timeout_seconds: parameters.TimeoutSeconds = 300,
    env_vars: parameters.EnvVars = None,
    env_file: Annotated[
        str | None,
        "File of NAME=value lines, absolute or relative to where it runs. Default: the `.env` there.",
    ] = None,
    memory_limit_mb: parameters.MemoryLimit = None,
    cpu_time_limit_seconds: parameters.CpuTimeLimit = None,
    nice: parameters.Nice = None,
    cpus: parameters.Cpus = None,
    output_chars: parameters.OutputChars = None,
    version: Annotated[int | None, "An earlier version, by its number. Default: the present one."] = None,
    directory: Annotated[
        str | None, "The project in whose `scripts` it was saved; it then runs in this directory."
    ] = None,
) -> ScriptResult:
    """Run a script that was saved with py_save_script, with the packages of its header.

    py_list_scripts shows which there are, and which arguments they take. It runs in the directory of the
    saved scripts, so they can import each other. A script that exits with an error is a normal result:
    read `exit_code` and `stderr`. Figures and saved images come back as images.
    """
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb, cpu_time_limit_seconds=cpu_time_limit_seconds, nice=nice, cpus=cpus
    )
    place = place_of(directory)
    script = _script(place, script_name, version)
    header = parse_header(source_of(script.path, None))
    given = given_variables(env_vars, env_file, place.directory, fallback=place.directory / ".env")

    def choose(uv: Uv) -> Interpreter:
        return interpreter_in_directory(uv, place.directory, header, use_uv=True, python_version=None)

    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True) as call:
        return call.run(script, place.directory, args, choose, packages=lambda _used: BY_SAVING).result


def list_scripts(
    directory: Annotated[str | None, "A project, to list its own `scripts`. Default: the user's."] = None,
) -> ScriptList:
    """List the saved scripts: name, path, what the docstring says, the arguments and packages of each.

    Use this before py_run_saved_script, or to see whether code was saved before.
    """
    return ScriptList(scripts=[_describe(path) for path in place_of(directory).files()])


def _script(place: Place, script_name: str, version: int | None) -> Script:
    """Return a saved script, or a version of it, which runs as if it were the script."""
    path = place.file(script_name)
    if version is None:
        if not path.is_file():
            raise InvalidInput(f"no script named {script_name!r} is saved; {_known(place)}")
        return Script(path)
    known = versions(path)
    if version not in known:
        there = f"there are {', '.join(map(str, known))}" if known else "it has none"
        raise InvalidInput(f"script {script_name!r} has no version {version}; {there}")
    return Script(version_file(path, version), place.folder)


def _warning(source: str) -> str:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        return f"; it will not run as it is: {error}"
    return ""


def _known(place: Place) -> str:
    names = [path.stem for path in place.files()]
    return f"there are {', '.join(names[:20])}" if names else "none is saved yet"


def _describe(path: Path) -> SavedScript:
    name, shown = (str(text).encode(errors="replace").decode() for text in (path.stem, path))
    described = SavedScript(name=name, path=shown, docstring="", header=None)
    problems = [] if shown == str(path) else ["the name of its file is not UTF-8; rename it"]
    try:
        data = path.read_bytes()
    except OSError as error:
        described["problem"] = f"it cannot be read: {error.strerror}"
        return described
    source = data.decode("utf-8-sig", errors="replace")
    for add in (_add_text, _add_header):
        try:
            add(described, source)
        except (SyntaxError, ValueError, RecursionError) as error:
            problems.append(str(error))
    if known := versions(path):
        described["versions"] = known
        if (version := present_version(path, data)) is not None:
            described["version"] = version
    if problems:
        described["problem"] = "; ".join(problems)
    return described


def _add_text(described: SavedScript, source: str) -> None:
    tree = ast.parse(source)
    paragraph = inspect.cleandoc(ast.get_docstring(tree) or "").partition("\n\n")[0]
    described["docstring"] = " ".join(paragraph.split()) or description_of(tree)
    if arguments := arguments_of(tree):
        described["arguments"] = arguments


def _add_header(described: SavedScript, source: str) -> None:
    header = parse_header(source)
    described["header"] = header.to_json() if header else None
