"""The body of `py_run_tests`: a pytest suite, followed test by test. A model reads its docstring."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import Limits
from python_mcp_server.runner.command import Interpreter, check_arguments, interpreter_in_directory
from python_mcp_server.runner.environ import given_variables
from python_mcp_server.runner.suite import EVENTS, Suite, Workers, equip, launcher
from python_mcp_server.runner.uv import Uv
from python_mcp_server.tools.results import SuiteResult
from python_mcp_server.tools.running import ScriptCall, script_call
from python_mcp_server.tools.sources import existing_directory
from python_mcp_server.tools.suite_follower import Follower
from python_mcp_server.tools.suite_record import Failed, SuiteRecord
from python_mcp_server.tools.suite_report import check_ran, suite_result, words_of
from python_mcp_server.tools.suite_tally import Tally

_FAILURES: Final = "failures"
_OUTPUT_SHARE: Final = 4
"""stdout says again what `failures` says, so a result shows this fraction of it."""


def run_tests(  # noqa: PLR0917 - the parameters of a tool
    directory: str,
    paths: list[str] | None = None,
    keyword: str | None = None,
    markers: str | None = None,
    only_failed: bool = False,
    max_failures: int | None = None,
    workers: Workers = "auto",
    with_pytest: bool = False,
    with_xdist: bool = False,
    use_uv: bool = True,
    python_version: str | None = None,
    extra_args: list[str] | None = None,
    timeout_seconds: float = 1800,
    env_vars: dict[str, str] | None = None,
    env_file: str | None = None,
    memory_limit_mb: float | None = None,
    cpu_time_limit_seconds: float | None = None,
    nice: int | None = None,
    cpus: int | list[int] | None = None,
) -> SuiteResult:
    """Run the pytest suite of a directory, in the directory's own environment, and count its tests.

    Use this rather than a script that starts pytest: it runs the tests in parallel where
    pytest-xdist is installed, tells progress test by test ("312 of 1014 passed, 2 failed"), and
    answers with counts, the failures with their tracebacks, and the slowest tests. Tests that fail
    are a normal result: read `outcome`, `summary` and `failures`. While the job still runs,
    py_job_status shows how far it is, and py_job_output with stream="failures" the failures so far,
    each with its traceback; stream="stdout" is what pytest prints. After a change, only_failed=true
    runs again what failed last. When the time limit comes, what is known until then is the result.

    Args:
        directory: Where pytest is started; it must exist. Which environment it gets is decided as
            by py_run_script_in_dir: the project's, the `.venv`, that of `requirements.txt`, or the
            server's own.
        paths: Files, directories or test ids such as "tests/test_a.py::test_b", relative to
            `directory`. Unset: what the suite's own configuration says.
        keyword: Only tests whose names match, such as "parse and not slow" (pytest's -k).
        markers: Only tests with these markers, such as "not network" (pytest's -m).
        only_failed: Only the tests that failed in the last run in this directory and have not
            passed since. It is remembered here, also when a run is interrupted.
        max_failures: Stop after so many failures. Unset: run all.
        workers: Processes of pytest-xdist: "auto" for one per core where it is installed, a number,
            or 0 for none.
        with_pytest: Let uv bring pytest in for this run where it is missing. The environment is not
            changed.
        with_xdist: The same for pytest-xdist.
        use_uv: Whether the directory's own environment is used, prepared by uv where needed. With
            false an installed interpreter runs the tests as it is.
        python_version: Such as "3.12". Unset: what the project asks for, else the server's own.
        extra_args: More arguments of pytest, such as ["--tb=short"]; they come last.
        timeout_seconds: After this long pytest and everything it started are killed, and the result
            is what was known until then. Covers installing too. 0 means no limit.
        env_vars: Environment variables of the tests, on top of all others. They are not stored.
        env_file: A file of variables (`NAME=value` lines), absolute or relative to `directory`.
        memory_limit_mb: Memory of pytest and all it starts together, in MB. Beyond it they are killed,
            and the call fails with the peak; what failed until then is remembered. Unset: no limit.
        cpu_time_limit_seconds: The same for the CPU time of all of them together.
        nice: Priority from 0 (the server's own, mostly) to 19 (only when the machine is idle).
        cpus: Cores that they may use: how many, or a list of their numbers.
    """
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb, cpu_time_limit_seconds=cpu_time_limit_seconds, nice=nice, cpus=cpus
    )
    folder = existing_directory(directory)
    _check_numbers(workers, max_failures)
    check_arguments(extra_args)
    given = given_variables(env_vars, env_file, folder)
    with script_call(timeout_seconds, given, limits) as call:
        record = SuiteRecord(call.session.home, folder)
        failed = _last_failures(record, folder) if only_failed else None
        suite = Suite(
            (
                *_options(keyword, markers, max_failures),
                *(_paths(paths, folder, extra_args) or (failed.files() if failed else ())),
                *(extra_args or ()),
            ),
            workers,
            with_pytest,
            with_xdist,
            failed.ids if failed else None,
        )
        narrowed = any((paths, keyword, markers, extra_args))
        run = _Run(call, folder, suite, record, words_of(folder, paths, keyword, markers), narrowed)

        def choose(uv: Uv) -> Interpreter:
            return interpreter_in_directory(uv, folder, None, use_uv=use_uv, python_version=python_version)

        return run(choose)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a suite, in a folder of its own within that of the call.

    Attributes:
        call: The call.
        directory: Where pytest is started.
        suite: What it is told.
        record: What failed last.
        wanted: What was asked for, in words.
        narrowed: Whether some tests of the suite were left out from the start.
    """

    call: ScriptCall
    directory: Path
    suite: Suite
    record: SuiteRecord
    wanted: str
    narrowed: bool

    def __call__(self, choose: Callable[[Uv], Interpreter]) -> SuiteResult:
        session, job = self.call.session, self.call.job
        folder = session.folder / "pytest"
        follower = Follower(folder / EVENTS, session.folder / _FAILURES, self._save)

        def prepare(uv: Uv) -> Interpreter:
            return equip(uv, choose(uv), self.suite, self.directory, folder)

        quieter = replace(self.call, output_chars=max(1, self.call.output_chars // _OUTPUT_SHARE))
        try:
            ended = quieter.run(launcher(folder), self.directory, None, prepare, watch=follower.watch)
            follower.look()  # after a time-out: what came between the last look and the end
        finally:
            self._save(follower.tally)
            if folder.exists():
                shutil.rmtree(folder)
        check_ran(ended.result, follower.tally, self.wanted)
        result = suite_result(ended.result, follower.tally, job, self.call.output_chars)
        root = follower.tally.rootdir
        if root and Path(root) != self.directory.resolve():
            result["rootdir"] = root
        return result

    def _save(self, tally: Tally) -> None:
        everything = tally.ended and not tally.stopped and tally.done == tally.total
        self.record.save(tally, complete=everything and not self.narrowed)


def _check_numbers(workers: Any, max_failures: Any) -> None:
    if workers != "auto" and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 0):
        raise InvalidInput(f"workers is {workers!r}; it must be 'auto', or a number of processes, 0 for none")
    if max_failures is not None and (not isinstance(max_failures, int) or max_failures < 1):
        raise InvalidInput(f"max_failures is {max_failures!r}; it must be 1 or more, or unset for no limit")


def _options(keyword: str | None, markers: str | None, max_failures: int | None) -> list[str]:
    options = ["--color=no"]
    for name, option, value in (("keyword", "-k", keyword), ("markers", "-m", markers)):
        if value is not None:
            check_arguments([value])
            if not value.strip() or value.startswith("-"):
                raise InvalidInput(f"{name} is {value!r}; write an expression such as 'parse and not slow'")
            options += [option, value]
    return options if max_failures is None else [*options, f"--maxfail={max_failures}"]


def _paths(paths: list[str] | None, folder: Path, extra_args: list[str] | None) -> list[str]:
    """Return the paths; each must be there, unless it names a module."""
    check_arguments(paths)
    for path in paths or ():
        file = path.partition("::")[0]
        if not file or path.startswith("-"):
            raise InvalidInput(f"paths has {path!r}; each must be a file, a directory or a test id")
        if "--pyargs" not in (extra_args or ()) and not os.path.exists(folder / file):
            raise InvalidInput(f"paths has {path!r}, but there is no {str(folder / file)!r}")
    return list(paths or ())


def _last_failures(record: SuiteRecord, folder: Path) -> Failed:
    failed = record.load()
    if failed is None:
        raise InvalidInput(f"no run in {str(folder)!r} is known; run it once without only_failed")
    if not failed.ids:
        raise InvalidInput(f"nothing failed in the last run in {str(folder)!r}; run it without only_failed")
    if not failed.files():
        raise InvalidInput(
            f"the {len(failed.ids)} tests that failed last in {str(folder)!r} are no longer there; "
            "run it without only_failed"
        )
    return failed
