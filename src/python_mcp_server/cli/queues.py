"""`queues`: look at the queues of background jobs, and change their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from python_mcp_server.cli.options import home_manager, home_option, json_option, print_json
from python_mcp_server.errors import InvalidInput

if TYPE_CHECKING:
    from python_mcp_server.jobs.queues import Queues, QueueState

_MOST_DIGITS: Final = 18
_EXAMPLES: Final = """\b
Examples:
  queues pause images         none of its jobs starts, those that run go on
  queues limit images 2       over all servers of this home
  queues resource gpu 1       jobs with resources={"gpu": 1} run one at a time
"""


@click.group(epilog=_EXAMPLES)
def queues() -> None:
    """Look at the queues of background jobs, and change their rules.

    The rules are those of all servers with this home, and hold until they are changed.
    """


def _queues(*, makes: bool = True) -> Queues:
    return home_manager(makes=makes).blocking.queues


@queues.command("list")
@json_option
@home_option
def list_(*, as_json: bool) -> None:
    """List the queues with their jobs and rules, and the resources."""
    found = _queues(makes=False).list()
    if as_json:
        print_json(found.to_json())
        return
    from python_mcp_server.cli.show import plain_table, print_table

    rows = [[queue.name, queue.ready, queue.running, queue.delayed, _rules(queue)] for queue in found.queues]
    print_table(plain_table(["QUEUE", "READY", "RUNNING", "DELAYED", "RULES"], rows))
    if found.resources:
        facts = [[resource.name, resource.there, resource.taken] for resource in found.resources]
        click.echo()
        print_table(plain_table(["RESOURCE", "THERE", "TAKEN"], facts))


def _rules(queue: QueueState) -> str:
    rules = {
        "paused": queue.paused,
        "draining": queue.draining,
        f"{queue.limit} run at once": queue.limit is not None,
        f"{queue.bound} may wait": queue.bound is not None,
    }
    return ", ".join(words for words, holds in rules.items() if holds)


@queues.command()
@click.argument("queue", metavar="QUEUE")
@json_option
@home_option
def pause(queue: str, *, as_json: bool) -> None:
    """Start no more jobs of a queue; those that run go on."""
    found = _queues()
    found.pause(queue)
    _tell(found, queue, f"{queue} is paused", as_json=as_json)


@queues.command()
@click.argument("queue", metavar="QUEUE")
@json_option
@home_option
def drain(queue: str, *, as_json: bool) -> None:
    """Take no new jobs for a queue; those that wait and run go on."""
    found = _queues()
    found.drain(queue)
    _tell(found, queue, f"{queue} takes no new jobs", as_json=as_json)


@queues.command()
@click.argument("queue", metavar="QUEUE")
@json_option
@home_option
def resume(queue: str, *, as_json: bool) -> None:
    """Start jobs of a queue again, and take new ones."""
    found = _queues()
    found.resume(queue)
    _tell(found, queue, f"{queue} starts jobs and takes new ones", as_json=as_json)


@queues.command()
@click.argument("queue", metavar="QUEUE")
@click.argument("most", metavar="N")
@json_option
@home_option
def limit(queue: str, most: str, *, as_json: bool) -> None:
    """Let at most N jobs of a queue run at once; 'none' for no limit."""
    found, count = _queues(), _count(most)
    found.limit(queue, count)
    words = "has no limit" if count is None else f"runs {count} at once"
    _tell(found, queue, f"{queue} {words}", as_json=as_json)


@queues.command()
@click.argument("queue", metavar="QUEUE")
@click.argument("most", metavar="N")
@json_option
@home_option
def bound(queue: str, most: str, *, as_json: bool) -> None:
    """Let at most N jobs wait in a queue; 'none' for no bound.

    A job that comes when the queue is full is refused. Jobs that wait for a time count.
    """
    found, count = _queues(), _count(most)
    found.bound(queue, count)
    words = "has no bound" if count is None else f"lets {count} wait"
    _tell(found, queue, f"{queue} {words}", as_json=as_json)


@queues.command()
@click.argument("name", metavar="NAME")
@click.argument("most", metavar="N")
@json_option
@home_option
def resource(name: str, most: str, *, as_json: bool) -> None:
    """Set how much there is of a resource; 'none' removes it."""
    found, count = _queues(), _count(most)
    found.resource(name, count)
    if as_json:
        print_json({"resource": {"name": name, "there": count}})
    else:
        click.echo(f"{name} is removed" if count is None else f"there are {count} of {name}")


def _count(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise InvalidInput(f"N is {text!r:.160}; it must be a whole number, 0 or more, or 'none'")
    return int(text)


def _tell(found: Queues, name: str, words: str, *, as_json: bool) -> None:
    if not as_json:
        click.echo(words)
        return
    listed: list[dict[str, Any]] = found.list().to_json()["queues"]
    print_json({"queue": next((queue for queue in listed if queue["name"] == name), {"name": name})})
