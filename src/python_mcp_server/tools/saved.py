"""The bodies of `py_save_script`, `py_run_saved_script` and `py_list_scripts`."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Annotated

from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import Limits
from python_mcp_server.runner.command import Interpreter, Script, interpreter_in_directory
from python_mcp_server.runner.environ import given_variables
from python_mcp_server.runner.inline import as_utf8
from python_mcp_server.runner.metadata import parse_header, with_header
from python_mcp_server.runner.uv import Uv
from python_mcp_server.tools import parameters as p
from python_mcp_server.tools.hints import BY_SAVING
from python_mcp_server.tools.results import SavedScript, SaveResult, ScriptList, ScriptResult
from python_mcp_server.tools.running import script_call
from python_mcp_server.tools.saved_files import Place, place_of, present_version, version_file, versions
from python_mcp_server.tools.script_arguments import arguments_of, description_of
from python_mcp_server.tools.sources import source_of


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
    args: p.Args = None,
    timeout_seconds: p.TimeoutSeconds = 300,
    env_vars: p.EnvVars = None,
    env_file: Annotated[
        str | None,
        "File of NAME=value lines, absolute or relative to where it runs. Default: the `.env` there.",
    ] = None,
    memory_limit_mb: p.MemoryLimit = None,
    cpu_time_limit_seconds: p.CpuTimeLimit = None,
    nice: p.Nice = None,
    cpus: p.Cpus = None,
    output_chars: p.OutputChars = None,
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
