"""`demo`: what the product does, shown on a real connection in half a minute."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--budget",
    "budget_s",
    type=click.FloatRange(0.5, 20),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the server waits for a call; the heavy script takes some 2.5 times as long.",
)
def demo(budget_s: float) -> int:
    """Show a script in time, a hand-over, its progress and result, a cancel, and a reconnect.

    A server is started over stdio with a home of its own, which is removed at the end. The exit code is
    0 only if every step did what it says.
    """
    from python_mcp_server.cli.demonstration import demonstrate

    return demonstrate(budget_s)
