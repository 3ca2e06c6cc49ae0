"""The command line, `python-mcp-server`: serve, run, jobs, doctor, demo.

main           the tree of commands, and what a call without any means
serve          the server itself
run            a script as a job; `follow` shows its output and progress
jobs           list, show, wait for, read, cancel, answer and prune jobs
doctor         whether all is there that jobs need; `checks` has the checks
demo           the product on a real connection; `demonstration` has the steps
show           tables, and words for times and sizes
client         the SDK's client against a server of ours, for doctor and demo
options        options, and ways to print, that several commands share

The modules of the commands import nothing heavy at their head, so that `--help` and the start of a
server wait for nothing that they do not need.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from python_mcp_server.errors import InvalidInput, PythonMcpError

__all__ = ["main"]

_PROGRAM: Final = "python-mcp-server"
_INTERRUPTED: Final = 130
_NOBODY_READS: Final = 141


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Exit codes: 0 for success, 1 for a failure, 2 for bad input, 130 after Ctrl-C; `run` passes on
    that of its script.

    Args:
        arguments: What stands behind the program's name; `sys.argv` where None.
    """
    try:
        code = _guarded(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes again at its exit
        code = _NOBODY_READS
    sys.exit(code)


def _guarded(arguments: Sequence[str] | None) -> int:
    import click

    from python_mcp_server.cli.commands import program

    try:
        code = program.main(arguments, _PROGRAM, standalone_mode=False)
    except click.Abort:
        return _INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except PythonMcpError as error:
        return _explain(error)
    return code if isinstance(code, int) else 0


def _explain(error: PythonMcpError) -> int:
    if _debugging():
        import traceback

        traceback.print_exception(error)
    sys.stderr.write(f"{_PROGRAM}: {error}\n")
    return 2 if isinstance(error, InvalidInput) else 1


def _debugging() -> bool:
    from python_mcp_server.settings import Settings

    try:
        return Settings.from_environ().debug
    except InvalidInput:
        return False
