"""The shapes of the results of the script tools; the server derives the output schemas from them.

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
        stdout: The output; long output is shown as head and tail, with a line between them that counts
            what is left out and says how to read it.
        stderr: The same; ends with `[TIMEOUT]` where the time limit ended it.
        exit_code: 0 for success; negative for the number of the signal that ended it.
        elapsed_seconds: From its start to its end, without preparing its environment.
        timed_out: True where the time limit ended it.
        ended_by_signal: The name of the signal that ended it, such as "SIGSEGV".
        job_id: Whose output `py_job_output` reads, where something is left out here.
        hint: What would have let it pass, if that is certain.
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
        strategy_detail: The interpreter; where uv manages its packages, the text ends with
            "(set up for this call)" or "(set up before)".
        install_seconds: The time to prepare the environment; missing where it existed before. For a
            project it is always there, because uv checks whether the environment is up to date.
        working_directory: The directory made for this call, if the script left files in it.
        pictures: The matplotlib figures that it showed or left open, then the image files that it saved
            in its working directory.
        pictures_left_out: How many more there are, at least, because the search for them is bounded.
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
    """Whether a script was saved.

    Attributes:
        written: Whether it was written.
        path: Its file.
        message: What was done, or why not, as a sentence.
        version: The number of the new version; `py_run_saved_script` runs earlier ones too.
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
        version: The present version; missing if the script was edited by hand.
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
        message: The first line of what was raised.
        traceback: With the whole reason; long ones are cut in the middle.
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
        slowest: The tests that took longest, from 5 ms on, the slowest first.
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


class SpreadOfRuns(TypedDict):
    """How one figure is spread over the runs.

    Attributes:
        min, q1, median, q3, max: The least, the quartiles with the median, the most.
        mean: The arithmetic mean.
        stddev: The standard deviation of a sample; 0 for one run.
        median_low: Where the median lies at least, by the ranks of the runs; not for one run.
        median_high: Where it lies at most.
        confidence: Of these two: 0.95, or less where there are fewer than 6 runs.
    """

    min: float
    q1: float
    median: float
    q3: float
    max: float
    mean: float
    stddev: float
    median_low: NotRequired[float]
    median_high: NotRequired[float]
    confidence: NotRequired[float]


class OutlyingRun(TypedDict):
    """A run whose wall time is outside Tukey's fences.

    Attributes:
        run: Its number, from 1.
        seconds: Its wall time.
        kind: "slow" or "fast".
        far: Whether it is more than 3 quartile distances away, not only 1.5.
    """

    run: int
    seconds: float
    kind: Literal["slow", "fast"]
    far: bool


class Course(TypedDict):
    """One run over time: the one whose wall time is nearest to the median. The lists are equally long.

    Attributes:
        seconds: Since its start.
        rss_mb: Memory of all processes.
        cpu_percent: Of one core, since the moment before.
    """

    seconds: list[float]
    rss_mb: list[float]
    cpu_percent: list[float]


class Noise(TypedDict):
    """What disturbed the runs.

    Attributes:
        noisy: Whether the figures should not be trusted.
        reasons: Why not, in sentences.
        other_cpu_percent: CPU time of other processes while it was measured, as a share of all cores.
        load_average: Of the last minute before, where the system tells.
        cores: How many there are.
    """

    noisy: bool
    reasons: list[str]
    other_cpu_percent: float
    load_average: NotRequired[float]
    cores: int


class Comparison(TypedDict):
    """The script beside another. A ratio is the other's figure divided by the script's.

    Attributes:
        sentence: Which one is faster, how much, and how certain that is.
        ratio: Of the wall times; over 1 where the script is faster.
        low, high: Where this ratio lies, with `confidence`.
        cpu_ratio, cpu_low, cpu_high: The same of the CPU times.
        peak_ratio: Of the medians of the peaks of memory.
        runs: How many turns both have run in.
        wall, cpu, peak_mb: The other script's own figures.
        stderr: The last it wrote, where it failed.
    """

    sentence: str
    ratio: NotRequired[float]
    low: NotRequired[float]
    high: NotRequired[float]
    confidence: NotRequired[float]
    cpu_ratio: NotRequired[float]
    cpu_low: NotRequired[float]
    cpu_high: NotRequired[float]
    peak_ratio: NotRequired[float]
    runs: int
    wall: NotRequired[SpreadOfRuns]
    cpu: NotRequired[SpreadOfRuns]
    peak_mb: NotRequired[SpreadOfRuns]
    stderr: NotRequired[str]


class BenchmarkResult(DependencyResult):
    """How a script ended, and what it used. Output is that of the first run; figures are medians.

    Attributes:
        summary: What was found, in a sentence or two.
        wall_time_seconds: From its start to its end, as `elapsed_seconds`.
        cpu_time_seconds: User and system time of the script and of everything it started and
            waited for, from the kernel's accounting.
        peak_rss_mb: The largest memory of all its processes together, in MB of 10^6 bytes.
        peak_rss_source: "kernel" where that is the kernel's peak of a single process, so exact;
            "sampled" where several processes held more together.
        process_peak_rss_mb: The kernel's peak of its largest process alone.
        startup_seconds: How long the interpreter takes to do nothing, measured in turns with it.
        own_seconds: The wall time without that.
        runs: How many runs the figures stand on.
        warmup_runs: How many went before.
        stopped: Why there were no more: "certain" (the interval is within 1 % of its middle),
            "max_runs", "max_seconds", "failed" or "timed_out".
        wall, cpu, peak_mb: The same figures over the runs.
        outliers: The first runs that are far from the others.
        outliers_left_out: How many more there are.
        kernel: What else it counts, medians of the runs: user and system time, page faults, context
            switches, bytes (`io_` through system calls, `disk_` to and from the disk).
        course: Memory and CPU over time.
        noise: What disturbed the runs.
        comparison: The script beside `compare_with`.
        pictures: A plot of memory, CPU and the runs; then what the script saved.
        data_path: A file with every run, as JSON.
    """

    summary: str
    wall_time_seconds: float
    cpu_time_seconds: float
    peak_rss_mb: float
    peak_rss_source: Literal["sampled", "kernel"]
    process_peak_rss_mb: NotRequired[float]
    startup_seconds: NotRequired[float]
    own_seconds: NotRequired[float]
    runs: int
    warmup_runs: int
    stopped: Literal["certain", "max_runs", "max_seconds", "failed", "timed_out"]
    wall: SpreadOfRuns
    cpu: SpreadOfRuns
    peak_mb: SpreadOfRuns
    outliers: list[OutlyingRun]
    outliers_left_out: NotRequired[int]
    kernel: dict[str, float]
    course: Course
    noise: Noise
    comparison: NotRequired[Comparison]
    data_path: NotRequired[str]


class ItemResult(TypedDict):
    """How one run of the script ended.

    Attributes:
        index: Which of the argument lists it had; the first is 0.
        args: Its arguments; very long ones are cut.
        exit_code: 0 for success; negative for the number of the signal that ended it; null where it
            could not be run, and `error` says why.
        elapsed_seconds: From its start to its end.
        stdout: What it wrote; of long output head and tail.
        stderr: The same; ends with `[TIMEOUT]` where the time limit ended it.
        timed_out: True where the time limit ended it.
        ended_by_signal: The name of the signal that ended it, such as "SIGSEGV".
        error: Which limit it met, or why it could not be run.
        error_kind: "memory_limit", "cpu_limit" or "disk_limit", where it met one.
        stdout_path: The file with all of its output, where `stdout` is not all.
        stderr_path: The same for `stderr`.
    """

    index: int
    args: list[str]
    exit_code: int | None
    elapsed_seconds: float
    stdout: str
    stderr: str
    timed_out: NotRequired[bool]
    ended_by_signal: NotRequired[str]
    error: NotRequired[str]
    error_kind: NotRequired[str]
    stdout_path: NotRequired[str]
    stderr_path: NotRequired[str]


class MapResult(TypedDict):
    """How a batch ended.

    Attributes:
        summary: How the items ended, in a sentence; with `resume`, also what was taken over and what ran.
        total: How many items there are.
        succeeded: How many ended with exit code 0.
        failed: How many ended otherwise.
        not_run: How many were not started, because `stop_on_failure` was set and one had failed.
        failed_indexes: Those that failed, in order; the first 100.
        items: The results, by index: all of them, or those that failed and then as many others as
            there is room for.
        items_left_out: How many more have a result: `py_job_output(job_id, stream="items")` shows all,
            in the order in which they ended.
        reused, ran, retryable: With `resume`: how many results were taken over, how many items ran now, and
            how many of all failed, which another `resume` with `retry_failed` runs again.
        problem: How many lines of that batch's results are damaged, if any are; their items ran again.
        elapsed_seconds: From the start of the first to the end of the last, without preparing the
            environment.
        parallel: How many ran at once.
        execution_strategy: "uv-run" where uv (or the directory's environment) gave the script its
            packages, "system-python" where an installed interpreter ran it as it is.
        strategy_detail: The interpreter; where uv manages its packages, the text ends with
            "(set up for this call)" or "(set up before)".
        install_seconds: The time to prepare the environment; missing where it existed before. For a
            project it is always there, because uv checks whether the environment is up to date.
        job_id: The job, where something is left out here, failed or was not run: for `py_job_output`,
            and for `resume`.
        hint: What would have let the first failed item pass, if that is certain.
    """

    summary: str
    total: int
    succeeded: int
    failed: int
    not_run: int
    failed_indexes: list[int]
    items: list[ItemResult]
    items_left_out: NotRequired[int]
    reused: NotRequired[int]
    ran: NotRequired[int]
    retryable: NotRequired[int]
    problem: NotRequired[str]
    elapsed_seconds: float
    parallel: int
    execution_strategy: Literal["uv-run", "system-python"]
    strategy_detail: str
    install_seconds: NotRequired[float]
    job_id: NotRequired[str]
    hint: NotRequired[str]
