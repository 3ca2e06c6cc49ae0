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


class SuiteFailure(TypedDict):
    """A test, or a file of tests, that failed.

    Attributes:
        id: The test, as pytest names it, with the path from the suite's root.
        outcome: "failed", or "error" where its set-up, its tear-down or its collection failed.
        when: Where: "setup", "call", "teardown" or "collect".
        message: What was raised.
        traceback: With the reason; long ones are cut in the middle.
        location: The file and line that raised, where that is known.
        output: What the test printed and logged, by stream; long text is cut in the middle.
    """

    id: str
    outcome: Literal["failed", "error"]
    when: str
    message: str
    traceback: str
    location: NotRequired[str]
    output: NotRequired[dict[str, str]]


class TimedTest(TypedDict):
    """How long a test took, with its set-up and tear-down."""

    id: str
    seconds: float


class SuiteResult(ScriptResult):
    """How a run of pytest ended. The counts are those of its own last line.

    Attributes:
        outcome: "passed", "failed", "interrupted" (also by errors while tests were collected),
            "internal_error" (of pytest or a plugin), "crashed" (a test ended the process) or
            "timed_out".
        summary: The same in a sentence, with the counts.
        collected: How many tests were to run.
        passed, failed, errors, skipped, xfailed, xpassed, warnings: pytest's own counts.
        deselected: How many were left out by `keyword`, `markers` or `only_failed`.
        collection_errors: How many of the errors came while tests were collected.
        other_counts: Categories that plugins count, such as "rerun".
        failures: The first that failed, in the order in which they did.
        failures_left_out: How many more there are; `py_job_output(job_id, stream="failures")` shows
            all of them.
        slowest: The tests that took longest, the slowest first.
        workers: The processes of pytest-xdist that took part; 0 where it ran in one process.
        unfinished: Tests that were under way when the run was ended or crashed.
        stopped_because: Why the run ended before all tests had run, in pytest's own words.
        pytest_version: Which pytest it was.
        rootdir: What the paths in ids start from, where that is not the directory of the call.
    """

    outcome: Literal["passed", "failed", "interrupted", "internal_error", "crashed", "timed_out"]
    summary: str
    collected: int
    passed: int
    failed: int
    errors: int
    skipped: int
    xfailed: int
    xpassed: int
    deselected: int
    warnings: int
    collection_errors: int
    other_counts: NotRequired[dict[str, int]]
    failures: list[SuiteFailure]
    failures_left_out: NotRequired[int]
    slowest: list[TimedTest]
    workers: int
    unfinished: NotRequired[list[str]]
    stopped_because: NotRequired[str]
    pytest_version: NotRequired[str]
    rootdir: NotRequired[str]
