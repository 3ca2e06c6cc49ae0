"""`jobs dead`: the jobs that failed for good, run again or removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from python_mcp_server.cli.jobs import find_job, jobs, print_jobs
from python_mcp_server.cli.options import home_manager, home_option, json_and_home, print_json, tell, together
from python_mcp_server.cli.streams import say
from python_mcp_server.errors import InvalidInput

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager

_EXAMPLES: Final = """\b
Examples:
  jobs dead list --queue images
  jobs dead retry 1m8nz3jxg4 --arguments '{"size": 100}'
  jobs dead retry --all --kind convert
"""
_which: Final = together(
    click.option("--kind", metavar="NAME", help="Only those of this tool or function."),
    click.option("--queue", metavar="QUEUE", help="Only those of this queue."),
    click.option("--error-kind", metavar="KIND", help="Only those that failed so, such as 'worker_died'."),
)
_ids_or_all: Final = together(
    click.argument("job_ids", metavar="[ID]...", nargs=-1),
    click.option("--all", "every", is_flag=True, help="All that fit, in place of IDs."),
    _which,
)


@jobs.group(epilog=_EXAMPLES)
def dead() -> None:
    """Look at jobs that failed for good, and run them again.

    Those with options keep what is needed for that. A retry is a new job; the failed one is removed.
    """


@dead.command("list")
@_which
@click.option("--limit", type=int, default=50, show_default=True, help="The most jobs to show.")
@click.option("--before", metavar="ID", help="Only jobs older than this one, which may be gone.")
@json_and_home
def list_(limit: int, before: str | None, *, as_json: bool, **which: str | None) -> None:
    """List the jobs that can be run again, newest first."""
    found, more = home_manager().blocking.dead_letters.list(limit=limit, before=before, **which)
    print_jobs(found, "no job that failed for good can be run again", more=more, as_json=as_json)


@dead.command()
@click.argument("job_id", metavar="ID")
@home_option
def show(job_id: str) -> None:
    """Show a job that can be run again, with its arguments, as JSON."""
    manager = home_manager()
    job = manager.blocking.dead_letters.get(find_job(manager, job_id).id)
    spec = job.call or {}
    print_json({"job": job.to_json(), "args": spec.get("args"), "kwargs": spec.get("kwargs")})


@dead.command()
@_ids_or_all
@click.option("--arguments", metavar="JSON", help="An object of keyword arguments, each in the place of the "
              "former one of its name, or an array of all positional ones.")  # fmt: skip
@json_and_home
def retry(
    job_ids: tuple[str, ...], *, every: bool, arguments: str | None, as_json: bool, **which: str | None
) -> None:
    """Run jobs again, as new jobs, and remove the failed ones.

    The new job has the options of the failed one, but waits for no other job, except with --all: those of
    a failed graph wait for each other as before.
    """
    _check(job_ids, which, every=every)
    manager, changed = home_manager(), _arguments(arguments)
    letters = manager.blocking.dead_letters
    if every and changed:
        raise InvalidInput("--arguments and --all exclude each other; name the jobs that get these arguments")
    if every:
        made = {old: job.id for old, job in letters.retry_all(**which).items()}
    else:
        named = [find_job(manager, typed).id for typed in dict.fromkeys(job_ids)]
        made = {old: letters.retry(old, **changed).id for old in named}
    if as_json:
        print_json({"retried": made})
        return
    for old, new in made.items():
        click.echo(f"{old} runs again as {new}")
        _warn(manager, new)
    if not made:
        click.echo("no job fits")


def _warn(manager: JobManager, job_id: str) -> None:
    """Say on stderr what a new job waits for: this process starts none."""
    from python_mcp_server.jobs.servers import NO_SERVER, has_server
    from python_mcp_server.jobs.spec import module_of

    job = manager.store.peek(job_id)
    module = None if job is None or job.call is None else module_of(job.call)
    if module is not None:
        say(f"{job_id} waits until a server of this home is up that has loaded the module {module}")
    elif not has_server(manager.store):
        say(f"{job_id} waits: {NO_SERVER}")


@dead.command()
@_ids_or_all
@json_and_home
def drop(job_ids: tuple[str, ...], *, every: bool, as_json: bool, **which: str | None) -> None:
    """Remove jobs that could be run again, with their output."""
    _check(job_ids, which, every=every)
    manager = home_manager()
    letters = manager.blocking.dead_letters
    if every:
        count = letters.drop_all(**which)
    else:
        named = [letters.get(find_job(manager, typed).id).id for typed in dict.fromkeys(job_ids)]
        for job_id in named:
            letters.drop(job_id)
        count = len(named)
    tell(f"{count} dropped", {"dropped": count}, as_json=as_json)


def _check(job_ids: tuple[str, ...], which: dict[str, str | None], *, every: bool) -> None:
    if bool(job_ids) == every:
        raise click.UsageError("give the IDs of jobs, or --all for all that fit; one of them")
    if job_ids and any(which.values()):
        raise click.UsageError("--kind, --queue and --error-kind go with --all")


def _arguments(text: str | None) -> dict[str, Any]:
    """Return the changed arguments as parameters of `DeadLetters.retry`."""
    if text is None:
        return {}
    from python_mcp_server.jobs.dead_letters import as_arguments

    try:
        return as_arguments(json.loads(text))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"--arguments is {text!r:.160}; it must be JSON: {error}") from None
