"""The bodies of the two tools that run scripts, and of the command `run`.

The docstrings of the tools are the texts that a model reads when it chooses one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from python_mcp_server.atomic import write_file
from python_mcp_server.errors import InvalidInput, quoted
from python_mcp_server.limits import Limits
from python_mcp_server.runner.command import Interpreter, Script, interpreter_in_directory, interpreter_with
from python_mcp_server.runner.python.environ import given_variables
from python_mcp_server.runner.python.interpreter import own_version
from python_mcp_server.runner.python.pep723 import Header, merge, parse_header
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.runner.textfile import MOST_SCRIPT_BYTES, read_bytes
from python_mcp_server.tools import parameters
from python_mcp_server.tools.call import Finished, ScriptCall, Start, script_call, script_of
from python_mcp_server.tools.hints import BY_PARAMETER, BY_TOOL, IN_PROJECT, IN_SCRIPT
from python_mcp_server.tools.results import DependencyResult, ScriptResult


def one_of(script_path: str | None, script_content: str | None) -> tuple[str | None, str | None]:
    """Return the path and the content of a script, of which exactly one is given.

    An empty one beside the other counts as not given, because clients fill in all parameters.

    Raises:
        InvalidInput: Both are given or neither, or the only one is empty.
    """
    path, content = (text if text and text.strip() else None for text in (script_path, script_content))
    if path is not None and content is not None:
        given = f"both were given (script_path {quoted(path)})"
    elif path is not None or content is not None:
        return path, content
    elif script_path is None and script_content is None:
        given = "neither was given"
    else:
        empty = "script_path" if script_content is None else "script_content"
        raise InvalidInput(f"{empty} is empty; give code as script_content, or a file as script_path")
    raise InvalidInput(f"exactly one of script_path and script_content is needed; {given}")


def existing_script(script_path: str, base: Path) -> Path:
    """Return the file of a script; a relative path starts at `base`."""
    path = base / os.path.expanduser(script_path)
    if not os.path.isfile(path):  # unlike a Path, this returns False for a name that is too long
        raise InvalidInput(f"script_path {quoted(script_path)} is no file (looked at {quoted(str(path))})")
    return path


def existing_directory(directory: str) -> Path:
    """Return a directory as an absolute path.

    A relative one starts where the server was started. Desktop programs start servers in the root of the file
    system, where no caller means to be.
    """
    if not directory:
        raise InvalidInput("directory is ''; give the absolute path of one that exists")
    path = Path(os.path.expanduser(directory))
    if not path.is_absolute() and (start := Path.cwd()) == Path(start.anchor):
        raise InvalidInput(
            f"directory {quoted(directory)} is relative, and this server was started in {start}; "
            "give an absolute path"
        )
    path = path.absolute()
    if not os.path.isdir(path):
        looked = "" if str(path) == directory else f" (looked at {quoted(str(path))})"
        raise InvalidInput(
            f"directory {quoted(directory)} is no directory{looked}; "
            "give the absolute path of one that exists"
        )
    return path


def header_of(script: Path | None, content: str | None, dependencies: Sequence[str] = ()) -> Header | None:
    """Return the header of a script, with more packages; None where it has none and no packages are added."""
    if script is None:
        source = content or ""
    else:
        data = read_bytes(script, f"script {str(script)!r}", MOST_SCRIPT_BYTES)
        source = data.decode("utf-8", errors="replace")
    header = parse_header(source.removeprefix("\ufeff"))
    if not dependencies:
        return header
    header = header or Header()
    return replace(header, dependencies=merge(header.dependencies, dependencies))


def run_script_in_dir(  # noqa: PLR0917 - the parameters of a tool
    directory: parameters.Directory,
    script_path: parameters.ScriptPath = None,
    script_content: parameters.ScriptContent = None,
    args: parameters.Args = None,
    use_uv: parameters.UseUv = True,
    python_version: parameters.PythonVersion = None,
    timeout_seconds: parameters.TimeoutSeconds = 300,
    env_vars: parameters.EnvVars = None,
    env_file: parameters.EnvFile = None,
    memory_limit_mb: parameters.MemoryLimit = None,
    cpu_time_limit_seconds: parameters.CpuTimeLimit = None,
    disk_limit_mb: parameters.DiskLimit = None,
    nice: parameters.Nice = None,
    cpus: parameters.Cpus = None,
    output_chars: parameters.OutputChars = None,
) -> ScriptResult:
    """Run a Python script in a directory and return its output and exit code.

    Use this for code that belongs to a directory: a script of a project, or a few lines that read or
    write its files or import its modules. The directory's own environment is used (`pyproject.toml`
    project, `.venv`, `requirements.txt`); a PEP 723 header brings packages here too. For stand-alone code
    that needs packages use py_run_script_with_dependencies. A script that exits with an error is a normal
    result: read `exit_code` and `stderr`. stdin is empty. Figures shown with matplotlib (no screen is
    needed) and images saved in the directory come back as images; `pictures` has their paths.
    """
    limits = parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus, disk_limit_mb)
    folder = existing_directory(directory)
    script_path, script_content = one_of(script_path, script_content)
    script = None if script_path is None else existing_script(script_path, folder)
    given = partial(given_variables, env_vars, env_file, folder)
    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True) as call:
        header = header_of(script, script_content) if use_uv else None

        def choose(uv: Uv) -> Interpreter:
            return interpreter_in_directory(uv, folder, header, use_uv=use_uv, python_version=python_version)

        return call.run(
            script_of(call, script, script_content, folder),
            folder,
            args,
            choose,
            packages=lambda used: _way_to_packages(used, header, use_uv=use_uv),
        ).result


def run_script_with_dependencies(  # noqa: PLR0917 - as above
    script_content: parameters.LoneContent = None,
    script_path: parameters.LonePath = None,
    python_version: parameters.PythonVersion = None,
    dependencies: parameters.Dependencies = None,
    args: parameters.Args = None,
    timeout_seconds: parameters.TimeoutSeconds = 300,
    env_vars: parameters.EnvVars = None,
    env_file: parameters.LoneEnvFile = None,
    memory_limit_mb: parameters.MemoryLimit = None,
    cpu_time_limit_seconds: parameters.CpuTimeLimit = None,
    disk_limit_mb: parameters.DiskLimit = None,
    nice: parameters.Nice = None,
    cpus: parameters.Cpus = None,
    output_chars: parameters.OutputChars = None,
) -> DependencyResult:
    """Run a Python script with packages from the package index, in an environment of its own.

    Use this for stand-alone code that needs packages: they are installed once, and the next run with the
    same packages starts at once. For code that belongs to a directory or project use
    py_run_script_in_dir. A script that exits with an error is a normal result: read `exit_code` and
    `stderr`. stdin is empty. Figures shown with matplotlib (no screen is needed) and saved images come back
    as images; `pictures` has their paths.
    """
    limits = parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus, disk_limit_mb)
    return run_with_packages(
        script_content=script_content,
        script_path=script_path,
        python_version=python_version,
        dependencies=dependencies,
        args=args,
        timeout_seconds=timeout_seconds,
        env_vars=env_vars,
        env_file=env_file,
        limits=limits,
        output_chars=output_chars,
    )[0]


def run_with_packages(
    *,
    script_content: str | None,
    script_path: str | None,
    python_version: str | None,
    dependencies: list[str] | None,
    args: list[str] | None,
    timeout_seconds: float,
    env_vars: dict[str, str] | None,
    env_file: str | None,
    limits: Limits | None = None,
    output_chars: int | None = None,
    start: Start | None = None,
) -> tuple[DependencyResult, Finished]:
    """Run a script in an environment of its own; return the result, and how the call ended."""
    script_path, script_content = one_of(script_path, script_content)
    script = None if script_path is None else existing_script(script_path, Path.cwd())
    given = partial(given_variables, env_vars, env_file, Path.cwd() if script is None else script.parent)
    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True) as call:
        header = header_of(script, script_content, dependencies or ()) or Header()
        cwd = _working_directory(call) if script is None else script.parent
        finished = call.run(
            script_of(call, script, script_content, cwd),
            cwd,
            args,
            lambda uv: interpreter_with(uv, header, python_version),
            start,
            packages=lambda _used: BY_PARAMETER,
        )
        result = DependencyResult(
            **finished.result,
            resolved_dependencies=list(finished.interpreter.resolved),
            python_version_used=finished.interpreter.version or python_version or own_version(),
        )
        if script is None and call.job is not None and any(cwd.iterdir()):
            call.job.keep_record()
            result["working_directory"] = str(cwd)
        return result, finished


def run_python(
    directory: str,
    start: list[str],
    args: list[str],
    *,
    stdin: str | None = None,
    dependencies: list[str] | None = None,
    use_uv: bool = True,
    python_version: str | None = None,
    timeout_seconds: float = 0,
    env_vars: dict[str, str] | None = None,
    env_file: str | None = None,
    limits: dict[str, Any] | None = None,
    merged: bool = False,
) -> ScriptResult:
    """Run Python in a directory as a shell does, so that all it sees is as in `python START ARGS`.

    Args:
        directory: The working directory.
        start: How Python starts: a script's path, `-m NAME`, `-c CODE`, or `-` for the code in `stdin`.
        args: The arguments that follow.
        stdin: The code that Python reads from its stdin; characters that are no UTF-8 are surrogates.
        dependencies: Packages beside those of the script's PEP 723 header.
        use_uv: Whether the environment of the header or the directory is used.
        python_version: The version of Python; None for what the script or the directory asks for.
        timeout_seconds: The time limit, installing included; 0 for none.
        env_vars: Environment variables on top of the present ones. They are not stored.
        env_file: A file of such variables.
        limits: Other limits, by the names of the fields of `Limits`.
        merged: Whether its stderr is a part of its stdout, in the order in which both were written.

    Raises:
        InvalidInput: A value is not valid, or the script does not exist.
    """
    bounds = Limits.given(**(limits or {}))
    folder = existing_directory(directory)
    given = partial(given_variables, env_vars, env_file, folder)

    def choose(uv: Uv) -> Interpreter:
        return interpreter_in_directory(uv, folder, header, use_uv=use_uv, python_version=python_version)

    with script_call(timeout_seconds, given, bounds, with_pictures=True, merged=merged) as call:
        header = header_of(*header_source(start, stdin, folder), dependencies or ()) if use_uv else None
        path = call.session.folder / "stdin"
        if stdin is not None:
            write_file(str(path), stdin.encode("utf-8", errors="surrogateescape"))
        return call.run(Script(path, start=tuple(start)), folder, args, choose).result


def header_source(start: Sequence[str], stdin: str | None, folder: Path) -> tuple[Path | None, str | None]:
    """Return where a header may stand: a script's file, or else code; a module has none."""
    if start[0] in {"-m", "-c", "-"}:
        return None, {"-m": None, "-c": start[-1], "-": stdin}[start[0]]
    whole = os.path.isdir(folder / start[0])
    return existing_script(os.path.join(start[0], "__main__.py") if whole else start[0], folder), None


def _way_to_packages(used: Interpreter, header: Header | None, *, use_uv: bool) -> str:
    if not use_uv:
        return BY_TOOL
    return IN_SCRIPT if header is not None or used.venv is None else IN_PROJECT


def _working_directory(call: ScriptCall) -> Path:
    path = call.session.folder / "work"
    path.mkdir(mode=0o700, exist_ok=True)
    return path
