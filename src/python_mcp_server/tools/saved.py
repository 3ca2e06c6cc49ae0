"""The bodies of `py_save_script`, `py_run_saved_script` and `py_list_scripts`."""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path
from typing import Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.command import Interpreter, Script, interpreter_in_directory
from python_mcp_server.runner.environ import given_variables
from python_mcp_server.runner.metadata import parse_header, with_header
from python_mcp_server.runner.session import make_private
from python_mcp_server.runner.uv import Uv
from python_mcp_server.settings import Settings
from python_mcp_server.tools.results import SavedScript, SaveResult, ScriptList, ScriptResult
from python_mcp_server.tools.running import script_call, source_of, stored

_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])\Z", re.IGNORECASE)
_NAME_BYTES: Final = 200


def save_script(
    script_name: str,
    source: str,
    dependencies: list[str] | None = None,
    requires_python: str | None = None,
    overwrite: bool = False,
) -> SaveResult:
    """Save a Python script under a name, to run it again with py_run_saved_script.

    Use this for code that will be needed more than once. The packages it needs are written into the
    script itself, as a PEP 723 header. py_list_scripts shows what is saved.

    Args:
        script_name: A plain file name such as "report" or "report.py"; no directories.
        source: The script's code. A docstring at its top is what py_list_scripts shows.
        dependencies: Packages that it needs, each such as "numpy" or "pandas>=2"; they are merged
            into its header.
        requires_python: A version specifier such as ">=3.11".
        overwrite: Whether a script of this name may be replaced; else it stays, and `written` is
            false.
    """
    path = _path(script_name)
    text = with_header(source, dependencies, requires_python)
    if path.is_dir():
        raise InvalidInput(f"script_name is {script_name!r}, but {path} is a directory; choose another name")
    with stored(path.parent):
        make_private(path.parent)
        written = _write(path, text, overwrite=overwrite)
    if not written:
        message = (
            f"a script named {path.stem!r} exists already; choose another name, or set overwrite to true"
        )
        return SaveResult(written=False, path=str(path), message=message)
    return SaveResult(written=True, path=str(path), message=f"saved as {path.stem!r}{_warning(text)}")


def run_saved_script(
    script_name: str,
    args: list[str] | None = None,
    timeout_seconds: float = 300,
    env_vars: dict[str, str] | None = None,
    env_file: str | None = None,
) -> ScriptResult:
    """Run a script that was saved with py_save_script, with the packages of its header.

    Use py_list_scripts to see which there are. It runs as py_run_script_in_dir would run it, in the
    directory of the saved scripts, so saved scripts can import each other.

    Args:
        script_name: The name it was saved under, with or without ".py".
        args: Command line arguments of the script.
        timeout_seconds: After this long the script and everything it started are killed; the output
            so far is kept, and stderr ends with `[TIMEOUT]`. Covers installing too. 0 means no
            limit.
        env_vars: Environment variables of the script, on top of all others. They are not stored.
        env_file: A file of variables (`NAME=value` lines), absolute or relative to the directory of
            the saved scripts. Unset: the `.env` beside the saved scripts, where there is one.
    """
    path = _path(script_name)
    if not path.is_file():
        raise InvalidInput(f"no script named {script_name!r} is saved; {_known(path.parent)}")
    header = parse_header(source_of(path, None))
    given = given_variables(env_vars, env_file, path.parent, fallback=path.parent / ".env")

    def choose(uv: Uv) -> Interpreter:
        return interpreter_in_directory(uv, path.parent, header, use_uv=True, python_version=None)

    with script_call(timeout_seconds, given) as call:
        return call.run(Script(path), path.parent, args, choose).result


def list_scripts() -> ScriptList:
    """List the saved scripts: name, path, what the docstring says, and the packages each needs.

    Use this before py_run_saved_script, or to see whether code was saved before.
    """
    folder = Settings.from_environ().scripts
    return ScriptList(scripts=[_describe(path) for path in _saved(folder)])


def _path(script_name: str) -> Path:
    """Return the file of a name that cannot leave the directory of saved scripts."""
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
            f"script_name {script_name!r} is no plain file name; write one such as 'report', no directories"
        )
    return Settings.from_environ().scripts / f"{stem}.py"


def _write(path: Path, text: str, *, overwrite: bool) -> bool:
    """Write a file at once or not at all; return False where there is one that must stay."""
    partial = path.with_name(f".{os.getpid()}-{os.urandom(8).hex()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        if overwrite:
            partial.replace(path)
        else:
            os.link(partial, path)  # fails where there is one, even one that came this instant
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _warning(source: str) -> str:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError) as error:
        return f"; it will not run as it is: {error}"
    return ""


def _saved(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith(".") and path.is_file())


def _known(folder: Path) -> str:
    names = [path.stem for path in _saved(folder)]
    return f"there are {', '.join(names[:20])}" if names else "none is saved yet"


def _describe(path: Path) -> SavedScript:
    name, shown = (str(text).encode(errors="replace").decode() for text in (path.stem, path))
    described = SavedScript(name=name, path=shown, docstring="", header=None)
    problems = [] if shown == str(path) else ["the name of its file is not UTF-8; rename it"]
    try:
        source = source_of(path, None)
    except OSError as error:
        described["problem"] = f"it cannot be read: {error.strerror}"
        return described
    try:
        described["docstring"] = _first_paragraph(source)
    except (SyntaxError, ValueError) as error:
        problems.append(str(error))
    try:
        header = parse_header(source)
        described["header"] = header.to_json() if header else None
    except InvalidInput as error:
        problems.append(str(error))
    if problems:
        described["problem"] = "; ".join(problems)
    return described


def _first_paragraph(source: str) -> str:
    text = ast.get_docstring(ast.parse(source)) or ""
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())
