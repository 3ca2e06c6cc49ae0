"""`serve`: the server itself. Imports only the way to it, for clients wait for its first answer."""

from __future__ import annotations

import sys

import click
from click.core import ParameterSource

from python_mcp_server.cli.options import home_option


@click.command()
@click.option("--http", is_flag=True, help="Speak streamable HTTP instead of stdio.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="With --http: an address of this machine."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="With --http; 0 takes a free one.",
)
@home_option
@click.pass_context
def serve(context: click.Context, *, http: bool, host: str, port: int) -> int:
    """Serve an MCP client over stdin and stdout, or clients over HTTP."""
    from python_mcp_server.server.serve import run_http, run_stdio

    if http:
        run_http(host, port)
        return 0
    for name in ("host", "port"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} is for HTTP; add --http, or leave it out")
    if sys.stdin is not None and sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        click.echo("python-mcp-server: waiting for an MCP client on stdin; Ctrl-C ends it", err=True)
    return run_stdio()
