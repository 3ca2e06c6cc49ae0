"""`schedules`: Python that runs at times, as jobs that the servers of the home start."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from python_mcp_server.cli.options import (
    Number,
    environment_options,
    home_manager,
    json_and_home,
    limit_options,
    print_json,
    tell,
)
from python_mcp_server.cli.run import AsPython, request_of
from python_mcp_server.cli.streams import say
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.schedule import MISSED, OVERLAPS
from python_mcp_server.model import iso, utc_now

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.jobs.schedule import Schedule
    from python_mcp_server.jobs.schedules import BlockingSchedules

_EXAMPLES: Final = """\b
Examples:
  schedules add --cron '0 3 * * *' --tz Europe/Berlin backup.py --all
  schedules add --every 600 --name mail -m mailbox.fetch
  schedules add --delay 3600 report.py
  schedules list
  schedules next backup.py
"""


@click.group(epilog=_EXAMPLES)
def schedules() -> None:
    """Run Python at times, by a server of the home that is there then.

    A SCHEDULE is given by its name or its id.
    """


def _schedules() -> BlockingSchedules:
    return home_manager().schedules.blocking


@schedules.command(cls=AsPython, context_settings={"allow_interspersed_args": False}, epilog=_EXAMPLES)
@click.option("--cron", metavar="EXPRESSION",
              help="When: minute, hour, day, month, weekday; a 6th in front is for seconds.")  # fmt: skip
@click.option("--every", type=Number("seconds", 0), metavar="SECONDS", help="Or each so many seconds.")
@click.option("--at", metavar="TIME", help="Or once, such as 2027-01-31T09:00.")
@click.option("--delay", type=Number("seconds", 0), metavar="SECONDS", help="Or once, in so many seconds.")
@click.option("--tz", default="UTC", show_default=True, metavar="ZONE",
              help="The time zone of --cron and --at, such as Europe/Berlin.")  # fmt: skip
@click.option("--name", metavar="NAME", help="The name of the schedule.  [default: what runs]")
@click.option("--missed", type=click.Choice(MISSED), default="once", show_default=True,
              help="Times at which no server was there: none, one job for all, or one for each.")  # fmt: skip
@click.option("--overlap", type=click.Choice(OVERLAPS),
              help="While the job before runs: drop the time, let it wait, or start it.  "
              "[default: skip; wait with --missed all]")  # fmt: skip
@click.option("-m", "module", metavar="NAME", help="Run a module, as `python -m`; all that follows is its.")
@click.option("-c", "code", metavar="CODE", help="Run this code, as `python -c`; all that follows is its.")
@click.option("--timeout", "timeout_seconds", type=Number("seconds", 0), default=0.0, metavar="SECONDS",
              help="End a job after this long; 0 means no limit.")  # fmt: skip
@limit_options
@environment_options
@json_and_home
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT] [ARGS]...")
def add(
    words: tuple[str, ...],
    *,
    cron: str | None,
    every: float | None,
    at: str | None,
    delay: float | None,
    tz: str,
    name: str | None,
    missed: str,
    overlap: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a script at times, as `run` runs it.

    A schedule keeps no secrets, so --env and --env-file are refused: let the script read what it needs.
    """
    if [cron, every, at, delay].count(None) != 3:  # noqa: PLR2004  one of four
        raise click.UsageError("give exactly one of --cron, --every, --at and --delay")
    request, when = request_of(words, **options, label=None, merged=False), _at(at, delay)
    manager = home_manager(makes=True)
    made = manager.schedules.blocking.add(
        request,
        cron=cron,
        every=every,
        at=when,
        tz=tz,
        name=name,
        missed=missed,
        overlap=overlap,
    )
    _tell(made, f"next at {_shown(made.next_time(utc_now()))}", as_json=as_json)
    _warn_without_server(manager)


def _warn_without_server(manager: JobManager) -> None:
    """Say on stderr where no program is up that would start the jobs of schedules."""
    from python_mcp_server.jobs.servers import NO_SERVER, has_server

    if not has_server(manager.store):
        say(f"{NO_SERVER}, and schedules start jobs while one is up only")


@schedules.command("list")
@json_and_home
def list_(*, as_json: bool) -> None:
    """List schedules, by name."""
    manager, now = home_manager(), utc_now()
    found = manager.schedules.blocking.list()
    if as_json:
        print_json({"schedules": [each.to_json(now) for each in found]})
    elif not found:
        click.echo("no schedules")
    else:
        _print(found, now)
        if not all(each.paused for each in found):
            _warn_without_server(manager)


def _print(found: list[Schedule], now: datetime) -> None:
    from rich.table import Table
    from rich.text import Text

    from python_mcp_server.cli.show import SHORT_ID_CHARS, print_table
    from python_mcp_server.jobs.rows import plain

    headings = ["NAME", "WHEN", "NEXT", "LAST", "LAST JOB", "MISSED", "WHAT"]
    table = Table(*headings, box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for each in found:
        told = each.to_json(now)
        following = "paused" if each.paused else _shown(each.next_time(now))
        last = "" if each.last is None else _shown(each.last)
        last_job = each.jobs[-1][:SHORT_ID_CHARS] if each.jobs else ""
        missed = str(each.missed_times.count or "")
        cells = [each.name, _when(each), following, last, last_job, missed, told["ran"] or ""]
        table.add_row(*(Text(plain(cell)) for cell in cells))
    print_table(table)


def _when(schedule: Schedule) -> str:
    table = schedule.timetable
    if table.every is not None:
        return f"every {table.every:g} s"
    return f"{table.cron} {table.tz}" if table.cron else f"at {_shown(table.at)}"


def _shown(when: datetime | None) -> str:
    return "never" if when is None else when.astimezone().isoformat(sep=" ", timespec="seconds")


@schedules.command()
@click.argument("schedule", metavar="SCHEDULE")
@json_and_home
def pause(schedule: str, *, as_json: bool) -> None:
    """Start no jobs of a schedule from now on; those that run go on."""
    _tell(_schedules().pause(schedule), "paused", as_json=as_json)


@schedules.command()
@click.argument("schedule", metavar="SCHEDULE")
@json_and_home
def resume(schedule: str, *, as_json: bool) -> None:
    """Start jobs of a paused schedule again, from its next time on."""
    made = _schedules().resume(schedule)
    _tell(made, f"next at {_shown(made.next_time(utc_now()))}", as_json=as_json)


@schedules.command()
@click.argument("schedule", metavar="SCHEDULE")
@json_and_home
def rm(schedule: str, *, as_json: bool) -> None:
    """Remove a schedule; its jobs stay."""
    _tell(_schedules().remove(schedule), "removed", as_json=as_json)


def _tell(schedule: Schedule, words: str, *, as_json: bool) -> None:
    tell(f"{schedule.name}: {words}", {"schedule": schedule.to_json(utc_now())}, as_json=as_json)


@schedules.command("next")
@click.argument("schedule", metavar="SCHEDULE")
@click.option("-n", "n", type=int, default=5, show_default=True, help="How many times.")
@json_and_home
def next_(schedule: str, n: int, *, as_json: bool) -> None:
    """Show the next times of a schedule, also of one that is paused."""
    found = _schedules().next_times(schedule, n)
    tell("\n".join(map(_shown, found)) or "never", {"next": list(map(iso, found))}, as_json=as_json)


@schedules.command()
@click.argument("schedule", metavar="SCHEDULE")
@json_and_home
def run(schedule: str, *, as_json: bool) -> None:
    """Run a schedule's job now; a server of the home starts it."""
    job = _schedules().run_now(schedule)
    tell(f"{job.id} waits for a server of this home to start it", {"job": job.to_json()}, as_json=as_json)


def _at(text: str | None, delay: float | None) -> datetime | None:
    try:
        if delay is not None:
            return utc_now() + timedelta(seconds=delay)
        return None if text is None else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        told = f"--at is {text!r:.100}" if delay is None else f"--delay is {delay:g}"
        raise InvalidInput(f"{told}; it must be a time such as 2027-01-31T09:00, or seconds") from None
