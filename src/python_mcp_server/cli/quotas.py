"""`quotas`: set what clients may spend, and look at what they have spent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from python_mcp_server.cli.options import TEXT, Number, home_manager, home_option, json_option, print_json
from python_mcp_server.limits import number_words

if TYPE_CHECKING:
    from python_mcp_server.jobs.quota import Quota, Spent
    from python_mcp_server.jobs.quotas import Quotas

_EXAMPLES: Final = """\b
Examples:
  quotas set '*' --jobs 100 --cpu-seconds 500        each client, in an hour
  quotas set 'claude-code *' --jobs 1000 --per 1d    each version of this one
  quotas show 'claude-code 2.1'                      what it has spent
"""


@click.group(epilog=_EXAMPLES)
def quotas() -> None:
    """Set what clients may spend, and look at what they have spent.

    A client is a principal of the HTTP server, as `quotas list` shows it where '*' has a quota, or the name
    and version that an MCP client gives itself. The quotas are those of all servers with this home.
    """


def _quotas(*, makes: bool = False) -> Quotas:
    return home_manager(makes=makes).blocking.quotas


@quotas.command("set")
@click.argument("client", metavar="CLIENT")
@click.option("--jobs", type=int, metavar="N", help="How many jobs it may make in the window.")
@click.option(
    "--cpu-seconds", type=Number("seconds", 0), metavar="S", help="The CPU time of its jobs in the window."
)
@click.option(
    "--memory-mb", type=Number("MB", 0), metavar="MB", help="What its running jobs may take at once."
)
@click.option("--per", type=TEXT, default="1h", show_default=True, metavar="TIME",
              help="The window, such as 90s, 1h or 7d.")  # fmt: skip
@json_option
@home_option
def set_(client: str, *, as_json: bool, **bounds: Any) -> None:
    """Set what a client may spend, in the place of its former quota.

    With * at the end it is for each client whose name begins so.
    """
    quota = _quotas(makes=True).set(client, **bounds)
    if as_json:
        print_json({"client": client, "quota": quota.to_json()})
    else:
        click.echo(f"{client}: {_words(quota)}")


@quotas.command()
@click.argument("client", metavar="CLIENT")
@json_option
@home_option
def remove(client: str, *, as_json: bool) -> None:
    """Remove the quota of this name."""
    removed = _quotas().remove(client)
    if as_json:
        print_json({"client": client, "removed": removed})
    else:
        click.echo(f"{client} has no quota of its own{' any more' if removed else ''}")


@quotas.command("list")
@json_option
@home_option
def list_(*, as_json: bool) -> None:
    """List the quotas, and what the clients have spent."""
    found = _quotas().list()
    if as_json:
        print_json(found.to_json())
        return
    from python_mcp_server.cli.show import plain_table, print_table

    rows = [[client, _words(quota)] for client, quota in found.quotas.items()]
    print_table(plain_table(["QUOTA OF", "BOUNDS"], rows))
    if found.spent:
        click.echo()
        columns = ["CLIENT", "JOBS", "CPU SECONDS", "MEMORY MB", "FITS AGAIN"]
        print_table(plain_table(columns, list(map(_row, found.spent))))


@quotas.command()
@click.argument("client", metavar="CLIENT")
@json_option
@home_option
def show(client: str, *, as_json: bool) -> None:
    """Show what a client has spent of its quota."""
    spent = _quotas().spent(client)
    if as_json:
        print_json(spent.to_json())
    elif spent.quota is None:
        click.echo(f"{client} has no quota, so nothing is counted")
    else:
        click.echo(f"quota: {_words(spent.quota)}")
        click.echo(
            f"spent: {spent.jobs} jobs, {spent.cpu_seconds:.1f} CPU seconds; {spent.memory_mb:.0f} MB now"
        )
        click.echo(spent.refusal or "its next job fits")


def _words(quota: Quota) -> str:
    bounds = {"jobs": quota.jobs, "CPU seconds": quota.cpu_seconds}
    told = [f"{number_words(most)} {what}" for what, most in bounds.items() if most is not None]
    spans = [f"{' and '.join(told)} in {quota.per}"] if told else []
    memory = [] if quota.memory_mb is None else [f"{number_words(quota.memory_mb)} MB at once"]
    return ", ".join(spans + memory)


def _row(spent: Spent) -> list[Any]:
    fits = "now" if spent.refusal is None else "never"
    if spent.fits_at is not None:
        fits = f"{spent.fits_at:%Y-%m-%d %H:%M:%S} UTC"
    return [spent.client, spent.jobs, f"{spent.cpu_seconds:.1f}", f"{spent.memory_mb:.0f}", fits]
