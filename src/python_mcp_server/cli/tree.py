"""`jobs tree`: the graph or the chain of a job, drawn with the states and times of its jobs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from python_mcp_server.cli.jobs import find_job, jobs
from python_mcp_server.cli.options import home_manager, json_and_home, print_json
from python_mcp_server.jobs.rows import elapsed_s, plain, row

if TYPE_CHECKING:
    from rich.text import Text

    from python_mcp_server.jobs.relatives import Relatives


@jobs.command()
@click.argument("job_id", metavar="ID")
@json_and_home
def tree(job_id: str, *, as_json: bool) -> None:
    """Draw the jobs that a job waits for, and those that wait for it.

    ID is a job of a graph, or that of the graph itself: then all of its jobs are drawn. A job that waits for
    several others stands below the last of these.
    """
    from python_mcp_server.jobs.relatives import relatives_of

    manager = home_manager()
    found = relatives_of(manager.store, find_job(manager, job_id))
    if as_json:
        graph = None if found.graph is None else found.graph.id
        print_json({"graph": graph, "jobs": [_node(found, each) for each in found.jobs]})
    else:
        _draw(found)


def _node(found: Relatives, job_id: str) -> dict[str, Any]:
    job = found.jobs[job_id]
    facts = {"id": job_id, "status": "removed"} if job is None else row(job)
    return facts | {"node": found.names.get(job_id), "after": list(found.after(job_id))}


def _draw(found: Relatives) -> None:
    from rich.text import Text
    from rich.tree import Tree

    from python_mcp_server.cli.show import console, short_ids

    ids = dict(
        zip(found.jobs, short_ids(list(found.jobs)) if sys.stdout.isatty() else [*found.jobs], strict=True)
    )
    title = "" if found.graph is None else f"{plain(found.graph.label)} {found.graph.id}"
    top = Tree(Text(title, style="bold"), hide_root=not title)
    drawn, place = dict[str, Tree](), {job_id: number for number, job_id in enumerate(found.jobs)}
    for job_id in found.jobs:
        above = [other for other in found.after(job_id) if other in drawn]
        last = max(above, key=place.__getitem__, default=None)
        others = [found.names.get(other) or ids[other] for other in above if other != last]
        branch = top if last is None else drawn[last]
        drawn[job_id] = branch.add(Text(f"{ids[job_id]} ") + _words(found, job_id, others))
    console().print(top)


def _words(found: Relatives, job_id: str, others: list[str]) -> Text:
    from rich.text import Text

    from python_mcp_server.cli.show import span, state

    job = found.jobs[job_id]
    if job is None:
        return Text("removed", style="dim")
    words = Text(f"{plain(found.names.get(job_id) or job.label)} ") + state(job)
    if job.started_at is not None:
        words += Text(f" {span(elapsed_s(job))}")
    return words + Text(f", also after {', '.join(others)}" if others else "")
