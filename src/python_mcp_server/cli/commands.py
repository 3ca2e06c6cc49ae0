"""The tree of commands, and what a call without any means."""

from __future__ import annotations

import sys

import click

from python_mcp_server.cli.demo import demo
from python_mcp_server.cli.doctor import doctor
from python_mcp_server.cli.jobs import jobs
from python_mcp_server.cli.run import run
from python_mcp_server.cli.serve import serve
from python_mcp_server.version import __version__


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[serve, run, jobs, doctor, demo],
)
@click.version_option(__version__)
@click.pass_context
def program(context: click.Context) -> int | None:
    """Run Python for MCP clients, as jobs that outlive their callers.

    Without a command: serve over stdio where stdin is no terminal, as an MCP client starts it.
    """
    if context.invoked_subcommand is not None:
        return None
    if sys.stdin is not None and sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        click.echo(context.get_help())
        return 0
    return context.invoke(serve)
