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
        hint: What would have let it pass, where that is known for sure.
    """

    stdout: str
    stderr: str
    exit_code: int
    elapsed_seconds: float
    timed_out: NotRequired[bool]
    ended_by_signal: NotRequired[str]
    job_id: NotRequired[str]
    hint: NotRequired[str]


class ShownPicture(TypedDict):
    """A picture that a script showed or saved.

    Attributes:
        path: The file.
        mime_type: Such as "image/png".
        size_bytes: Its size.
        attached: Whether it comes with this result as an image; the others can be read from their files.
        preview: The smaller copy that is attached in its place, of a large figure.
    """

    path: str
    mime_type: str
    size_bytes: int
    attached: bool
    preview: NotRequired[str]


class ScriptResult(CommandResult):
    """How a script ended.

    Attributes:
        execution_strategy: "uv-run" where uv (or the directory's environment) gave it its packages,
            "system-python" where an installed interpreter ran it as it is.
        strategy_detail: Which interpreter that was; where uv cares for its packages, it ends with
            "installed now" or "installed before".
        install_seconds: How long preparing its environment took; not there where it was there before.
            Of a project it always is, for uv looks whether it is up to date.
        working_directory: Where its files lie, where it left any in a directory made for this call.
        pictures: The matplotlib figures that it showed or left open, then the image files that it saved
            in its working directory.
        pictures_left_out: How many more there are, at least: the look for them is bounded.
    """

    execution_strategy: Literal["uv-run", "system-python"]
    strategy_detail: NotRequired[str]
    install_seconds: NotRequired[float]
    working_directory: NotRequired[str]
    pictures: NotRequired[list[ShownPicture]]
    pictures_left_out: NotRequired[int]


class DependencyResult(ScriptResult):
    """How a script with packages of its own ended.

    Attributes:
        resolved_dependencies: What was installed for it, as `name==version`.
        python_version_used: The version of the interpreter that ran it.
    """

    resolved_dependencies: list[str]
    python_version_used: str


class SaveResult(TypedDict):
    """What became of a script that was to be saved.

    Attributes:
        written: Whether it was written.
        path: Its file.
        message: A sentence on what was done, or why not.
        version: The number of the version that it is now; `py_run_saved_script` runs earlier ones too.
    """

    written: bool
    path: str
    message: str
    version: NotRequired[int]


class ScriptArgument(TypedDict):
    """An argument of a script's command line, as the script's own text says it.

    Attributes:
        names: Such as ["-y", "--year"], or the one name of a positional argument.
        help, type, default, choices, nargs, required, action, metavar: What `add_argument` was given, as
            it is written there.
        command: The subcommand that it belongs to.
    """

    names: list[str]
    help: NotRequired[str]
    type: NotRequired[str]
    default: NotRequired[str]
    choices: NotRequired[str]
    nargs: NotRequired[str]
    required: NotRequired[str]
    action: NotRequired[str]
    metavar: NotRequired[str]
    command: NotRequired[str]


class SavedScript(TypedDict):
    """One saved script.

    Attributes:
        name: What `py_run_saved_script` takes.
        path: Its file.
        docstring: The first paragraph of its docstring, else what its argparse parser says of it; empty
            where it says nothing.
        header: Its PEP 723 header, `{"requires-python", "dependencies"}`; null where it has none.
        arguments: What its argparse parser takes, where it has one.
        version: Which of its versions it is; not there where it was edited by hand.
        versions: The numbers of those that can be run, oldest first.
        problem: What is wrong with it, where it cannot be read or understood.
    """

    name: str
    path: str
    docstring: str
    header: dict[str, Any] | None
    arguments: NotRequired[list[ScriptArgument]]
    version: NotRequired[int]
    versions: NotRequired[list[int]]
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
        subtest: Which subtest of it, such as "[row] (row=3)".
        location: The file and line that raised, where that is known.
        output: What the test printed and logged, by stream; long text is cut in the middle.
    """

    id: str
    outcome: Literal["failed", "error"]
    when: str
    message: str
    traceback: str
    subtest: NotRequired[str]
    location: NotRequired[str]
    output: NotRequired[dict[str, str]]


class TimedTest(TypedDict):
    """How long a test took, with its set-up and tear-down."""

    id: str
    seconds: float


class SuiteResult(ScriptResult):
    """How a run of pytest ended. The counts are those of its own last line.

    Attributes:
        outcome: "passed" (all that were collected ran to their end, and none failed), "failed",
            "not_run" (none ran: all were skipped, or pytest was told only to collect),
            "interrupted" (not all ran, also because of errors while tests were collected),
            "internal_error" (of pytest or a plugin), "crashed" (a process ended before its time) or
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
        one_process_because: Why pytest-xdist took no part, where `workers` is "auto".
        unfinished: Tests that were under way when the run was ended or crashed.
        stopped_because: Why the run ended before all tests had run, in pytest's own words.
        pytest_version: Which pytest it was.
        rootdir: What the paths in ids start from, where that is not the directory of the call.
    """

    outcome: Literal["passed", "failed", "not_run", "interrupted", "internal_error", "crashed", "timed_out"]
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
    one_process_because: NotRequired[str]
    unfinished: NotRequired[list[str]]
    stopped_because: NotRequired[str]
    pytest_version: NotRequired[str]
    rootdir: NotRequired[str]
