"""The bodies of `py_run_script_in_dir` and `py_run_script_with_dependencies`. Their docstrings are
what a model reads when it chooses a tool."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from python_mcp_server.limits import Limits
from python_mcp_server.runner.command import Interpreter, interpreter_in_directory, interpreter_with
from python_mcp_server.runner.environ import given_variables
from python_mcp_server.runner.metadata import Header, merge, parse_header
from python_mcp_server.runner.pythons import own_version
from python_mcp_server.runner.uv import Uv
from python_mcp_server.tools import parameters as p
from python_mcp_server.tools.hints import BY_PARAMETER, BY_TOOL, IN_PROJECT, IN_SCRIPT
from python_mcp_server.tools.results import DependencyResult, ScriptResult
from python_mcp_server.tools.running import Finished, ScriptCall, Start, place, script_call
from python_mcp_server.tools.sources import existing_directory, existing_script, one_of, source_of


def run_script_in_dir(  # noqa: PLR0917 - the parameters of a tool
    directory: p.Directory,
    script_path: p.ScriptPath = None,
    script_content: p.ScriptContent = None,
    args: p.Args = None,
    use_uv: p.UseUv = True,
    python_version: p.PythonVersion = None,
    timeout_seconds: p.TimeoutSeconds = 300,
    env_vars: p.EnvVars = None,
    env_file: p.EnvFile = None,
    memory_limit_mb: p.MemoryLimit = None,
    cpu_time_limit_seconds: p.CpuTimeLimit = None,
    nice: p.Nice = None,
    cpus: p.Cpus = None,
    output_chars: p.OutputChars = None,
) -> ScriptResult:
    """Run a Python script in a directory and return its output and exit code.

    Use this for code that belongs to a directory: a script of a project, or a few lines that read or
    write its files or import its modules. The directory's own environment is used (`pyproject.toml`
    project, `.venv`, `requirements.txt`); a PEP 723 header brings packages here too. For stand-alone code
    that needs packages use py_run_script_with_dependencies. A script that exits with an error is a normal
    result: read `exit_code` and `stderr`. stdin is empty. Figures shown with matplotlib (no screen is
    needed) and images saved in the directory come back as images; `pictures` has their paths.
    """
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb, cpu_time_limit_seconds=cpu_time_limit_seconds, nice=nice, cpus=cpus
    )
    folder = existing_directory(directory)
    one_of(script_path, script_content)
    script = None if script_path is None else existing_script(script_path, folder)
    header = parse_header(source_of(script, script_content)) if use_uv else None
    given = given_variables(env_vars, env_file, folder)

    def choose(uv: Uv) -> Interpreter:
        return interpreter_in_directory(uv, folder, header, use_uv=use_uv, python_version=python_version)

    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True) as call:
        return call.run(
            place(call, script, script_content, folder),
            folder,
            args,
            choose,
            packages=lambda used: _way_to_packages(used, header, use_uv=use_uv),
        ).result


def run_script_with_dependencies(  # noqa: PLR0917 - as above
    script_content: p.LoneContent = None,
    script_path: p.LonePath = None,
    python_version: p.PythonVersion = None,
    dependencies: p.Dependencies = None,
    args: p.Args = None,
    timeout_seconds: p.TimeoutSeconds = 300,
    env_vars: p.EnvVars = None,
    env_file: p.LoneEnvFile = None,
    memory_limit_mb: p.MemoryLimit = None,
    cpu_time_limit_seconds: p.CpuTimeLimit = None,
    nice: p.Nice = None,
    cpus: p.Cpus = None,
    output_chars: p.OutputChars = None,
) -> DependencyResult:
    """Run a Python script with packages from the package index, in an environment of its own.

    Use this for stand-alone code that needs packages: they are installed once, and the next run with the
    same packages starts at once. For code that belongs to a directory or project use
    py_run_script_in_dir. A script that exits with an error is a normal result: read `exit_code` and
    `stderr`. stdin is empty. Figures shown with matplotlib (no screen is needed) and saved images come back
    as images; `pictures` has their paths.
    """
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb, cpu_time_limit_seconds=cpu_time_limit_seconds, nice=nice, cpus=cpus
    )
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
    """Run a script in an environment of its own; return the result and what it was made of."""
    one_of(script_path, script_content)
    script = None if script_path is None else existing_script(script_path, Path.cwd())
    header = parse_header(source_of(script, script_content)) or Header()
    header = replace(header, dependencies=merge(header.dependencies, dependencies or ()))
    given = given_variables(env_vars, env_file, Path.cwd() if script is None else script.parent)
    with script_call(timeout_seconds, given, limits, output_chars, with_pictures=True) as call:
        cwd = _working_directory(call) if script is None else script.parent
        finished = call.run(
            place(call, script, script_content, cwd),
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


def _way_to_packages(used: Interpreter, header: Header | None, *, use_uv: bool) -> str:
    if not use_uv:
        return BY_TOOL
    return IN_SCRIPT if header is not None or used.venv is None else IN_PROJECT


def _working_directory(call: ScriptCall) -> Path:
    path = call.session.folder / "work"
    path.mkdir(mode=0o700, exist_ok=True)
    return path
