"""The body of `py_map_script`: one script, many argument lists, all cores. A model reads its docstring."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, cast

from python_mcp_server.context import report_progress
from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import Limits
from python_mcp_server.model import cut
from python_mcp_server.processes.host import usable_cpus
from python_mcp_server.runner.child import deadline_after
from python_mcp_server.runner.command import Interpreter, check_arguments, interpreter_in_directory
from python_mcp_server.runner.enforce import check_here, cores_of, thread_variables
from python_mcp_server.runner.python.environ import given_variables
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.runner.textfile import read_lines
from python_mcp_server.settings import Settings
from python_mcp_server.tools import parameters
from python_mcp_server.tools.batch.journal import (
    BatchJournal,
    BatchPlan,
    failed,
    folder_of,
    locked_idle,
    plan_in,
)
from python_mcp_server.tools.batch.slot import Setup
from python_mcp_server.tools.batch.slots import Answer, Item, SlotPool
from python_mcp_server.tools.call import Prepared, ScriptCall, script_call, script_of
from python_mcp_server.tools.hints import BY_PARAMETER, Ended, hint_at_limit, hint_for
from python_mcp_server.tools.results import ItemResult, MapResult
from python_mcp_server.tools.scripts import existing_directory, existing_script, header_of, one_of

_ITEM_CHARS: Final = 1000
"""Of each stream of an item, unless the caller says; guessed: a traceback."""
_SHOWN_CHARS: Final = 200
"""Of a path: an error of two longer ones would lose its middle, which says what is wrong."""
_MOST_PARALLEL: Final = 256
_LISTED: Final = 100
_MOST_ITEMS: Final = 100_000
_BLANKS: Final = " \t"


def map_script(  # noqa: PLR0917 - the parameters of a tool
    directory: Annotated[
        str | None,
        "Working directory of all items, absolute; its environment is used. Needed unless `resume` is given.",
    ] = None,
    script_path: parameters.ScriptPath = None,
    script_content: parameters.ScriptContent = None,
    args_list: Annotated[
        list[list[str]] | None, 'The command line arguments of each item: [["a.csv"], ["b.csv", "--fast"]].'
    ] = None,
    args_file: Annotated[
        str | None,
        "A file to read them from instead: on each line a JSON list of texts, or the one argument.",
    ] = None,
    max_parallel: Annotated[int | None, "How many run at once. Default: one per core."] = None,
    stop_on_failure: Annotated[bool, "Start no other item once one has failed."] = False,
    python_version: parameters.PythonVersion = None,
    dependencies: Annotated[
        list[str] | None, "Packages beside those of a PEP 723 header; the environment is then one of its own."
    ] = None,
    resume: Annotated[
        str | None,
        "The job_id of an earlier batch that has ended: its results are taken over, the other items run. "
        "What is not given here is as it was there, but for `env_vars` and limits.",
    ] = None,
    retry_failed: Annotated[bool, "With `resume`: run those that failed again, too."] = False,
    timeout_seconds: parameters.TimeoutSeconds = 300,
    env_vars: parameters.EnvVars = None,
    env_file: parameters.EnvFile = None,
    memory_limit_mb: parameters.MemoryLimit = None,
    cpu_time_limit_seconds: parameters.CpuTimeLimit = None,
    disk_limit_mb: parameters.DiskLimit = None,
    nice: parameters.Nice = None,
    cpus: parameters.Cpus = None,
    output_chars: Annotated[
        int | None,
        "Characters of each item's stdout, and stderr, to show; a file it names has all. Default: 1000.",
    ] = None,
) -> MapResult:
    """Run one Python script over many argument lists (such as many files), on all cores, as one job.

    Use this rather than many calls, or a script with a pool: packages are installed once, one job shows
    the progress of all, and each run (item) has its own exit code and output. Limits of time, memory, CPU
    and disk hold for each item; `cpus` is for all together. One that fails does not touch the others: read
    `failed_indexes` and `items`. While the job runs, py_job_output with stream="items" shows the results so
    far. After a cancel, a crash or failures, `resume` with the job's id goes on with what has no result yet.
    """
    limits = parameters.limits(memory_limit_mb, cpu_time_limit_seconds, nice, cpus, disk_limit_mb)
    _check_parallel(max_parallel)
    request = BatchRequest(
        directory, script_path, script_content, args_list, args_file, dependencies, python_version, env_file
    )
    shown = _ITEM_CHARS if output_chars is None else output_chars
    with script_call(timeout_seconds, dict, limits, shown) as call:
        before = None if resume is None else folder_of(_folders(call), resume)
        plan = request.plan(None if before is None else plan_in(before), env_vars, resume, call.check)
        options = _Options(timeout_seconds, max_parallel, stop_on_failure, _sharing(limits), env_vars)
        batch = _Batch(call, BatchJournal(call.session.folder, plan), options)
        with batch.journal.open():
            reused = 0
            if before is not None and resume is not None:
                with locked_idle(before, resume):
                    reused = batch.journal.take_over(before, failures=not retry_failed, check=call.check)
            return batch.run(reused)


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """The parameters of a call that the plan is made of; None where the caller gave no value."""

    directory: str | None
    script_path: str | None
    script_content: str | None
    args_list: list[list[str]] | None
    args_file: str | None
    dependencies: list[str] | None
    python_version: str | None
    env_file: str | None

    def plan(
        self,
        before: BatchPlan | None,
        env_vars: dict[str, str] | None,
        resume: str | None,
        check: Callable[[], None],
    ) -> BatchPlan:
        """Return the plan; what the caller did not give comes from the plan of the resumed batch.

        Args:
            before: That plan.
            env_vars: The variables that the caller gave.
            resume: The job of the resumed batch.
            check: Called again and again while a file is read.

        Raises:
            InvalidInput: A parameter is missing or wrong.
        """
        if self.directory is None and before is None:
            raise InvalidInput("directory is missing; it is needed unless resume is given")
        folder = existing_directory(self.directory or (before.directory if before else ""))
        path, content = self._script(folder, before)
        variables = tuple(env_vars or ())
        if before is not None and (lacking := [name for name in before.variables if name not in variables]):
            raise InvalidInput(
                f"job {resume} had the variables {', '.join(lacking)} in env_vars, which are not kept; "
                "give them again"
            )
        return BatchPlan(
            str(folder),
            path,
            content,
            self._arguments(folder, before, check),
            tuple(self.dependencies or (() if before is None else before.dependencies)),
            self.python_version or (before and before.python_version),
            self.env_file or (before and before.env_file),
            variables,
        )

    def _script(self, folder: Path, before: BatchPlan | None) -> tuple[str | None, str | None]:
        path, content = self.script_path, self.script_content
        if before is not None and path is None and content is None:
            path, content = before.script_path, before.script_content
        one_of(path, content)
        return None if path is None else str(existing_script(path, folder)), content

    def _arguments(
        self, folder: Path, before: BatchPlan | None, check: Callable[[], None]
    ) -> tuple[tuple[str, ...], ...]:
        if self.args_list is not None and self.args_file is not None:
            raise InvalidInput("args_list and args_file are both given; give one of the two")
        if self.args_list is None and self.args_file is None:
            if before is None:
                raise InvalidInput("args_list is missing; give the arguments of each item, or args_file")
            return before.args_list
        if self.args_file is not None:
            return _read_arguments(folder, self.args_file, check)
        lists: Any = self.args_list
        if not 0 < len(lists) <= _MOST_ITEMS:
            raise InvalidInput(f"there are {len(lists)} argument lists; give between 1 and {_MOST_ITEMS}")
        for number, args in enumerate(lists):
            if not isinstance(args, list):
                raise InvalidInput(f"args_list[{number}] is {args!r}; it must be a list of texts")
            check_arguments(cast("list[str]", args))
        return tuple(map(tuple, lists))


def _read_arguments(folder: Path, args_file: str, check: Callable[[], None]) -> tuple[tuple[str, ...], ...]:
    path = folder / os.path.expanduser(args_file)
    if not os.path.isfile(path):  # unlike a Path, this returns False for a bad name
        shown, place = cut(args_file, _SHOWN_CHARS), cut(str(path), _SHOWN_CHARS)
        raise InvalidInput(f"args_file {shown!r} does not exist as a file (looked at {place!r})")
    lists: list[tuple[str, ...]] = []
    for number, line in enumerate(read_lines(path, f"args_file {args_file!r}", check), 1):
        if not line.strip(_BLANKS):
            continue
        if len(lists) == _MOST_ITEMS:
            raise InvalidInput(
                f"args_file {args_file!r} has more than {_MOST_ITEMS} argument lists; give up to so many"
            )
        lists.append(tuple(_arguments_in(line, number)))
        check_arguments(lists[-1])
    if not lists:
        raise InvalidInput(f"args_file {args_file!r} has no argument list; give one in each line")
    return tuple(lists)


def _arguments_in(line: str, number: int) -> list[str]:
    """Return the arguments that one line holds."""
    if not line.lstrip(_BLANKS).startswith("["):
        return [line]
    try:
        args: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"args_file has no JSON list in line {number}: {error}") from None
    if not all(isinstance(arg, str) for arg in args):
        raise InvalidInput(f"args_file has {line.strip()[:80]!r} in line {number}; each must be a text")
    return args


@dataclass(frozen=True, slots=True)
class _Options:
    """The parameters of a batch that are not part of its plan."""

    timeout_seconds: float
    max_parallel: int | None
    stop_on_failure: bool
    limits: Limits | None
    env_vars: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class _Batch:
    """One batch in its call."""

    call: ScriptCall
    journal: BatchJournal
    options: _Options

    def run(self, reused: int) -> MapResult:
        """Run the items that have no result yet, and return the results of all."""
        plan, count = self.journal.plan, len(self.journal.plan.args_list)
        todo = [index for index in range(count) if not self.journal.has(index)]
        at_once = min(self.options.max_parallel or cores_of(self.options.limits), len(todo))
        prepared = self._prepare(at_once)
        started = time.monotonic()
        if todo:
            with SlotPool(self._setup(prepared), self._record, self._is_last) as pool:
                items = (Item(index, plan.args_list[index]) for index in todo)
                self._follow(pool, pool.run(items, at_once))
        return self._result(prepared.interpreter, at_once, reused, time.monotonic() - started)

    def _prepare(self, at_once: int) -> Prepared:
        """Choose the interpreter, once for all items."""
        plan, limits = self.journal.plan, self.options.limits
        folder = Path(plan.directory)
        script = None if plan.script_path is None else Path(plan.script_path)
        header = header_of(script, plan.script_content, plan.dependencies)
        given = given_variables(self.options.env_vars, plan.env_file, folder)
        share = Limits(cpus=max(1, cores_of(limits) // max(1, at_once)))
        given = {**thread_variables(share), **given}
        session = replace(self.call.session, given=given, limits=limits)
        interpreter = interpreter_in_directory(
            Uv(session), folder, header, use_uv=True, python_version=plan.python_version
        )
        return Prepared(
            session, interpreter, script_of(self.call, script, plan.script_content, folder), (), folder
        )

    def _setup(self, prepared: Prepared) -> Setup:
        limit_s = self.options.timeout_seconds
        return Setup(
            prepared.command,
            self.call.session.job_id,
            self.journal.outputs,
            limit_s if deadline_after(limit_s) is not None else None,
            self.options.limits,
            self.call.output_chars,
            self.call.session.grace_s,
        )

    def _record(self, answer: Answer) -> None:
        self.journal.add(cast("ItemResult", answer))

    def _is_last(self, answer: Answer) -> bool:
        return self.options.stop_on_failure and failed(cast("ItemResult", answer))

    def _follow(self, pool: SlotPool, answers: Iterable[Answer]) -> None:
        """Take the answers as they come, and report progress."""
        self._report(0)
        for _ in answers:
            self._report(pool.running)

    def _report(self, running: int) -> None:
        journal = self.journal
        total, done = len(journal.plan.args_list), journal.succeeded + journal.failed
        report_progress(done, total, f"{done} of {total} done, {journal.failed} failed, {running} running")

    def _result(self, used: Interpreter, at_once: int, reused: int, elapsed_s: float) -> MapResult:
        journal, job = self.journal, self.call.job
        total = len(journal.plan.args_list)
        ended = journal.succeeded + journal.failed
        items = journal.results(2 * Settings.from_environ().output_chars)
        result: MapResult = {
            "summary": _summary(journal, elapsed_s, at_once),
            "total": total,
            "succeeded": journal.succeeded,
            "failed": journal.failed,
            "not_run": total - ended,
            "failed_indexes": sorted(journal.failures)[:_LISTED],
            "items": items,
            "elapsed_seconds": round(elapsed_s, 6),
            "parallel": at_once,
            "execution_strategy": used.strategy,
            "strategy_detail": used.words,
        }
        if used.install_s is not None:
            result["install_seconds"] = round(used.install_s, 6)
        if reused:
            result["reused"] = reused
        if journal.unreadable:
            result["problem"] = _damage(journal.unreadable)
        if len(items) < ended:
            result["items_left_out"] = ended - len(items)
        if job is not None and (journal.cut or journal.failed or len(items) < total):
            job.keep_record()
            result["job_id"] = job.id
        if (hint := _hint(items, Path(journal.plan.directory))) is not None:
            result["hint"] = hint
        return result


def _hint(items: Iterable[ItemResult], folder: Path) -> str | None:
    """Return the hint for the first failed item that has one."""
    for item in filter(failed, items):
        if kind := item.get("error_kind"):
            hint = hint_at_limit(kind)
        else:
            ended = Ended(
                item["exit_code"] or 0, item["stderr"], timed_out=item.get("timed_out", False), folder=folder
            )
            hint = hint_for(ended, BY_PARAMETER)
        if hint is not None:
            return hint
    return None


def _damage(lines: int) -> str:
    what = "1 line" if lines == 1 else f"{lines} lines"
    return f"{what} of the earlier results could not be read; items without a result ran again"


def _summary(journal: BatchJournal, elapsed_s: float, at_once: int) -> str:
    total = len(journal.plan.args_list)
    text = f"{journal.succeeded} of {total} succeeded, {journal.failed} failed"
    if (left := total - journal.succeeded - journal.failed) > 0:
        text += f", {left} were not run because one had failed"
    return f"{text}, in {elapsed_s:.1f} s, {at_once} at a time"


def _folders(call: ScriptCall) -> Path:
    """Return the directory that has the folders of all jobs two levels down."""
    return call.session.home / "output" if call.job is None else call.session.folder.parent.parent


def _sharing(limits: Limits | None) -> Limits | None:
    """Return the limits with a choice of cores that all items share, where the caller gave a number."""
    check_here(limits)
    if limits is None or not isinstance(limits.cpus, int):
        return limits
    import random  # costs a worker 5 ms

    return replace(limits, cpus=tuple(random.sample(usable_cpus() or [], limits.cpus)))


def _check_parallel(max_parallel: Any) -> None:
    whole = isinstance(max_parallel, int) and not isinstance(max_parallel, bool)
    if max_parallel is not None and not (whole and 0 < max_parallel <= _MOST_PARALLEL):
        raise InvalidInput(f"max_parallel is {max_parallel!r}; it must be 1 to {_MOST_PARALLEL}, or unset")
