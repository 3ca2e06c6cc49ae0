"""`jobs move`: the jobs of one store copied to another, with what belongs to their home."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from python_mcp_server.cli.jobs import jobs
from python_mcp_server.cli.options import json_option, print_json
from python_mcp_server.errors import InvalidInput
from python_mcp_server.processes import is_alive
from python_mcp_server.store.opening import MEMORY, open_place, parse_place

if TYPE_CHECKING:
    from python_mcp_server.model import Job

_MOVE_EXAMPLES: Final = """\b
Examples:
  jobs move file:///~/.python_mcp sqlite:///~/.python_mcp/jobs.db
  jobs move file:///~/.python_mcp redis://localhost:6379/0
"""


@jobs.command(epilog=_MOVE_EXAMPLES)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@json_option
def move(source: str, target: str, *, as_json: bool) -> int:
    """Copy every job of one store to another, with its files.

    The stores are URLs as in PYTHON_MCP_STORE. FROM keeps its jobs; one that has not ended goes on in TO,
    if its processes are gone: end the servers first. Keys of submissions, rules of queues, quotas and rates
    are copied too; schedules are moved. What is in TO already is left, so a move that was interrupted goes on
    when it is repeated. The exit code is 1 where jobs stay because they run, and schedules with them.
    """
    from python_mcp_server.store.moving import move_jobs

    there, here = parse_place(source, "FROM"), parse_place(target, "TO")
    if MEMORY in (there.kind, here.kind) or there.path == here.path:  # files lie by path, or by prefix
        told = "they must be two stores that last, on Redis with two prefixes"
        raise InvalidInput(f"FROM is {there} and TO is {here}; {told}")
    if not there.exists():
        raise InvalidInput(f"FROM is {there}, where no store is; it must be one that has jobs")
    with closing(open_place(there)) as old, closing(open_place(here)) as new:
        moved = move_jobs(old, new, _lives)
    if as_json:
        print_json(asdict(moved))
    else:
        schedules = f", {moved.schedules} schedules moved" if moved.schedules else ""
        click.echo(f"{moved.copied} copied, {moved.present} there already{schedules}")
        for part in moved.differing:
            click.echo(f"{part} differs from that of {here}, which stays as it is", err=True)
        for job_id in moved.live:
            click.echo(f"{job_id} has not ended and stays: end its server, or wait for it", err=True)
    return 1 if moved.live else 0


def _lives(job: Job) -> bool:
    return any(is_alive(process) for process in (job.owner, job.worker) if process is not None)
