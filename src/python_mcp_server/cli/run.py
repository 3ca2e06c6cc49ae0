"""`run SCRIPT`, `run -m NAME`, `run -c CODE` and `run -`: Python as a job, as if it were started here."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from python_mcp_server.cli.options import (
    TEXT,
    Number,
    environment_options,
    given,
    home_option,
    limit_options,
    script_path,
)
from python_mcp_server.errors import InvalidInput
from python_mcp_server.interrupt import leaving_quietly

if TYPE_CHECKING:
    from python_mcp_server.jobs.request import Request

_ENDING: Final = ("-m", "-c")
"""The options after which all words belong to the program, as with `python`."""
_EXAMPLES: Final = """\b
Examples:
  run report.py --year 2025          a script, with arguments of its own
  run --timeout 60 -m pytest -x      a module, as `python -m`
  run -c 'import sys; print(sys.path)'
  run - < script.py                  code from stdin
  run --with 'pandas>=2' report.py   with packages that are not installed here
  run --memory-limit-mb 2000 --cpus 2 train.py
"""


class AsPython(click.Command):
    """A command whose words after a script, `-m NAME` or `-c CODE` are no options of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words, with a `--` where ours end."""
        end = self._end_of_ours(args)
        return super().parse_args(ctx, args if end is None else [*args[:end], "--", *args[end:]])

    def _end_of_ours(self, args: list[str]) -> int | None:
        """Return the place after `-m NAME` or `-c CODE`; None where neither stands among our options."""
        valued = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] not in {"-", "--"}:
            if args[at][:2] in _ENDING:
                end = at + (2 if args[at] in _ENDING else 1)
                return end if end <= len(args) else None
            at += 2 if args[at] in valued else 1
        return None


@click.command(cls=AsPython, context_settings={"allow_interspersed_args": False}, epilog=_EXAMPLES)
@click.option("-m", "module", type=TEXT, metavar="NAME",
              help="Run a module, as `python -m`; all that follows is its.")  # fmt: skip
@click.option("-c", "code", metavar="CODE", help="Run this code, as `python -c`; all that follows is its.")
@click.option("--timeout", "timeout_seconds", type=Number("seconds", 0), default=0.0, metavar="SECONDS",
              help="End it after this long, with exit code 124; 0 means no limit.")  # fmt: skip
@limit_options
@environment_options
@click.option("--label", type=TEXT, metavar="TEXT", help="What the job is called.  [default: what runs]")
@home_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT|-] [ARGS]...")
def run(words: tuple[str, ...], **options: Any) -> int:
    """Run Python as a job and show its output while it comes.

    SCRIPT is a file, a directory with a `__main__.py`, or `-` for code from stdin. All words after it reach
    it as they are, and what it sees in `sys.argv`, `sys.path` and `__main__` is as with plain `python`. Else
    it has an empty stdin.

    The job has a durable record: `python-mcp-server jobs` lists it. Ctrl-C cancels it and waits until its
    last process is gone; a second Ctrl-C kills at once. The exit code is that of the script (128 and the
    signal's number where a signal ended it).

    Where stdout and stderr are one terminal, pipe or file, their order is kept, and both are the
    job's stdout. Where they differ, the order across both is not known.
    """
    with leaving_quietly():  # as long as there is no job to cancel
        request = request_of(words, **options, merged=_one_target())
        from python_mcp_server.cli.follow import run_and_follow

        return run_and_follow(request)


def request_of(words: tuple[str, ...], *, merged: bool, **options: Any) -> Request:
    """Return the call that runs what these words and options of a command name.

    Args:
        words: The script with its arguments, or those of the module or code.
        merged: Whether stdout and stderr are one stream.
        **options: `module`, `code`, `timeout_seconds`, `label`, and what `given` takes.

    Raises:
        InvalidInput, UsageError: Nothing is named, the script does not exist, or an option has no meaning.
    """
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.model import cut_label
    from python_mcp_server.tools.scripts import header_of, header_source, run_python

    start, args, name = _start(
        words, options["module"], options["code"], elsewhere=bool(options["directory"])
    )
    kwargs: dict[str, Any] = {
        "start": start,
        "args": args,
        "timeout_seconds": options["timeout_seconds"],
        "merged": merged,
        **given(options),
    }
    if start == ["-"]:
        kwargs["stdin"] = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
    if kwargs["use_uv"]:
        header_of(*header_source(start, kwargs.get("stdin"), Path(kwargs["directory"])))
    return Request(run_python, (), kwargs, cut_label(options["label"] or name), "run")


def _start(
    words: tuple[str, ...], module: str | None, code: str | None, *, elsewhere: bool
) -> tuple[list[str], list[str], str]:
    """Return how Python starts, the arguments after that, and a name for it.

    Raises:
        InvalidInput: Nothing is named, or the script does not exist.
    """
    if module is not None:
        return ["-m", module], [*words], f"-m {module}"
    if code is not None:
        return ["-c", code], [*words], f"-c {next(iter(code.strip().splitlines()), '')}"
    if not words:
        raise click.UsageError("nothing to run; give a SCRIPT, -m NAME, -c CODE, or - for code from stdin")
    script, args = words[0], [*words[1:]]
    if script == "-":
        return ["-"], args, "-"
    if (path := script_path(script)) is None:
        raise InvalidInput(f"SCRIPT is {script!r}; it must be a file, or a directory with a __main__.py")
    as_typed = os.path.exists(script) and not script.startswith("-") and not elsewhere
    return [script if as_typed else path], args, os.path.basename(path)


def _one_target() -> bool:
    """Whether stdout and stderr are one terminal, pipe or file. A console of Windows has no number."""
    try:
        out, err = os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or no file
        return False
    if not out.st_ino:
        return sys.stdout.isatty() and sys.stderr.isatty()
    return (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino)
