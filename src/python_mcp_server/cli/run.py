"""`run SCRIPT [ARGS]`: a script as a job, as if it were run here."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from python_mcp_server.cli.options import home_option
from python_mcp_server.errors import InvalidInput

if TYPE_CHECKING:
    from python_mcp_server.jobs.request import Request

_INTERRUPTED: Final = 128 + signal.SIGINT


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--timeout", "timeout_seconds", type=float, default=0.0, metavar="SECONDS",
              help="End the script after this long, with exit code 124; 0 means no limit.")  # fmt: skip
@click.option("--python", "python_version", metavar="VERSION", help="The version of Python, such as 3.12.")
@click.option("--with", "packages", multiple=True, metavar="PACKAGE",
              help="A package it needs, such as 'numpy>=2'; may be repeated. The script then runs in an "
              "environment of its own, and in its own directory.")  # fmt: skip
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable; may be repeated.")
@click.option("--env-file", metavar="FILE", help="A file of variables.")
@click.option("--label", metavar="TEXT", help="What the job is called.  [default: the script's name]")
@click.option("--cwd", metavar="DIR", help="The working directory.  [default: this one]")
@click.option("--no-uv", is_flag=True, help="Run it with an installed interpreter, without its packages.")
@home_option
@click.argument("script")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(script: str, args: tuple[str, ...], **options: Any) -> int:
    """Run a Python script as a job and show its output while it comes.

    The job has a durable record: `python-mcp-server jobs` lists it. Ctrl-C cancels it and waits until
    its last process is gone; a second Ctrl-C kills at once. The exit code is that of the script (128
    and the signal's number where a signal ended it). The script reads an empty stdin.

    Where stdout and stderr are one terminal, pipe or file, their order is kept, and both are the
    job's stdout. Where they differ, the order across both is not known.
    """
    with _leaving_at_once():
        request = _request(script, args, **options)
        from python_mcp_server.cli.follow import run_and_follow

        return run_and_follow(request)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)


@contextmanager
def _leaving_at_once() -> Generator[None]:
    """Let Ctrl-C end this process, as long as there is no job to cancel. A `KeyboardInterrupt` may come
    within an import, where Python loses it and keeps the lock of all imports.
    """
    before = signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _request(script: str, args: tuple[str, ...], **options: Any) -> Request:
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.tools import scripts

    path = os.path.abspath(os.path.expanduser(script))
    if not os.path.isfile(path):
        raise InvalidInput(f"SCRIPT is {script!r}; it must be a file")
    file = options["env_file"]
    kwargs: dict[str, Any] = {
        "script_path": path,
        "args": list(args),
        "python_version": options["python_version"],
        "timeout_seconds": options["timeout_seconds"],
        "env_vars": _variables(options["variables"]),
        "env_file": None if file is None else os.path.abspath(os.path.expanduser(file)),
    }
    label = options["label"] or os.path.basename(path)
    merged = scripts.run_merged if _one_target() else None
    if not options["packages"]:
        kwargs |= {"directory": os.path.abspath(options["cwd"] or "."), "use_uv": not options["no_uv"]}
        return Request(merged or scripts.run_script_in_dir, (), kwargs, label, "run")
    for name in ("cwd", "no_uv"):
        if options[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} and --with exclude each other; leave one out")
    kwargs["dependencies"] = list(options["packages"])
    return Request(merged or scripts.run_script_with_dependencies, (), kwargs, label, "run")


def _one_target() -> bool:
    """Whether stdout and stderr are one terminal, pipe or file. A console of Windows has no number."""
    try:
        out, err = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or no file
        return False
    if not out.st_ino:
        return sys.stdout.isatty() and sys.stderr.isatty()
    return (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino)


def _variables(pairs: tuple[str, ...]) -> dict[str, str] | None:
    variables: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not (name and separator):
            raise InvalidInput(f"--env is {name!r}; it must be NAME=VALUE")
        variables[name] = value
    return variables or None
