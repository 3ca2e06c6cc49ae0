"""The shapes of what `py_map_script` returns; see `results` for why their annotations are evaluated."""

import sys
from typing import Literal, NotRequired

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict


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
        error_kind: "memory_limit" or "cpu_limit", where it met one.
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
        summary: What became of the items, in a sentence.
        total: How many items there are.
        succeeded: How many ended with exit code 0.
        failed: How many ended otherwise.
        not_run: How many were not started, because `stop_on_failure` was set and one had failed.
        failed_indexes: Those that failed, in order; the first 100.
        items: The results, by index: all of them, or those that failed and then as many others as
            there is room for.
        items_left_out: How many more have a result: `py_job_output(job_id, stream="items")` shows all,
            a line of JSON each, in the order in which they ended.
        reused: How many results were taken over from the batch that was resumed.
        elapsed_seconds: From the start of the first to the end of the last, without preparing the
            environment.
        parallel: How many ran at once.
        execution_strategy: "uv-run" where uv (or the directory's environment) gave the script its
            packages, "system-python" where an installed interpreter ran it as it is.
        strategy_detail: Which interpreter that was; where uv cares for its packages, it ends with
            "installed now" or "installed before".
        install_seconds: How long preparing its environment took; not there where it was there before.
            Of a project it always is, for uv looks whether it is up to date.
        job_id: The job, where something is left out here, failed or was not run: for `py_job_output`,
            and for `resume`.
        hint: What would have let the first of those that failed pass, where that is known for sure.
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
    elapsed_seconds: float
    parallel: int
    execution_strategy: Literal["uv-run", "system-python"]
    strategy_detail: str
    install_seconds: NotRequired[float]
    job_id: NotRequired[str]
    hint: NotRequired[str]
