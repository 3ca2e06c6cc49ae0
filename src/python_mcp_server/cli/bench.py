"""`bench A.py B.py`: programs and snippets measured in turns, as a job; `figures` shows what was found."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from python_mcp_server.cli.options import (
    TEXT,
    Number,
    environment_options,
    given,
    home_option,
    json_option,
    limit_options,
    script_path,
)
from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.rows import elapsed_s, plain
from python_mcp_server.model import cut, cut_label

if TYPE_CHECKING:
    from python_mcp_server.model import Job

_REST: Final = "python_mcp_server.arguments"
_LONGEST_NAME: Final = 60
_SECONDS_EACH: Final = 10
_BAR: Final = 16
_PLOTS: Final = (".png", ".svg", ".pdf")
_EXAMPLES: Final = """\b
Examples:
  bench slow.py fast.py                    which is faster, and by how much
  bench a.py b.py -- --size 1000           with the same arguments for all
  bench 'a.py 10' 'a.py 20'                with other arguments for each
  bench -m 'json.tool big.json' tool.py    a module beside a script
  bench -s 'x = list(range(999))' -c 'sorted(x)' -c 'x.sort()'
  bench a.py b.py --plot out.svg --export-markdown out.md
"""


class _WithArguments(click.Command):
    """A command whose words after `--` are the arguments of all contenders."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words before the first `--`."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[_REST] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])


@click.command(cls=_WithArguments, epilog=_EXAMPLES)
@click.option(
    "-m", "modules", type=TEXT, multiple=True, metavar="'NAME ARGS'", help="A module, as `python -m`."
)
@click.option("-c", "--snippet", "snippets", type=TEXT, multiple=True, metavar="CODE",
              help="A snippet of code, which runs in a loop as under `timeit`; may be repeated.")  # fmt: skip
@click.option("-s", "--setup", metavar="CODE", help="What each process of a snippet runs first, unmeasured.")
@click.option("-n", "--name", "names", type=TEXT, multiple=True, metavar="TEXT",
              help="The name of the first contender, then of the next.")  # fmt: skip
@click.option("-w", "--warmup", type=int, metavar="N",
              help="Runs of each before those that count.  [default: 1]")  # fmt: skip
@click.option("--min-runs", type=int, default=10, show_default=True, metavar="N",
              help="Runs of each before it may stop.")  # fmt: skip
@click.option("--max-runs", type=int, default=100, show_default=True, metavar="N",
              help="The most runs of each; it stops before where all is known within 1 %.")  # fmt: skip
@click.option("-r", "--runs", type=int, metavar="N", help="Exactly so many runs of each, however long.")
@click.option("--max-seconds", type=Number("seconds"), metavar="SECONDS",
              help="After so long no other round begins.  [default: 10 for each contender]")  # fmt: skip
@click.option("--plot", type=TEXT, metavar="FILE", help="Draw a plot; the name ends with .png, .svg or .pdf.")
@click.option("--export-json", type=TEXT, metavar="FILE",
              help="Write all figures and runs, as hyperfine does; `-`: stdout.")  # fmt: skip
@click.option("--export-csv", type=TEXT, metavar="FILE", help="The same for a table of the figures.")
@click.option("--export-markdown", type=TEXT, metavar="FILE", help="The same in Markdown.")
@click.option("-q", "--quiet", is_flag=True,
              help="Tell of no progress; else a pipe gets a line on stderr every few rounds.")  # fmt: skip
@json_option
@environment_options
@limit_options
@home_option
@click.argument("scripts", nargs=-1, metavar="[SCRIPT]... [-- ARGS]...")
@click.pass_context
def bench(context: click.Context, scripts: tuple[str, ...], **options: Any) -> int:
    """Measure scripts, modules or snippets, and say which is fastest.

    They run in turns. Each SCRIPT is a file, or a file and its arguments as one word. The table has the
    median, the mean and the deviation of the wall times, and how many times as long as the fastest each one
    takes, with the 95 % interval of that. A run that fails ends it, with exit code 1. Limits hold for each
    run.
    """
    from python_mcp_server.cli.figures import Exports, show
    from python_mcp_server.cli.follow import Progress, run_quietly
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.tools.benchmark.contenders import Contender, benchmark_contenders

    contenders = _contenders(scripts, context.meta[_REST], options)
    plan, call = _plan(options, len(contenders)), given(options)
    for each in contenders:
        Contender.given(each, Path(call["directory"]), (), use_uv=call["use_uv"])
    kwargs = {
        "contenders": contenders,
        "plan": plan,
        "setup": options["setup"] or "pass",
        "plot": _plot_format(options["plot"]),
        **call,
    }
    exports = Exports.given(options)
    label = cut_label(", ".join(each["name"] for each in contenders))
    request = Request(benchmark_contenders, (), kwargs, label, "bench")
    progress = Progress(lambda job: _bar(job, plan), _round)
    if options["quiet"]:
        progress = Progress(lambda _job: "")
    return run_quietly(request, progress, lambda job: show(job, plan, exports))


def _plan(options: dict[str, Any], count: int) -> dict[str, Any]:
    """Return the fields of the plan.

    Raises:
        InvalidInput: A value is out of bounds; the text names its option.
    """
    from python_mcp_server.tools.benchmark.plan import RunPlan, check_count

    runs, max_seconds = options["runs"], options["max_seconds"]
    plan = {
        "warmup": options["warmup"],
        "min_runs": options["min_runs"] if runs is None else runs,
        "max_runs": options["max_runs"] if runs is None else runs,
        "max_seconds": _SECONDS_EACH * count if max_seconds is None else max_seconds,
    }
    if runs is not None:
        check_count("runs", runs, 1)
        plan |= {"warmup": 1 if options["warmup"] is None else options["warmup"]}
        plan["max_seconds"] = 1e9 if max_seconds is None else max_seconds
    RunPlan(**plan)
    return plan


def _contenders(scripts: tuple[str, ...], args: list[str], options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what takes part: scripts, modules, snippets, each in their order, with different names."""
    modules, snippets = options["modules"], options["snippets"]
    if options["setup"] is not None and not snippets:
        raise click.UsageError("--setup is for snippets; add one with -c, or leave it out")
    if args and not (scripts or modules):
        raise click.UsageError("arguments after -- are for scripts and modules, and there is none")
    contenders = [_script(text, args) for text in scripts]
    contenders += [_module(text, args) for text in modules]
    contenders += [{"name": _short(code), "code": code} for code in snippets]
    if not contenders:
        raise click.UsageError("nothing to measure; give a SCRIPT, -m NAME or -c CODE")
    if len(options["names"]) > len(contenders):
        raise click.UsageError(f"{len(options['names'])} names for {len(contenders)} contenders")
    for contender, name in zip(contenders, options["names"], strict=False):
        contender["name"] = _short(name)
    seen: dict[str, int] = {}
    for contender in contenders:
        name = contender["name"]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            contender["name"] = f"{name} ({seen[name]})"
    return contenders


def _script(text: str, args: list[str]) -> dict[str, Any]:
    """Return a script: the file that the text names, or else its first word, with the others as arguments."""
    words = [text] if script_path(text) else _split(text)
    if not words or (path := script_path(words[0])) is None:
        raise InvalidInput(f"SCRIPT is {text!r}; it must be a file, or a directory with a __main__.py")
    return {"name": _short(text), "start": [path], "args": [*words[1:], *args]}


def _module(text: str, args: list[str]) -> dict[str, Any]:
    words = _split(text)
    return {"name": _short(f"-m {text}"), "start": ["-m", words[0]], "args": [*words[1:], *args]}


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text, posix=os.name == "posix")
    except ValueError as error:
        raise InvalidInput(f"{text!r} cannot be split into words: {error}") from error


def _short(text: str) -> str:
    """Return a name on one line, without control characters."""
    return cut(" ".join(plain(text).split()), _LONGEST_NAME)


def _plot_format(file: str | None) -> str | None:
    if file is None:
        return None
    suffix = Path(file).suffix.lower()
    if suffix not in _PLOTS:
        raise InvalidInput(f"--plot is {file!r}; its name must end with .png, .svg or .pdf")
    from python_mcp_server.tools.benchmark.drawing import check_drawing

    check_drawing()
    return suffix[1:]


def _bar(job: Job, plan: dict[str, Any]) -> str:
    """Return a bar, which is full at the latest possible end, and the estimates so far."""
    if job.progress is None:
        return "preparing"
    shares = [elapsed_s(job) / plan["max_seconds"]]
    if job.progress.total:
        shares.append((job.progress.current - 1) / job.progress.total)
    full = min(_BAR, int(_BAR * max(shares)))
    words = _round(job).replace("+-", "±")
    words = words.removeprefix("run ").replace(" of at most ", "/", 1)
    return f"{'━' * full}{'─' * (_BAR - full)} {words}"


def _round(job: Job) -> str:
    """Return which round runs, and the estimates so far."""
    return "" if job.progress is None else job.progress.message or ""
