"""The library of saved scripts, and the bodies of `py_save_script`, `py_run_saved_script`, `py_list_scripts`.

scripts/report.py                 the script that runs; a user may edit it
scripts/.versions/report/3.py     what was saved, by number; the newest is the script, unless it was edited

Scripts are written without a lock: a version takes the first free number, and a script that is replaced is a
version already. So two saves at the same time lose nothing.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Annotated, Final, cast

from python_mcp_server.atomic import remove_tree, write_file
from python_mcp_server.errors import InvalidInput
from python_mcp_server.regular import read_regular
from python_mcp_server.runner.command import Interpreter, Script, interpreter_in_directory
from python_mcp_server.runner.inline import as_utf8
from python_mcp_server.runner.python.environ import given_variables
from python_mcp_server.runner.python.pep723 import parse_header, with_header
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.runner.textfile import MOST_SCRIPT_BYTES, read_bytes
from python_mcp_server.settings import Settings
from python_mcp_server.tools import parameters
from python_mcp_server.tools.call import script_call, stored
from python_mcp_server.tools.hints import BY_SAVING
from python_mcp_server.tools.results import SavedScript, SaveResult, ScriptArgument, ScriptList, ScriptResult
from python_mcp_server.tools.scripts import existing_directory, header_of

_SHOWN_KEYWORDS: Final = ("help", "type", "default", "choices", "nargs", "required", "action", "metavar")
_MOST_ARGUMENTS: Final = 50
_TEXT_CHARS: Final = 300
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])\Z", re.IGNORECASE)
_NAME_BYTES: Final = 200
_HISTORY: Final = ".versions"
_LEAVING: Final = "..leaving"
"""The end of the name of a history that is being removed, which no script can have."""
_MOST_DESCRIBED_BYTES: Final = 1 << 18
"""Of a script that is parsed; guessed: a larger one is data, and takes seconds and much memory."""
_KEPT: Final = 20
"""The number of versions that are kept of one script; guessed: more than a user goes back."""


@dataclass(frozen=True, slots=True)
class Library:
    """A directory of saved scripts.

    Attributes:
        folder: The directory that holds the scripts.
        directory: The directory that the scripts run in.
        private: Whether only this user may read the scripts; those of a project have its usual modes.
    """

    folder: Path
    directory: Path
    private: bool

    def file(self, script_name: str) -> Path:
        """Return the file of a script, which is always in the folder.

        Raises:
            InvalidInput: The name is not a plain file name.
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
        """Write a script and return its version; None where a script exists and `overwrite` is not set.

        Raises:
            InvalidInput: The text is not valid Unicode.
            StoreError: The script cannot be written; nothing has changed then.
        """
        data = _encoded(text)
        with stored(self.folder):
            if self._write(path, data):
                return self._keep(path, data)
            if not overwrite:
                return None
            edited = read_bytes(path, f"script {str(path)!r}", MOST_SCRIPT_BYTES)
            self._keep(path, edited)  # by hand, it may be no version yet
            number = self._keep(path, data)
            self._write(path, data, replace=True)
            for old in versions(path)[:-_KEPT]:
                if old != number:
                    version_file(path, old).unlink(missing_ok=True)
            return number

    def _keep(self, path: Path, data: bytes) -> int:
        """Return the number of the version with this text, which is made if it does not exist."""
        present = present_version(path, data)
        if present is not None:
            return present
        known = versions(path)
        history = path.parent / _HISTORY
        if not history.exists() and not self.private:
            self._write(history / ".gitignore", b"*\n")
        return next(
            number
            for number in count(known[-1] + 1 if known else 1)
            if self._write(version_file(path, number), data)
        )

    def _write(self, path: Path, data: bytes, *, replace: bool = False) -> bool:
        """Write a file atomically; return False where it exists and `replace` is not set."""
        if not self.private:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_file(str(path), data, private=self.private, replace=replace)
        except FileExistsError:
            return False
        return True


def library_of(directory: str | None) -> Library:
    """Return the library of a project, in its `scripts`, or else that of the user.

    Raises:
        InvalidInput: The directory does not exist.
    """
    if directory is not None:
        project = existing_directory(directory)
        return Library(project / "scripts", project, private=False)
    folder = Settings.from_environ().scripts
    return Library(folder, folder, private=True)


def versions(path: Path) -> list[int]:
    """Return the numbers of a script's versions, oldest first."""
    names = (path.parent / _HISTORY / path.stem).glob("*.py")
    return sorted(int(name.stem) for name in names if name.stem.isdecimal())


def version_file(path: Path, number: int) -> Path:
    """Return the file of a version."""
    return path.parent / _HISTORY / path.stem / f"{number}.py"


def histories_without_script(folder: Path) -> Iterator[Path]:
    """Yield the directories of versions whose script is not in the folder."""
    return (history for history in (folder / _HISTORY).glob("*/") if not _script_of(history).exists())


def remove_history(history: Path) -> None:
    """Remove the versions of a script, unless the script exists, because it was saved again."""
    leaving = history.with_name(f"{history.name}{_LEAVING}")
    if _script_of(history).exists():
        return
    remove_tree(str(leaving))  # of an earlier removal that was killed
    history.rename(leaving)  # first, because a save from now on begins a history of its own
    if not _script_of(history).exists():
        remove_tree(str(leaving))
        return
    history.mkdir(mode=0o700, exist_ok=True)
    for version in leaving.iterdir():
        target = history / version.name
        version.unlink() if target.exists() else version.rename(target)
    leaving.rmdir()


def _script_of(history: Path) -> Path:
    return history.parent.parent / f"{history.name}.py"


def present_version(path: Path, data: bytes) -> int | None:
    """Return the version with these bytes; None if the script was edited by hand."""
    for number in reversed(versions(path)):
        try:
            if read_regular(str(version_file(path, number)), MOST_SCRIPT_BYTES) == data:
                return number
        except OSError:
            continue  # another process has just removed this old version, or it is not ours
    return None


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
    _check_new_name(script_name)
    if not source.strip():
        raise InvalidInput("source is empty; give the code of the script")
    library = library_of(directory)
    path = library.file(script_name)
    text = with_header(as_utf8(source), dependencies, requires_python)
    if path.is_dir():
        raise InvalidInput(f"script_name is {script_name!r}, but {path} is a directory; choose another name")
    version = library.save(path, text, overwrite=overwrite)
    if version is None:
        message = (
            f"a script named {path.stem!r} exists already; choose another name, or set overwrite to true"
        )
        return SaveResult(written=False, path=str(path), message=message)
    message = f"saved as {path.stem!r}{_warning(text)}"
    return SaveResult(written=True, path=str(path), message=message, version=version)


def _check_new_name(script_name: str) -> None:
    """Refuse a name that looks like another, or that would stand before a module of Python itself.

    Raises:
        InvalidInput: The text says what would be right.
    """
    stem = script_name.removesuffix(".py")
    if not unicodedata.is_normalized("NFC", stem) or any(unicodedata.category(each) == "Cf" for each in stem):
        raise InvalidInput(
            f"script_name {script_name!a} has characters that are not seen, or not composed (NFC); "
            "write the name in plain letters"
        )
    if stem in sys.stdlib_module_names:
        raise InvalidInput(
            f"script_name {script_name!r} is a module of Python, which scripts beside it would then miss; "
            "choose another name"
        )


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
    disk_limit_mb: parameters.DiskLimit = None,
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
    limits = parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus, disk_limit_mb)
    library = library_of(directory)
    script = _script(library, script_name, version)
    fallback = library.directory / ".env"
    given = partial(given_variables, env_vars, env_file, library.directory, fallback)

    def choose(uv: Uv) -> Interpreter:
        header = header_of(script.path, None)
        return interpreter_in_directory(uv, library.directory, header, use_uv=True, python_version=None)

    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True) as call:
        return call.run(script, library.directory, args, choose, packages=lambda _used: BY_SAVING).result


def list_scripts(
    directory: Annotated[str | None, "A project, to list its own `scripts`. Default: the user's."] = None,
) -> ScriptList:
    """List the saved scripts: name, path, what the docstring says, the arguments and packages of each.

    Use this before py_run_saved_script, or to see whether code was saved before.
    """
    return ScriptList(scripts=[_describe(path) for path in library_of(directory).files()])


def _script(library: Library, script_name: str, version: int | None) -> Script:
    """Return a saved script, or a version of it, which runs in the place of the script."""
    path = library.file(script_name)
    if version is None:
        if not path.is_file():
            raise InvalidInput(f"no script named {script_name!r} is saved; {_known(library)}")
        return Script(path)
    known = versions(path)
    if version not in known:
        there = f"there are {', '.join(map(str, known))}" if known else "it has none"
        raise InvalidInput(f"script {script_name!r} has no version {version}; {there}")
    return Script(version_file(path, version), library.folder)


def _warning(source: str) -> str:
    if len(source) > _MOST_DESCRIBED_BYTES:
        return "; it is too long to be described by py_list_scripts"
    try:
        _parsed(source)
    except InvalidInput as error:
        return f"; it will not run as it is: {error}"
    return ""


def _parsed(source: str) -> ast.Module:
    """Return the tree of a script.

    Raises:
        InvalidInput: The parser refuses it; the text is the parser's.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # they would go to the job's stderr
            return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise InvalidInput(str(error)) from None
    except (RecursionError, MemoryError):  # the parser says so of what is nested too deep
        raise InvalidInput("it is nested too deep for Python's parser") from None


def _known(library: Library) -> str:
    names = [path.stem for path in library.files()]
    return f"there are {', '.join(names[:20])}" if names else "none is saved yet"


def _describe(path: Path) -> SavedScript:
    name, shown = (str(text).encode(errors="replace").decode() for text in (path.stem, path))
    described = SavedScript(name=name, path=shown, docstring="", header=None)
    problems = [] if shown == str(path) else ["the name of its file is not UTF-8; rename it"]
    try:
        data = read_regular(str(path), _MOST_DESCRIBED_BYTES)
    except OSError as error:
        described["problem"] = f"it cannot be read: {error.strerror}"
        return described
    source = data.decode("utf-8-sig", errors="replace")
    for add in (_add_text, _add_header):
        try:
            add(described, source)
        except InvalidInput as error:
            problems.append(str(error))
        except (RecursionError, ValueError):  # such as a number of over 4,300 digits
            problems.append("its arguments are nested too deep, or too long, to be shown")
    if known := versions(path):
        described["versions"] = known
        if (version := present_version(path, data)) is not None:
            described["version"] = version
    if problems:
        described["problem"] = "; ".join(problems)
    return described


def _add_text(described: SavedScript, source: str) -> None:
    tree = _parsed(source)
    paragraph = inspect.cleandoc(ast.get_docstring(tree) or "").partition("\n\n")[0]
    described["docstring"] = " ".join(paragraph.split()) or description_of(tree)
    if arguments := arguments_of(tree):
        described["arguments"] = arguments


def _add_header(described: SavedScript, source: str) -> None:
    header = parse_header(source)
    described["header"] = header.to_json() if header else None


def arguments_of(tree: ast.Module) -> list[ScriptArgument]:
    """Return the arguments that a script adds to its argparse parsers, without running the script.

    `add_argument` is found by its name, because a parser may have any name.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    commands = _commands(tree)
    found = (argument for call in calls if (argument := _argument(call, commands)) is not None)
    return list(islice(found, _MOST_ARGUMENTS))


def description_of(tree: ast.Module) -> str:
    """Return the description of a script's parser; empty without one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) == "ArgumentParser":
            for keyword in node.keywords:
                if keyword.arg == "description" and (text := _text(keyword.value)) is not None:
                    return " ".join(text.split())
    return ""


def _argument(call: ast.Call, commands: dict[str, str]) -> ScriptArgument | None:
    names = [text for arg in call.args if (text := _text(arg)) is not None]
    if _name(call.func) != "add_argument" or not names:
        return None
    told = {keyword.arg: _shown(keyword.value) for keyword in call.keywords if keyword.arg in _SHOWN_KEYWORDS}
    argument = cast("ScriptArgument", {"names": names, **told})
    parser = call.func.value if isinstance(call.func, ast.Attribute) else None
    if isinstance(parser, ast.Name) and parser.id in commands:
        argument["command"] = commands[parser.id]
    return argument


def _commands(tree: ast.Module) -> dict[str, str]:
    """Return the subcommands by the variables that hold their parsers."""
    return {
        target.id: name
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if _name(node.value.func) == "add_parser" and node.value.args
        if (name := _text(node.value.args[0])) is not None
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _shown(node: ast.expr) -> str:
    """Return the text of a string constant, and the source of anything else that is not long."""
    text = _text(node)
    if text is not None:
        return " ".join(text.split())[:_TEXT_CHARS]
    if next(islice(ast.walk(node), _TEXT_CHARS, None), None) is not None:
        return "..."  # its source would be cut, and may take seconds to make
    return ast.unparse(node)[:_TEXT_CHARS]
