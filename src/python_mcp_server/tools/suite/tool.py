"""The body of `py_run_tests`: a pytest suite, followed test by test. A model reads its docstring."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from python_mcp_server.atomic import remove_tree, write_file
from python_mcp_server.errors import InvalidInput
from python_mcp_server.regular import NotRegular, read_regular
from python_mcp_server.runner.command import Interpreter, check_arguments, interpreter_in_directory
from python_mcp_server.runner.python.environ import given_variables
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.tools import parameters
from python_mcp_server.tools.call import ScriptCall, script_call
from python_mcp_server.tools.hints import IN_SUITE, hint_for_tests
from python_mcp_server.tools.results import SuiteResult
from python_mcp_server.tools.scripts import existing_directory
from python_mcp_server.tools.suite.environment import EVENTS, Suite, Workers, launcher, prepare
from python_mcp_server.tools.suite.events import EventFollower, RunSummary
from python_mcp_server.tools.suite.report import check_ran, suite_result, words_of

_FAILURES: Final = "failures"
_MOST_RECORD_BYTES: Final = 16 << 20
_OUTPUT_SHARE: Final = 4
"""stdout tells little that the other fields do not, so a result shows this fraction of it."""


def run_tests(  # noqa: PLR0917 - the parameters of a tool
    directory: Annotated[str, "Where pytest is started, absolute."],
    paths: Annotated[
        list[str] | None,
        'Files, directories or ids such as "tests/test_a.py::test_b", relative to `directory`. Default: all.',
    ] = None,
    keyword: Annotated[str | None, 'Only tests whose names match, such as "parse and not slow" (-k).'] = None,
    markers: Annotated[str | None, 'Only tests with these markers, such as "not network" (-m).'] = None,
    only_failed: Annotated[
        bool, "Only the tests that failed in the last run here and have not passed since."
    ] = False,
    max_failures: Annotated[int | None, "Stop after so many failures."] = None,
    workers: Annotated[
        Workers,
        'Processes of pytest-xdist: a number, 0 for none, or "auto": one per core where it is installed.',
    ] = "auto",
    with_pytest: Annotated[bool, "Bring pytest in for this run where it is missing."] = False,
    with_xdist: Annotated[bool, "The same for pytest-xdist."] = False,
    use_uv: parameters.UseUv = True,
    python_version: parameters.PythonVersion = None,
    extra_args: Annotated[list[str] | None, 'More arguments of pytest, such as ["--tb=short"].'] = None,
    timeout_seconds: parameters.TimeoutSeconds = 1800,
    env_vars: parameters.EnvVars = None,
    env_file: parameters.EnvFile = None,
    memory_limit_mb: parameters.MemoryLimit = None,
    cpu_time_limit_seconds: parameters.CpuTimeLimit = None,
    disk_limit_mb: parameters.DiskLimit = None,
    nice: parameters.Nice = None,
    cpus: parameters.Cpus = None,
) -> SuiteResult:
    """Run the pytest suite of a directory, in the directory's own environment, and count its tests.

    Use this rather than a script that starts pytest: it runs the tests in parallel where pytest-xdist is
    installed, and answers with counts, the failures with their tracebacks, and the slowest tests. Tests that
    fail are a normal result: read `outcome`, `summary` and `failures`. While the job still runs,
    py_job_status shows how far it is, and py_job_output with stream="failures" the failures so far. After a
    change, only_failed=true runs again what failed last.
    """
    limits = parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus, disk_limit_mb)
    folder = existing_directory(directory)
    _check_numbers(workers, max_failures)
    check_arguments(extra_args)
    given = partial(given_variables, env_vars, env_file, folder)
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
        follower = EventFollower(folder / EVENTS, session.folder / _FAILURES, self._save)

        def with_pytest(uv: Uv) -> Interpreter:
            return prepare(uv, choose(uv), self.suite, self.directory, folder)

        quieter = replace(self.call, output_chars=max(1, self.call.output_chars // _OUTPUT_SHARE))
        try:
            ended = quieter.run(
                launcher(folder),
                self.directory,
                None,
                with_pytest,
                watch=follower.watch,
                packages=lambda _used: IN_SUITE,
            )
            follower.read_new()  # after a time-out: events between the last read and the end
        finally:
            self._save(follower.summary)
            remove_tree(str(folder))
        check_ran(ended.result, follower.summary, self.wanted)
        result = suite_result(ended.result, follower.summary, job, self.call.output_chars)
        messages = (failure.message for failure in follower.summary.failures)
        if "hint" not in result and (hint := hint_for_tests(messages, self.directory)) is not None:
            result["hint"] = hint
        root = follower.summary.rootdir
        if root and Path(root) != self.directory.resolve():
            result["rootdir"] = root
        return result

    def _save(self, summary: RunSummary) -> None:
        self.record.save(summary, complete=summary.complete and not self.narrowed)


@dataclass(frozen=True, slots=True)
class LastFailures:
    """The tests that failed last in a directory.

    Attributes:
        rootdir: The directory that the ids are relative to.
        ids: Ids of tests, and of files that could not be collected.
    """

    rootdir: Path
    ids: tuple[str, ...]

    def files(self) -> list[str]:
        """Return the files of the tests that still exist."""
        named = dict.fromkeys(self.rootdir / nodeid.partition("::")[0] for nodeid in self.ids)
        return [str(path) for path in named if path.exists()]


class SuiteRecord:
    """The failures of the last run in a directory, for `only_failed`: a file below the home."""

    def __init__(self, home: Path, directory: Path) -> None:
        key = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:32]
        self._path = home / "suites" / f"{key}.json"

    def load(self) -> LastFailures | None:
        """Return the last failures; None where no run is known."""
        try:
            facts: dict[str, Any] = json.loads(read_regular(str(self._path), _MOST_RECORD_BYTES))
            return LastFailures(Path(facts["rootdir"]), tuple(facts["failed"]))
        except (FileNotFoundError, NotRegular, ValueError, KeyError, TypeError, RecursionError):
            return None

    def save(self, summary: RunSummary, *, complete: bool) -> None:
        """Bring the record up to date.

        Args:
            summary: The state of the run.
            complete: Whether every test ran: then an earlier failure that did not run is forgotten.
                Otherwise it stays until it has passed.
        """
        if not summary.rootdir:
            return
        before = self.load()
        kept = () if complete or before is None else before.ids
        seen = summary.finished | {nodeid.partition("::")[0] for nodeid in summary.finished}
        failed = dict.fromkeys([*(nodeid for nodeid in kept if nodeid not in seen), *summary.failed])
        data = json.dumps({"rootdir": summary.rootdir, "failed": list(failed)}).encode()
        write_file(str(self._path), data)


def _check_numbers(workers: Any, max_failures: Any) -> None:
    if workers != "auto" and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 0):
        raise InvalidInput(f"workers is {workers!r}; it must be 'auto', or a number of processes, 0 for none")
    if max_failures is not None and (not isinstance(max_failures, int) or max_failures < 1):
        raise InvalidInput(f"max_failures is {max_failures!r}; it must be 1 or more, or unset for no limit")


def _options(keyword: str | None, markers: str | None, max_failures: int | None) -> list[str]:
    options: list[str] = []
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


def _last_failures(record: SuiteRecord, folder: Path) -> LastFailures:
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
