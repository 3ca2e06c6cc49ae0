"""The command line, `python-mcp-server`: serve, run, bench, jobs, schedules, clean, doctor,
demo.

Here are the program with its exit codes, and the commands that only pass on: serve, doctor and demo.

run            Python as a job; `follow` shows its output and progress
dead           `jobs dead`: the jobs that failed for good, run again or dropped
move           `jobs move`: the jobs of one store copied to another
tree           `jobs tree`: the graph or the chain of a job, drawn
bench          programs measured in turns; `figures` shows what was found, and writes it to files
jobs           list, show, wait for, read, cancel, answer and prune jobs
queues         list queues, pause, resume, drain and bound them
quotas         what clients may spend, and have spent
schedules      make, list, pause and remove schedules
clean          what lies in the home, and removes what nothing needs
checks         what `doctor` checks
space          what takes the space of a home, for `doctor`
demonstration  the steps of `demo`
show           tables, and words for times and sizes
client         the SDK's client against a server of ours, for `doctor` and `demo`
options        options, and ways to print, that several commands share
streams        the standard streams, which may be closed, full or no longer read

The modules of the commands import nothing heavy at their head, so that `--help` and the start of a
server wait for nothing that they do not need.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

import click
from click.core import ParameterSource

from python_mcp_server.cli.options import Number, home_option, json_option, print_json
from python_mcp_server.cli.streams import flush, prepare_streams, reason, say
from python_mcp_server.errors import InvalidInput, PythonMcpError
from python_mcp_server.interrupt import INTERRUPTED, raise_again
from python_mcp_server.settings import Settings
from python_mcp_server.version import __version__

if TYPE_CHECKING:
    from python_mcp_server.cli.checks import Finding

__all__ = ["main", "program"]

_PROGRAM: Final = "python-mcp-server"
_BAD_INPUT: Final = 2
_NOBODY_READS: Final = 141
_MODULES: Final = ("bench", "clean", "jobs", "queues", "quotas", "run", "schedules")
_BELOW: Final = {"jobs": ("dead", "move", "tree")}
"""The modules with further commands below one of these."""
_SERVE_EXAMPLES: Final = """\b
Examples:
  serve                            over stdio, as an MCP client starts it
  serve --http --port 9000         for clients of this machine
  serve --http --host 192.0.2.7    for others, with an access token
"""
_NAME: Final = re.compile(r"(?<![\w'\"./-])[a-z_]+(?![\w'\"./-])")
_NO_SUBCOMMAND: Final[tuple[type[click.UsageError], ...]] = tuple(
    filter(None, [getattr(click.exceptions, "NoArgsIsHelpError", None)])
)
"""Raised by click from 8.2 on, where a group is called without a command; before, click prints the help."""
_COLOURS: Final = {"ok": "green", "warning": "yellow", "problem": "red"}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 for success, 1 for a failure, 2 for bad input, 130 after Ctrl-C, 141 where the reader of
    stdout has left; `run` passes on that of its script.

    Args:
        arguments: The words after the program's name; `sys.argv` where None.
    """
    prepare_streams()
    code, failure = 1, None
    try:
        code = _guarded(arguments)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit:  # so click and rich leave a command whose stdout has no reader
        code = _NOBODY_READS
    except OSError as error:  # of a stream, or one that no command explains
        failure = error
    failure = flush(sys.stdout) or failure
    if isinstance(failure, BrokenPipeError):
        code = _NOBODY_READS
    elif failure is not None:
        code = 1
        _explain(failure, reason(failure))
    flush(sys.stderr)
    sys.exit(code)


def _guarded(arguments: Sequence[str] | None) -> int:
    try:
        code = program.main(arguments, _PROGRAM, standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        from python_mcp_server.jobs.rows import plain

        if isinstance(error, _NO_SUBCOMMAND):  # its text is the help
            click.echo(error.format_message())
            return 0
        context = error.ctx if isinstance(error, click.UsageError) else None
        click.UsageError(plain(error.format_message()), context).show()
        return error.exit_code
    except InvalidInput as error:
        _explain(error, _as_typed(str(error), sys.argv[1:] if arguments is None else arguments))
        return _BAD_INPUT
    except PythonMcpError as error:
        _explain(error, _as_typed(str(error), sys.argv[1:] if arguments is None else arguments))
        return 1
    return code if isinstance(code, int) else 0


def _as_typed(told: str, arguments: Sequence[str]) -> str:
    """Return what an error says, with options in the place of the parameters that these give.

    A parameter without a `_` may be an English word too, and is one but for the first word.
    """
    command: click.Command = program
    for word in arguments:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word) or command
    given = {option.name: option.opts[-1] for option in command.params if isinstance(option, click.Option)}

    def typed(found: re.Match[str]) -> str:
        is_name = found.start() == 0 or "_" in found[0]
        return given.get(found[0], found[0]) if is_name else found[0]

    if "home" in given:
        told = told.replace("set PYTHON_MCP_HOME", "give --home or set PYTHON_MCP_HOME")
    return _NAME.sub(typed, told.replace("use_uv=false", "--no-uv"))


def _explain(error: Exception, told: str) -> None:
    if _debugging():
        import traceback

        traceback.print_exception(error)
    say(told)


def _debugging() -> bool:
    try:
        return Settings.from_environ().debug
    except InvalidInput:
        return False


@click.command(epilog=_SERVE_EXAMPLES)
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

    raise_again()
    if http:
        run_http(host, port)
        return 0
    for name in ("host", "port"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} is for HTTP; add --http, or leave it out")
    if sys.stdin.isatty():
        click.echo("python-mcp-server: waiting for an MCP client on stdin; Ctrl-C ends it", err=True)
    return run_stdio()


@click.command()
@click.option(
    "--all", "every_record", is_flag=True, help="Read every record, 10,000 a second, not only some."
)
@json_option
@home_option
def doctor(*, every_record: bool, as_json: bool) -> int:
    """Check this machine: Python, uv, the home and a real server.

    Each check is one line, also of the store and of a worker. The exit code is 0 without problems and 1
    with; warnings do not count.
    """
    from python_mcp_server.cli.checks import checkup

    raise_again()
    findings: list[Finding] = []
    for finding in checkup(every_record=every_record):
        findings.append(finding)
        if not as_json:
            _show(finding)
    well = all(finding.level != "problem" for finding in findings)
    if as_json:
        print_json({"ok": well, "checks": [finding.to_json() for finding in findings]})
    return 0 if well else 1


def _show(finding: Finding) -> None:
    from python_mcp_server.jobs.rows import plain

    click.secho(f"{finding.level:8}", fg=_COLOURS[finding.level], nl=False)
    advice = f" {finding.advice}" if finding.advice else ""
    click.echo(plain(f"{finding.name}: {finding.text}.{advice}"))


@click.command()
@click.option(
    "--budget",
    "budget_s",
    type=Number("seconds", 0.5, 20),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the server waits for a call; the heavy script takes some 2.5 times as long.",
)
def demo(budget_s: float) -> int:
    """Show a call in time, a hand-off, a cancel and a reconnect.

    A server is started over stdio with a home of its own, which is removed at the end. The exit code is
    0 only if every step did what it says.
    """
    from python_mcp_server.cli.demonstration import demonstrate

    raise_again()
    return demonstrate(budget_s)


class _Program(click.Group):
    """The commands; a command with a module of its own is loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return sorted({*super().list_commands(ctx), *_MODULES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, or None."""
        if cmd_name in _MODULES:
            command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
            for module in _BELOW.get(cmd_name, ()):
                import_module(f"{__name__}.{module}")
            raise_again()
            return command
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=_Program,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[serve, doctor, demo],
)
@click.version_option(__version__)
@click.pass_context
def program(context: click.Context) -> int | None:
    """Run Python for MCP clients, as jobs that outlive their callers.

    Without a command: serve over stdio where stdin is no terminal, as an MCP client starts it.
    """
    if context.invoked_subcommand is not None:
        return None
    if sys.stdin.isatty():
        click.echo(context.get_help())
        return 0
    return context.invoke(serve)
