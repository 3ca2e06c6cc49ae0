"""What `bench` found: a table with warnings on the terminal, and files. Imports rich: it is loaded late."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from python_mcp_server.cli.options import print_json
from python_mcp_server.cli.show import console
from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.jobs.rows import plain
from python_mcp_server.model import MB
from python_mcp_server.tools.benchmark.ranking import factor, seconds

if TYPE_CHECKING:
    from rich.console import Console

    from python_mcp_server.model import Job
    from python_mcp_server.tools.benchmark.contenders import ContendersResult, Figures

_STDOUT: Final = "-"
_WIDE: Final = 110
_FEW: Final = 6
"""Fewer runs give no 95 % interval."""
_UNITS: Final = (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9))
_STOPS: Final = {
    "certain": "all is known within 1 %",
    "max_runs": "the most runs that were asked for",
    "max_seconds": "--max-seconds was over",
}


@dataclass(frozen=True, slots=True)
class Exports:
    """Where the figures go beside the terminal; `-` is stdout, where the table then is not.

    Attributes:
        files: The format of each export, "json", "csv" or "markdown": its file.
        plot: The file of the plot.
        as_json: Whether stdout gets JSON, and nothing else.
    """

    files: Mapping[str, str]
    plot: str | None
    as_json: bool

    @classmethod
    def given(cls, options: Mapping[str, Any]) -> Self:
        """Return the exports that the options ask for.

        Raises:
            InvalidInput: A file cannot be there, or stdout would get two documents.
        """
        given = {form: options[f"export_{form}"] for form in _WRITERS}
        files = {form: file for form, file in given.items() if file is not None}
        named = {f"--export-{form}": file for form, file in files.items()} | {"--plot": options["plot"]}
        for name, file in named.items():
            there = file in {None, _STDOUT} or os.path.isdir(os.path.dirname(file) or ".")
            if not there or os.path.isdir(file or ""):
                raise InvalidInput(f"{name} is {file!r}; it must be a file in a directory that exists")
        if [*files.values(), *([_STDOUT] * options["as_json"])].count(_STDOUT) > 1:
            raise InvalidInput("stdout takes one document; give `-` or --json once")
        return cls(files, options["plot"], options["as_json"])

    @property
    def to_stdout(self) -> bool:
        """Whether stdout gets a document."""
        return self.as_json or _STDOUT in self.files.values()

    def write(self, result: ContendersResult) -> None:
        """Write all files.

        Raises:
            StoreError: One cannot be written.
        """
        if self.as_json:
            print_json(_document(result))
        for form, file in self.files.items():
            text = _WRITERS[form](result)
            if file == _STDOUT:
                sys.stdout.write(text)
            else:
                with _writing(file):
                    Path(file).write_text(text, "utf-8", newline="")
        if self.plot is not None and "plot" in result:
            with _writing(self.plot):
                shutil.copyfile(result["plot"], self.plot)


@contextmanager
def _writing(file: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"{file!r} cannot be written: {why}; give another file") from error


def show(job: Job, plan: Mapping[str, Any], exports: Exports) -> int:
    """Show the result of a benchmark, write its files, and return the exit code.

    Raises:
        StoreError: A file cannot be written.
    """
    result = cast("ContendersResult", job.result)
    report = Report(result, plan, console(stderr=exports.to_stdout))
    if result["contenders"]:
        report.show()
    report.show_failure()
    if not result["contenders"]:
        return 1
    exports.write(result)
    return 1 if "failed" in result or "plot_error" in result else 0


class Report:
    """The result of a benchmark on a terminal."""

    def __init__(self, result: ContendersResult, plan: Mapping[str, Any], out: Console) -> None:
        self._result = result
        self._plan = plan
        self._out = out

    def show(self) -> None:
        """Show the table, the finding, how it was found, and what makes it doubtful."""
        self._out.print(self._table())
        self._say("")
        self._say(f"{self._result['summary']}.", style="bold")
        self._say(self._origin())
        for warning in warnings(self._result):
            said = Text(self._carried(plain(f"Warning: {warning}")))
            said.stylize("bold yellow", 0, len("Warning:"))  # yellow lines cannot be read on white
            self._out.print(said)

    def show_failure(self) -> None:
        """Say on stderr which contender failed, and why there is no plot."""
        err = console(stderr=True)
        if (failed := self._result.get("failed")) is not None:
            words = f"{failed['name']} {failed['sentence']}, which ended the benchmark"
            err.print(Text(plain(f"python-mcp-server: {words}")))
            for line in failed["stderr"].splitlines():
                err.print(Text(f"  {plain(line)}"))
        if (error := self._result.get("plot_error")) is not None:
            err.print(Text(f"python-mcp-server: there is no plot: {plain(error)}"))

    def _say(self, text: str, style: str = "") -> None:
        self._out.print(Text(self._carried(plain(text)), style=style))

    def _table(self) -> Table:
        """Return a row for each contender; only the names are cut where the terminal is narrow."""
        contenders = self._result["contenders"]
        columns = {
            self._carried(head): [*map(self._carried, cells)] for head, cells in self._columns().items()
        }
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        widths = {head: max(map(cell_len, [head, *cells])) for head, cells in columns.items()}
        room = max(8, self._out.width - sum(widths.values()) - 2 * len(widths))
        overflow = "ellipsis" if self._carried("…") == "…" else "crop"
        table.add_column("", overflow=overflow, no_wrap=True, max_width=room)
        for head, width in widths.items():
            table.add_column(Text(head), justify="right", no_wrap=True, min_width=width)
        for row, each in enumerate(contenders):
            cells = [cells[row] for cells in columns.values()]
            style = "green" if len(contenders) > 1 and each["ratio"] == 1 else ""
            table.add_row(*map(Text, [self._carried(plain(each["name"])), *cells]), style=style)
        return table

    def _columns(self) -> dict[str, list[str]]:
        contenders = self._result["contenders"]
        unit, scale, digits = unit_for(contenders)

        def cells(*names: str, of: str = "wall", between: str = "") -> list[str]:
            spreads = [cast("dict[str, dict[str, float]]", each)[of] for each in contenders]
            return [between.join(f"{scale * told[name]:.{digits}f}" for name in names) for told in spreads]

        columns = {
            f"median [{unit}]": cells("median"),
            "mean ± stddev": cells("mean", "stddev", between=" ± "),
        }
        if len(contenders) == 1 or self._out.width >= _WIDE:
            columns |= {
                "min … max": cells("min", "max", between=" … "),
                f"CPU [{unit}]": cells("median", of="cpu"),
                "peak [MB]": [f"{each['peak_mb']['median']:.1f}" for each in contenders],
            }
        if len(contenders) > 1:
            columns["x fastest"] = [_ratio(each) for each in contenders]
            share = min(each.get("confidence", 0.95) for each in contenders)
            columns[f"{100 * share:.0f} % interval"] = [
                _interval(each) or ("fastest" if each["ratio"] == 1 else "none") for each in contenders
            ]
        return columns

    def _carried(self, text: str) -> str:
        return _encodable(text, self._out.encoding)

    def _origin(self) -> str:
        result = self._result
        counts = [len(each["times"]) for each in result["contenders"]]
        each = " each, in turns" if len(counts) > 1 else ""
        warm = f", after {result['warmup_runs']} to warm up" if result["warmup_runs"] else ""
        words = [f"{counts[0]} run{'s' * (counts[0] != 1)}{each}{warm}"]
        if result["stopped"] in _STOPS:
            words[0] += f": {_STOPS[result['stopped']]}"
        if "startup_seconds" in result:
            start = seconds(result["startup_seconds"])
            words.append(f"A program's time includes the interpreter's own start, {start}")
        loops = [f"{each['loops']:,} of {each['name']}" for each in result["contenders"] if "loops" in each]
        if loops:
            words.append(f"A snippet's time is that of one loop; a run has {', '.join(loops)}")
        return f"{'. '.join(words)}."


def warnings(result: ContendersResult) -> list[str]:
    """Return what makes the figures doubtful, in sentences."""
    found: list[str] = []
    contenders = result["contenders"]
    if min(len(each["times"]) for each in contenders) < _FEW:
        found.append(
            f"there are fewer than {_FEW} runs, too few for a 95 % interval; --runs {_FEW} asks for more."
        )
    for each in contenders:
        far = [run for run in each["outliers"] if run["kind"] == "slow" and run["far"]]
        if not far:
            continue
        slowest = max(far, key=lambda run: run["seconds"])
        count = f"{len(far)} of {len(each['times'])} runs of {each['name']}"
        first = "; the first is one of them, so try a larger --warmup" if far[0]["run"] == 1 else ""
        took = f"took much longer, up to {seconds(slowest['seconds'])} (run {slowest['run']})"
        found.append(f"{count} {took}{first}.")
    if result["noise"]["noisy"]:
        found.append(f"the machine is noisy: {'; '.join(result['noise']['reasons'])}.")
    return found


def _ratio(each: Figures) -> str:
    return "1" if each["ratio"] == 1 else factor(each["ratio"])


def _interval(each: Figures) -> str:
    """Return where a ratio lies, in words; nothing for the fastest and for a single round."""
    if "ratio_low" in each and "ratio_high" in each:
        return f"{factor(each['ratio_low'])} to {factor(each['ratio_high'])}"
    return ""


def unit_for(contenders: Sequence[Figures]) -> tuple[str, float, int]:
    """Return the unit of a table, how many make a second, and the digits that show the fastest with four."""
    least = min(each["wall"]["median"] for each in contenders)
    unit, scale = next(((unit, scale) for unit, scale in _UNITS if least * scale >= 1), _UNITS[-1])
    whole = max(1, math.floor(math.log10(least * scale)) + 1) if least > 0 else 1
    return unit, scale, max(0, 4 - whole)


def _encodable(text: str, encoding: str) -> str:
    """Return the text with letters that the stream can carry."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plainer = text.replace("±", "+-").replace("…", "..")
        return plainer.encode(encoding, "replace").decode(encoding)
    return text


def _document(result: ContendersResult) -> dict[str, Any]:
    """Return all figures: in `results` under the names that hyperfine gives them, and ours."""
    return {
        "summary": result["summary"],
        "results": [_exported(each) for each in result["contenders"]],
        **{name: value for name, value in result.items() if name not in {"summary", "contenders", "plot"}},
    }


def _exported(each: Figures) -> dict[str, Any]:
    facts, wall = cast("dict[str, Any]", each), cast("dict[str, Any]", each["wall"])
    told: dict[str, Any] = {
        "command": each["name"],
        "mean": wall["mean"],
        "stddev": wall["stddev"] if len(each["times"]) > 1 else None,
        "median": wall["median"],
        "user": each["user"],
        "system": each["system"],
        "min": wall["min"],
        "max": wall["max"],
        "times": each["times"],
        "memory_usage_byte": [round(MB * peak) for peak in each["peaks_mb"]],
        "exit_codes": [0] * len(each["times"]),
    }
    ours = ("ratio", "ratio_low", "ratio_high", "confidence", "loops", "outliers")
    told |= {name: facts[name] for name in ours if name in facts}
    told |= {name: wall[name] for name in ("q1", "q3", "median_low", "median_high") if name in wall}
    return told


def _as_json(result: ContendersResult) -> str:
    return json.dumps(_document(result), indent=2, ensure_ascii=False) + "\n"


def _as_csv(result: ContendersResult) -> str:
    out = io.StringIO()
    names = ("command", "mean", "stddev", "median", "user", "system", "min", "max",
             "runs", "peak_mb", "ratio", "ratio_low", "ratio_high", "confidence")  # fmt: skip
    writer: csv.DictWriter[str] = csv.DictWriter(out, names, extrasaction="ignore")
    writer.writeheader()
    for each in result["contenders"]:
        peak = each["peak_mb"]["median"]
        writer.writerow({**_exported(each), "runs": len(each["times"]), "peak_mb": peak})
    return out.getvalue()


def _as_markdown(result: ContendersResult) -> str:
    unit, scale, digits = unit_for(result["contenders"])
    figures = (f"{name} [{unit}]" for name in ("Median", "Mean", "Min", "Max"))
    heads = ("Command", *figures, "Peak [MB]", "Relative")
    lines = [" | ".join(heads), "|".join([":---", *["---:"] * (len(heads) - 1)])]
    for each in result["contenders"]:
        wall = each["wall"]
        median, mean, low, high, deviation = (
            f"{scale * value:.{digits}f}"
            for value in (wall["median"], wall["mean"], wall["min"], wall["max"], wall["stddev"])
        )
        ratio = _ratio(each) + (f" ({_interval(each)})" if _interval(each) else "")
        name = f"`{each['name'].replace('|', chr(92) + '|')}`"
        cells = (name, median, f"{mean} ± {deviation}", low, high, f"{each['peak_mb']['median']:.1f}", ratio)
        lines.append(" | ".join(cells))
    return "".join(f"| {line} |\n" if "---:" not in line else f"|{line}|\n" for line in lines)


_WRITERS: Final = {"json": _as_json, "csv": _as_csv, "markdown": _as_markdown}
