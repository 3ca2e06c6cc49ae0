"""`jobs`: look at jobs and end them, also those of other servers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from python_mcp_server.cli.options import (
    TEXT,
    Number,
    home_manager,
    json_and_home,
    print_json,
    tell,
)
from python_mcp_server.errors import InvalidInput, JobNotFound, PythonMcpError
from python_mcp_server.jobs.output import READABLE, RESULT
from python_mcp_server.jobs.rows import TIMED_OUT, ending_words, exit_code, listing, note, plain, row
from python_mcp_server.model import JobState, new_job_id, utc_now
from python_mcp_server.store.layout import is_job_id

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.jobs.output import Wanted
    from python_mcp_server.model import Job
    from python_mcp_server.questions.model import InputAnswer, Question

_PAGE_BYTES: Final = 65536
_SHORTEST_CHARS: Final = 4
_RECENT_JOBS: Final = 1000
_POLL_S: Final = 0.1
_LONGEST_HOURS: Final = 24 * 365 * 100
_EXAMPLES: Final = """\b
Examples:
  jobs list --status running
  jobs show 1m8nz3jxg4                  an id as `jobs list` shows it
  jobs output 1m8nz3jxg4 --follow       what it prints, until it ends
"""
_OUTPUT_EXAMPLES: Final = """\b
Examples:
  jobs output 1m8nz3jxg4 --tail 20 --follow
  jobs output 1m8nz3jxg4 --pattern '(?i)error|warning'
  jobs output 1m8nz3jxg4 --stream stderr > errors.txt
"""
_ANSWER_EXAMPLES: Final = """\b
Examples:
  jobs answer 1m8nz3jxg4 folder folder=old really=true
  jobs answer 1m8nz3jxg4 folder --decline
"""


@click.group(epilog=_EXAMPLES)
def jobs() -> None:
    """Look at jobs and end them: those of every server with this home.

    An ID may be cut to a beginning that no other job has, or to an end that no other of the last 1000 has.
    """


@jobs.command("list")
@click.option("--status", "status_filter", type=TEXT, metavar="STATE",
              help="Only jobs in this state, such as 'running'; a failed script is completed.")  # fmt: skip
@click.option("--limit", type=int, default=50, show_default=True, help="The most jobs to show.")
@click.option("--before", type=TEXT, metavar="ID", help="Only jobs older than this one, which may be gone.")
@json_and_home
def list_(status_filter: str | None, limit: int, before: str | None, *, as_json: bool) -> None:
    """List jobs, newest first."""
    from python_mcp_server.jobs.request import state_named

    manager, status = home_manager(), state_named(status_filter)
    if before is not None and not is_job_id(before):  # a whole id may be that of a job that is gone
        before = find_job(manager, before).id
    found, more = manager.blocking.list(status, limit, None, before)
    which = "no older job" if before else "no job"
    nothing = f"{which}s" if status_filter is None else f"{which} is {status_filter}"
    print_jobs(found, nothing, more=more, as_json=as_json)


def print_jobs(found: list[Job], nothing: str, *, more: bool, as_json: bool) -> None:
    """Print a list of jobs, or in words that there is nothing; stderr says how it goes on."""
    if as_json:
        print_json(listing(found, more, row))
        return
    from python_mcp_server.cli.show import console, jobs_table, print_table

    if found:
        print_table(jobs_table(found, width=console().width))
    else:
        click.echo(nothing)
    if more:
        click.echo(f"and more; --before {found[-1].id} goes on", err=True)


@jobs.command("stats")
@click.option("--window", "window_seconds", type=Number("seconds", 0), default=3600.0, show_default=True,
              metavar="SECONDS", help="How far to look back.")  # fmt: skip
@click.option("--by", type=click.Choice(("kind", "client", "label", "queue")), default="kind",
              show_default=True, help="What makes a line.")  # fmt: skip
@json_and_home
def stats_(window_seconds: float, by: str, *, as_json: bool) -> None:
    """Show how jobs of late have waited, run and ended."""
    from python_mcp_server.jobs.stats import stats

    found = stats(home_manager().store, window_seconds, by)
    if as_json:
        print_json(found)
        return
    from python_mcp_server.cli.show import print_table, stats_table

    print_table(stats_table(found))
    click.echo("now: " + ", ".join(f"{count} {name}" for name, count in found["queue"].items()))
    if not found["complete"]:
        click.echo("the journal does not go back so far", err=True)


@jobs.command()
@click.argument("job_id", metavar="ID")
@json_and_home
def show(job_id: str, *, as_json: bool) -> None:
    """Show one job: its state, times, usage, and result or error."""
    manager = home_manager()
    job = find_job(manager, job_id)
    if as_json:
        print_json({"job": job.to_json()})
        return
    from python_mcp_server.cli.show import job_table, print_table
    from python_mcp_server.jobs.item_pages import count_items
    from python_mcp_server.jobs.relatives import predecessors_of

    before = predecessors_of(manager.store, job)
    print_table(job_table(job, count_items(manager.store.folder(job.id)), before))


@jobs.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "--timeout", "timeout_s", type=Number("seconds", 0), metavar="SECONDS", help="The longest wait."
)
@json_and_home
def wait(job_id: str, timeout_s: float | None, *, as_json: bool) -> int:
    """Wait for the end of a job, or of all jobs of a graph.

    The exit code is that of the job's script, or 0 for another job that completed; 1 where it failed or was
    cancelled, or an item of a batch failed, 124 where the time ran out.
    """
    from python_mcp_server.cli.follow import progress_line
    from python_mcp_server.jobs.graph_jobs import is_graph, jobs_of, unended_of

    manager = home_manager()
    with progress_line() as screen:

        def tell_question(job: Job, question: Question) -> None:
            screen.clear()
            _tell_question(job, question)

        job, timed_out = wait_for_job(manager, job_id, timeout_s, tell_question, screen.show)
    if timed_out and is_graph(job):
        ended = f"{len(unended_of(manager.store, job))} of its jobs have not ended"
        tell(f"{job.id}: {ended}", {"job": job.to_json(), "timed_out": True}, as_json=as_json)
        return TIMED_OUT
    reason = f": {plain(job.message)}" if job.status is JobState.PENDING and job.message else ""
    words = f"still {job.status.value}{reason}" if timed_out else ending_words(job) or job.status.value
    words = f"{job.id} {words}" + (f": {plain(note(job))}" if job.status is JobState.FAILED else "")
    tell(words, {"job": job.to_json(), "timed_out": timed_out}, as_json=as_json)
    return TIMED_OUT if timed_out else max(map(exit_code, [job, *jobs_of(manager.store, job)]))


def _tell_question(job: Job, question: Question) -> None:
    from python_mcp_server.cli.show import SHORT_ID_CHARS

    short, key = job.id[:SHORT_ID_CHARS], plain(question.key)
    click.echo(f"{job.id} asks: {plain(question.message)}", err=True)
    click.echo(f"answer with: python-mcp-server jobs answer {short} {key} ...", err=True)


@jobs.command(epilog=_OUTPUT_EXAMPLES)
@click.argument("job_id", metavar="ID")
@click.option("--stream", type=click.Choice(READABLE), default="stdout", show_default=True,
              help="failures: of a run of tests; items: what it emitted; a line of JSON each. "
              "result: as JSON.")  # fmt: skip
@click.option("--follow", is_flag=True, help="Go on until the job ends.")
@click.option("--offset", type=int, default=0, help="The byte to start at.")
@click.option("--limit", type=int, help=f"The most bytes to show.  [default: all; {_PAGE_BYTES} as JSON]")
@click.option("--line", type=int, help="The line to start at instead, from 1; below 0: from the end.")
@click.option(
    "--tail", type=click.IntRange(min=1), metavar="N", help="Only the last N lines, and what follows."
)
@click.option("--pattern", metavar="REGEX", help="Only the lines that match, each after its number.")
@json_and_home
def output(job_id: str, *, follow: bool, as_json: bool, tail: int | None, **wanted: Any) -> None:
    """Show what a job wrote, while it runs or afterwards.

    The bytes come as they are, with --pattern in lines of text. As JSON a page of text comes, with the offset
    of the next one.
    """
    from python_mcp_server.jobs.output import Wanted

    if as_json and follow:
        raise click.UsageError("--follow and --json exclude each other; page with --offset instead")
    if tail is not None:
        if wanted["line"] is not None or wanted["offset"]:
            raise click.UsageError("--tail, --line and --offset exclude each other; give one of them")
        wanted["line"] = -tail
    limit = wanted.pop("limit")
    asked = Wanted(**wanted, limit=_PAGE_BYTES if limit is None else limit)
    asked.check()
    manager = home_manager()
    found = find_job(manager, job_id).id
    if as_json:
        print_json(_page(manager, found, asked))
        return
    if asked.stream == RESULT:
        _print_result(manager, found, asked, limit, follow=follow)
        return
    from python_mcp_server.cli.follow import copy_matches, copy_output

    if asked.pattern is not None:
        copy_matches(manager, found, asked, follow=follow)
        return
    copy_output(
        manager, found, asked.stream, offset=_first_byte(manager, found, asked), limit=limit, follow=follow
    )


def _print_result(
    manager: JobManager, job_id: str, wanted: Wanted, limit: int | None, *, follow: bool
) -> None:
    """Print the JSON of a result, or so many bytes of it."""
    if follow or (wanted.line, wanted.pattern) != (None, None):
        raise click.UsageError("--stream result goes with --offset and --limit only")
    offset, is_whole = wanted.offset, False
    while not is_whole:
        page = manager.blocking.output(job_id, RESULT, offset, wanted.limit)
        click.echo(page.text, nl=False)
        offset, is_whole = page.next_offset, page.eof or limit is not None or page.next_offset == offset


def _page(manager: JobManager, job_id: str, wanted: Wanted) -> dict[str, Any]:
    """Return a page as it was written; with a line or a pattern, its lines as a screen shows them."""
    if wanted.line is None and wanted.pattern is None:
        return asdict(manager.blocking.output(job_id, wanted.stream, wanted.offset, wanted.limit))
    page = asdict(manager.blocking.lines(job_id, wanted))
    return {name: value for name, value in page.items() if value is not None}


def _first_byte(manager: JobManager, job_id: str, wanted: Wanted) -> int:
    from python_mcp_server.jobs.output import offset_of

    if wanted.line is None:
        return wanted.offset
    return offset_of(manager.store.folder(job_id) / wanted.stream, wanted.line)


@jobs.command()
@click.argument("job_id", metavar="ID")
@json_and_home
def cancel(job_id: str, *, as_json: bool) -> int:
    """Cancel a job or a graph; return when its last process is gone.

    The exit code is 0 when the job is cancelled, 1 when it had ended otherwise.
    """
    from python_mcp_server.jobs.graph_jobs import cancelled_of, unended_of
    from python_mcp_server.jobs.request import cancellation

    manager = home_manager()
    before = find_job(manager, job_id)
    unended = unended_of(manager.store, before)
    ended_before = before.status.terminal and not unended
    job = before if ended_before else manager.blocking.cancel(before.id)
    jobs = cancelled_of(manager.store, unended)
    answer = cancellation(job, ended_before=ended_before, of_graph=jobs)
    tell(answer["message"], answer, as_json=as_json)
    return int(answer["status"] != "cancelled")


@jobs.command(epilog=_ANSWER_EXAMPLES)
@click.argument("job_id", metavar="ID")
@click.argument("key", metavar="KEY")
@click.argument("values", metavar="[FIELD=VALUE]...", nargs=-1)
@click.option("--json-answer", metavar="OBJECT", help="The answer as a JSON object instead.")
@click.option("--decline", is_flag=True, help="Say no.")
@click.option("--cancel", is_flag=True, help="Put the question away without a choice.")
@json_and_home
def answer(
    job_id: str,
    key: str,
    values: tuple[str, ...],
    json_answer: str | None,
    *,
    decline: bool,
    cancel: bool,
    as_json: bool,
) -> None:
    """Answer a question that a job asks.

    `jobs show` lists the questions with their keys and fields. Where a question has one field, its value
    alone will do.
    """
    from python_mcp_server.jobs.questions import question_of

    if decline and cancel:
        raise click.UsageError("--decline and --cancel exclude each other; give one of them")
    action = "decline" if decline else "cancel" if cancel else "accept"
    manager = home_manager()
    found = find_job(manager, job_id)
    given = typed_answer(question_of(found, key), values, action, json_answer)
    job = manager.blocking.answer(found.id, {key: given})
    words = f"{plain(key)} of {job.id} is answered; the job is {job.status.value}"
    tell(words, {"job": job.to_json()}, as_json=as_json)


@jobs.command()
@click.option("--keep-completed/--drop-completed", default=True,
              help="Completed jobs stay unless dropped, also those whose script failed.")  # fmt: skip
@click.option("--keep-failed/--drop-failed", default=True, help="Failed jobs stay unless dropped.")
@click.option(
    "--max-age-hours", type=Number("hours", 0), default=24.0, show_default=True, help="Only older jobs go."
)
@json_and_home
def prune(max_age_hours: float, *, keep_completed: bool, keep_failed: bool, as_json: bool) -> None:
    """Remove old jobs that have ended, with their output. Cancelled ones always go."""
    manager = home_manager()
    pruned = manager.blocking.prune(
        keep_completed=keep_completed, keep_failed=keep_failed, max_age_hours=max_age_hours
    )
    if as_json:
        print_json({"removed": pruned.removed, "remaining": pruned.remaining})
        return
    click.echo(f"{pruned.removed} removed, {pruned.remaining} remaining")
    kept = {JobState.COMPLETED: keep_completed, JobState.FAILED: keep_failed}
    for state, keeps in kept.items() if pruned.remaining else ():
        if keeps and (count := _older(manager, state, max_age_hours)):
            click.echo(f"--drop-{state.value} would remove {count}")
        elif not (keeps or pruned.removed) and (count := _older(manager, state, 0)):
            click.echo(f"{state.value}: --max-age-hours 0 would remove {count}")


def _older(manager: JobManager, state: JobState, hours: float) -> str:
    """Return how many of the last 1000 jobs in a state ended before so many hours; empty for none."""
    end = utc_now() - timedelta(hours=min(hours, _LONGEST_HOURS))
    found, more = manager.blocking.list(state, _RECENT_JOBS, None, new_job_id(end))
    count = sum((job.completed_at or job.created_at) <= end for job in found)
    return f"{count} or more" if count and more else str(count or "")


@jobs.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@json_and_home
def rm(job_ids: tuple[str, ...], *, as_json: bool) -> None:
    """Remove jobs that have ended, with their output."""
    from python_mcp_server.jobs.expired import remove_job

    manager = home_manager()
    try:
        found = [find_job(manager, typed) for typed in dict.fromkeys(job_ids)]
    except InvalidInput as error:
        raise InvalidInput(f"{error}; nothing was removed") from error
    except JobNotFound as error:
        raise PythonMcpError(f"{error}; nothing was removed") from error
    for job in found:
        if not job.status.terminal:
            raise InvalidInput(f"job {job.id} is {job.status.value}; cancel it first, nothing was removed")
    removed = [job.id for job in found if remove_job(manager.store, job)]
    tell(f"{len(removed)} removed", {"removed": removed}, as_json=as_json)


@jobs.group()
def cache() -> None:
    """Look after the results that equal calls share."""


@cache.command()
@click.argument("kind", metavar="[KIND]", required=False)
@json_and_home
def drop(kind: str | None, *, as_json: bool) -> None:
    """Let no later call share a result that is there now.

    KIND is the name of a job's class, function or tool; without it all go. The jobs stay.
    """
    dropped = home_manager().cache.drop(kind)
    tell(f"{dropped} dropped", {"dropped": dropped}, as_json=as_json)


def find_job(manager: JobManager, typed: str) -> Job:
    """Return the job with this id. A beginning of the id is enough, or an end of that of a recent job.

    Raises:
        JobNotFound: No job has this id.
        InvalidInput: Several jobs match.
    """
    from python_mcp_server.jobs.expired import not_found

    if manager.store.peek(typed) is not None:
        return manager.blocking.get(typed)
    found = _beginning_with(manager, typed.lower()) or _ending_with(manager, typed)
    if not found:
        raise not_found(manager.store, typed)
    if len(found) > 1:
        raise InvalidInput(f"ID is {typed!r}, which fits several jobs; give more of it")
    return manager.blocking.get(found[0].id)


def _beginning_with(manager: JobManager, start: str) -> list[Job]:
    """Return the newest jobs whose ids begin so, two at most. Ids sort by time, so no other job is read."""
    last = start.ljust(len(new_job_id()), "z")
    if not start or not is_job_id(last):
        return []
    return [job for job in manager.blocking.list(None, 2, None, last)[0] if job.id.startswith(start)]


def _ending_with(manager: JobManager, end: str) -> list[Job]:
    if len(end) < _SHORTEST_CHARS:
        return []
    recent, _ = manager.blocking.list(None, _RECENT_JOBS)
    return [job for job in recent if job.id.endswith(end)]


def wait_for_job(
    manager: JobManager,
    typed: str,
    timeout_s: float | None,
    on_question: Callable[[Job, Question], None],
    on_look: Callable[[Job], None],
) -> tuple[Job, bool]:
    """Wait until a job ends or the time is over; return the job and whether the time ran out.

    Args:
        manager: The manager of the job.
        typed: The job's id, or a beginning or an end of the id.
        timeout_s: The longest wait; None for ever.
        on_question: Called once with each question that the job waits for.
        on_look: Called with the job each time that it was read and has not ended.
    """
    from python_mcp_server.jobs.graph_jobs import unended_of

    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    job, told = find_job(manager, typed), set[str]()
    while not job.status.terminal:
        for question in job.open_questions:
            if question.key not in told:
                on_question(job, question)
            told.add(question.key)
        on_look(job)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return job, True
        time.sleep(min(left_s, _POLL_S))
        job = manager.blocking.get(job.id)
    for job_id in reversed(unended_of(manager.store, job)):
        left_s = None if timeout_s is None else max(0.0, deadline - time.monotonic())
        if wait_for_job(manager, job_id, left_s, on_question, on_look)[1]:
            return job, True
    return job, False


def typed_answer(question: Question, words: tuple[str, ...], action: str, as_json: str | None) -> InputAnswer:
    """Return the answer that the words of a command line give.

    Args:
        question: The question.
        words: `FIELD=VALUE` each, or one bare value where the question has one field.
        action: "accept", "decline" or "cancel".
        as_json: The answer as a JSON object instead.

    Raises:
        InvalidInput: The words are not a valid answer.
    """
    from python_mcp_server.jobs.questions import answer_of
    from python_mcp_server.questions.forms import from_words

    if (words or as_json is not None) and action != "accept":
        raise InvalidInput(f"--{action} is an answer by itself; leave the values out")
    if as_json is not None:
        return answer_of(question, _object(as_json, words))
    fields: dict[str, Any] = question.schema["properties"]
    if len(words) == 1 and len(fields) == 1 and not words[0].startswith(f"{next(iter(fields))}="):
        given = {next(iter(fields)): words[0]}
    else:
        given = dict(_pair(word, fields) for word in words)
    return answer_of(question, from_words(question.schema, given), action)


def _object(text: str, words: tuple[str, ...]) -> Any:
    if words:
        raise InvalidInput("--json-answer and FIELD=VALUE exclude each other")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"--json-answer is {text!r}; it must be JSON: {error}") from None


def _pair(word: str, fields: dict[str, Any]) -> tuple[str, str]:
    name, separator, value = word.partition("=")
    if not separator:
        known = " ".join(f"{field}=..." for field in fields) or "nothing, for it has no fields"
        raise InvalidInput(f"VALUE is {word!r}; this question wants {known}")
    return name, value
