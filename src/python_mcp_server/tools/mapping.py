"""The body of `py_map_script`: one script, many argument lists, all cores. A model reads its docstring."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from python_mcp_server.context import report_progress
from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import Limits
from python_mcp_server.processes.machine import usable_cpus
from python_mcp_server.runner.command import Interpreter, interpreter_in_directory
from python_mcp_server.runner.environ import given_variables
from python_mcp_server.runner.limits import check_here, cores_of, thread_variables
from python_mcp_server.runner.mapping import Answer, Crew, Item
from python_mcp_server.runner.mapping_slot import Setup
from python_mcp_server.runner.metadata import Header, merge, parse_header
from python_mcp_server.runner.session import deadline_after
from python_mcp_server.runner.uv import Uv
from python_mcp_server.settings import Settings
from python_mcp_server.tools.mapping_book import Book, at_rest, failed, folder_of, plan_in
from python_mcp_server.tools.mapping_results import ItemResult, MapResult
from python_mcp_server.tools.mapping_wish import Wish
from python_mcp_server.tools.running import Prepared, ScriptCall, place, script_call
from python_mcp_server.tools.sources import source_of

_ITEM_CHARS: Final = 1000
"""Of each stream of an item, unless the caller says; guessed: a traceback."""
_MOST_PARALLEL: Final = 256
_LISTED: Final = 100


def map_script(  # noqa: PLR0917 - the parameters of a tool
    directory: str | None = None,
    script_path: str | None = None,
    script_content: str | None = None,
    args_list: list[list[str]] | None = None,
    args_file: str | None = None,
    max_parallel: int | None = None,
    stop_on_failure: bool = False,
    python_version: str | None = None,
    dependencies: list[str] | None = None,
    resume: str | None = None,
    retry_failed: bool = False,
    timeout_seconds: float = 300,
    env_vars: dict[str, str] | None = None,
    env_file: str | None = None,
    memory_limit_mb: float | None = None,
    cpu_time_limit_seconds: float | None = None,
    nice: int | None = None,
    cpus: int | list[int] | None = None,
    output_chars: int | None = None,
) -> MapResult:
    """Run one Python script over many argument lists, on all cores, as one job.

    Use this rather than many calls, or a script with a pool: the interpreter is chosen and packages are
    installed once, one job shows the progress of all ("12 of 200 done, 1 failed, 2 running"), and each
    run (item) has its own exit code, output, time limit and memory limit. One that fails does not touch
    the others. Each result is kept as it comes: while the job runs, py_job_output with stream="items"
    shows those that are there. After a cancel, a crash or failures, `resume` with the job's id goes on
    with what has no result yet. Items that fail are a normal result: read `failed_indexes` and `items`.

    Args:
        directory: The working directory of all items; it must exist. Its environment is used as by
            py_run_script_in_dir. Needed unless `resume` is given.
        script_path: A script file, absolute or relative to `directory`.
        script_content: Python code to run as if it were a script in `directory`.
        args_list: The command line arguments of each item, such as [["a.csv"], ["b.csv", "--fast"]].
        args_file: A file to read them from instead, absolute or relative to `directory`: a line for each
            item, a JSON list of texts, or else the one argument.
        max_parallel: How many run at once. Unset: one per core.
        stop_on_failure: Start no other item once one has failed; those that run are seen through.
        python_version: Such as "3.12". Unset: what the script's header or the directory asks for, else
            the server's own version.
        dependencies: Packages beside those of the script's PEP 723 header, such as "pandas>=2"; the
            environment is then one of its own.
        resume: The job_id of an earlier batch that has ended, of whatever kind its end was. Its results
            are taken over, and the other items run. What is not given here is as it was there; only
            `env_vars`, limits and how it is run are not kept.
        retry_failed: With `resume`: run those that failed again, too.
        timeout_seconds: After this long an item and everything it started are killed, and its stderr
            ends with `[TIMEOUT]`; the others go on. Installing may take as long. 0 means no limit.
        env_vars: Environment variables of all items, on top of all others. They are not stored.
        env_file: A file of variables (`NAME=value` lines), absolute or relative to `directory`.
        memory_limit_mb: Memory of an item and all it starts together, in MB. Beyond it they are killed,
            and the item has failed. Unset: no limit.
        cpu_time_limit_seconds: The same for the CPU time of all of them together.
        nice: Priority from 0 (the server's own, mostly) to 19 (only when the machine is idle).
        cpus: Cores that all items share: how many, or a list of their numbers.
        output_chars: How much of each item's stdout, and of its stderr, its result has, head and tail
            together. Unset: 1000. Where there is more, the result names the file with all of it.
    """
    limits = Limits.given(
        memory_limit_mb=memory_limit_mb, cpu_time_limit_seconds=cpu_time_limit_seconds, nice=nice, cpus=cpus
    )
    _check_parallel(max_parallel)
    wish = Wish(
        directory, script_path, script_content, args_list, args_file, dependencies, python_version, env_file
    )
    shown = _ITEM_CHARS if output_chars is None else output_chars
    with script_call(timeout_seconds, {}, limits, shown) as call:
        before = None if resume is None else folder_of(_folders(call), resume)
        plan = wish.plan(None if before is None else plan_in(before), env_vars, resume)
        terms = _Terms(timeout_seconds, max_parallel, stop_on_failure, _sharing(limits), env_vars)
        batch = _Batch(call, Book(call.session.folder, plan), terms)
        with batch.book.open():
            reused = 0
            if before is not None and resume is not None:
                with at_rest(before, resume):
                    reused = batch.book.take_over(before, failures=not retry_failed)
            return batch.run(reused)


@dataclass(frozen=True, slots=True)
class _Terms:
    """How a batch is run."""

    timeout_seconds: float
    max_parallel: int | None
    stop_on_failure: bool
    limits: Limits | None
    env_vars: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class _Batch:
    """One batch, within its call."""

    call: ScriptCall
    book: Book
    terms: _Terms

    def run(self, reused: int) -> MapResult:
        """Run what has no result yet, and return all results."""
        plan, count = self.book.plan, len(self.book.plan.args_list)
        todo = [index for index in range(count) if not self.book.has(index)]
        at_once = min(self.terms.max_parallel or cores_of(self.terms.limits), len(todo))
        prepared = self._prepare(at_once)
        started = time.monotonic()
        if todo:
            with Crew(self._setup(prepared), self._record, self._is_last) as crew:
                items = (Item(index, plan.args_list[index]) for index in todo)
                self._follow(crew, crew.run(items, at_once))
        return self._result(prepared.interpreter, at_once, reused, time.monotonic() - started)

    def _prepare(self, at_once: int) -> Prepared:
        """Choose the interpreter, once for all items."""
        plan, limits = self.book.plan, self.terms.limits
        folder = Path(plan.directory)
        script = None if plan.script_path is None else Path(plan.script_path)
        header = parse_header(source_of(script, plan.script_content))
        if plan.dependencies:
            header = header or Header()
            header = replace(header, dependencies=merge(header.dependencies, plan.dependencies))
        given = given_variables(self.terms.env_vars, plan.env_file, folder)
        share = Limits(cpus=max(1, cores_of(limits) // max(1, at_once)))
        given = {**thread_variables(share), **given}
        session = replace(self.call.session, given=given, limits=limits)
        interpreter = interpreter_in_directory(
            Uv(session), folder, header, use_uv=True, python_version=plan.python_version
        )
        return Prepared(
            session, interpreter, place(self.call, script, plan.script_content, folder), (), folder
        )

    def _setup(self, prepared: Prepared) -> Setup:
        limit_s = self.terms.timeout_seconds
        return Setup(
            prepared.command,
            self.call.session.job_id,
            self.book.outputs,
            limit_s if deadline_after(limit_s) is not None else None,
            self.terms.limits,
            self.call.output_chars,
        )

    def _record(self, answer: Answer) -> None:
        self.book.add(cast("ItemResult", answer))

    def _is_last(self, answer: Answer) -> bool:
        return self.terms.stop_on_failure and failed(cast("ItemResult", answer))

    def _follow(self, crew: Crew, answers: Iterable[Answer]) -> None:
        """Take the answers as they come, and tell of them."""
        self._tell(0)
        for _ in answers:
            self._tell(crew.running)

    def _tell(self, running: int) -> None:
        book = self.book
        total, done = len(book.plan.args_list), book.succeeded + book.failed
        report_progress(done, total, f"{done} of {total} done, {book.failed} failed, {running} running")

    def _result(self, used: Interpreter, at_once: int, reused: int, elapsed_s: float) -> MapResult:
        book, job = self.book, self.call.job
        total = len(book.plan.args_list)
        ended = book.succeeded + book.failed
        items = book.results(2 * Settings.from_environ().output_chars)
        result: MapResult = {
            "summary": _summary(book, elapsed_s, at_once),
            "total": total,
            "succeeded": book.succeeded,
            "failed": book.failed,
            "not_run": total - ended,
            "failed_indexes": sorted(book.failures)[:_LISTED],
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
        if len(items) < ended:
            result["items_left_out"] = ended - len(items)
        if job is not None and (book.cut or book.failed or len(items) < total):
            job.keep_record()
            result["job_id"] = job.id
        return result


def _summary(book: Book, elapsed_s: float, at_once: int) -> str:
    total = len(book.plan.args_list)
    text = f"{book.succeeded} of {total} succeeded, {book.failed} failed"
    if (left := total - book.succeeded - book.failed) > 0:
        text += f", {left} were not run because one had failed"
    return f"{text}, in {elapsed_s:.1f} s, {at_once} at a time"


def _folders(call: ScriptCall) -> Path:
    """Return what the folders of all jobs lie below."""
    return call.session.home / "output" if call.job is None else call.session.folder.parent.parent


def _sharing(limits: Limits | None) -> Limits | None:
    """Return the limits with the same cores for all items, where a number of them is given."""
    check_here(limits)
    if limits is None or not isinstance(limits.cpus, int):
        return limits
    import random  # costs a worker 5 ms

    return replace(limits, cpus=tuple(random.sample(usable_cpus() or [], limits.cpus)))


def _check_parallel(max_parallel: Any) -> None:
    whole = isinstance(max_parallel, int) and not isinstance(max_parallel, bool)
    if max_parallel is not None and not (whole and 0 < max_parallel <= _MOST_PARALLEL):
        raise InvalidInput(f"max_parallel is {max_parallel!r}; it must be 1 to {_MOST_PARALLEL}, or unset")
