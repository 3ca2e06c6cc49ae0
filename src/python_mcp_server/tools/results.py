"""The shapes of what the script tools return; the server derives their output schemas from them.

Before Python 3.12 a schema can only be derived from the `TypedDict` of typing_extensions. The
annotations are evaluated: as strings they would hide which keys are optional.
"""

import sys
from typing import Any, Literal, NotRequired

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict


class CommandResult(TypedDict):
    """How a child process ended.

    Attributes:
        stdout: What it wrote; long output is shown as head and tail, with a line between them that
            counts what is left out and says how to read it.
        stderr: The same; ends with `[TIMEOUT]` where the time limit ended it.
        exit_code: 0 for success; negative for the number of the signal that ended it.
        elapsed_seconds: From its start to its end, without preparing its environment.
        timed_out: True where the time limit ended it.
        ended_by_signal: The name of the signal that ended it, such as "SIGSEGV".
        job_id: Whose output `py_job_output` reads, where something is left out here.
    """

    stdout: str
    stderr: str
    exit_code: int
    elapsed_seconds: float
    timed_out: NotRequired[bool]
    ended_by_signal: NotRequired[str]
    job_id: NotRequired[str]


class ScriptResult(CommandResult):
    """How a script ended.

    Attributes:
        execution_strategy: "uv-run" where uv (or the directory's environment) gave it its packages,
            "system-python" where an installed interpreter ran it as it is.
        strategy_detail: Which interpreter that was.
        install_seconds: How long preparing its environment took, where there was anything to do.
        working_directory: Where its files lie, where it left any in a directory made for this call.
    """

    execution_strategy: Literal["uv-run", "system-python"]
    strategy_detail: NotRequired[str]
    install_seconds: NotRequired[float]
    working_directory: NotRequired[str]


class DependencyResult(ScriptResult):
    """How a script with packages of its own ended.

    Attributes:
        resolved_dependencies: What was installed for it, as `name==version`.
        python_version_used: The version of the interpreter that ran it.
    """

    resolved_dependencies: list[str]
    python_version_used: str


class BenchmarkResult(DependencyResult):
    """How a script ended, and what it used.

    Attributes:
        wall_time_seconds: From its start to its end.
        cpu_time_seconds: User and system time of the script and of everything it started and
            waited for, from the kernel's accounting.
        peak_rss_mb: The largest memory of all its processes together, in MB of 10^6 bytes.
        peak_rss_source: "sampled", or "kernel" where the kernel's peak of one process is larger.
    """

    wall_time_seconds: float
    cpu_time_seconds: float
    peak_rss_mb: float
    peak_rss_source: Literal["sampled", "kernel"]


class SaveResult(TypedDict):
    """What became of a script that was to be saved.

    Attributes:
        written: Whether it was written.
        path: Its file.
        message: A sentence on what was done, or why not.
    """

    written: bool
    path: str
    message: str


class SavedScript(TypedDict):
    """One saved script.

    Attributes:
        name: What `py_run_saved_script` takes.
        path: Its file.
        docstring: The first paragraph of its docstring; empty where it has none.
        header: Its PEP 723 header, `{"requires-python", "dependencies"}`; null where it has none.
        problem: What is wrong with it, where it cannot be read or understood.
    """

    name: str
    path: str
    docstring: str
    header: dict[str, Any] | None
    problem: NotRequired[str]


class ScriptList(TypedDict):
    """The saved scripts, by name."""

    scripts: list[SavedScript]
