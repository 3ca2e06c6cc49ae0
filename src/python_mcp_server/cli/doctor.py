"""`doctor`: whether everything that jobs need is there and works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from python_mcp_server.cli.options import home_option, json_option, print_json

if TYPE_CHECKING:
    from python_mcp_server.cli.checks import Finding


@click.command()
@json_option
@home_option
def doctor(*, as_json: bool) -> int:
    """Check this machine: Python, uv, the home, the store, a worker, and a real server.

    Each check is one line. The exit code is 0 without problems and 1 with; warnings do not count.
    """
    from python_mcp_server.cli.checks import checkup

    findings: list[Finding] = []
    for finding in checkup():
        findings.append(finding)
        if not as_json:
            _show(finding)
    well = all(finding.level != "problem" for finding in findings)
    if as_json:
        print_json({"ok": well, "checks": [finding.to_json() for finding in findings]})
    return 0 if well else 1


def _show(finding: Finding) -> None:
    colours = {"ok": "green", "warning": "yellow", "problem": "red"}
    click.secho(f"{finding.level:8}", fg=colours[finding.level], nl=False)
    advice = f" {finding.advice}" if finding.advice else ""
    click.echo(f"{finding.name}: {finding.text}.{advice}")
