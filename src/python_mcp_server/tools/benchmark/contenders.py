"""The body of the command `bench`: any number of contenders, measured in turns, each beside the fastest.

A contender is a script, a module, or a snippet of code that runs in a loop within each process. The engine is
that of `py_benchmark_script`; the contenders are equals, so a failure of any ends the benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final, NotRequired, TypedDict

from python_mcp_server.atomic import make_directory, write_file
from python_mcp_server.context import current_job
from python_mcp_server.errors import InvalidInput, ToolchainError
from python_mcp_server.limits import Limits
from python_mcp_server.model import MB
from python_mcp_server.runner.command import Interpreter, Script, interpreter_in_directory
from python_mcp_server.runner.python.environ import given_variables
from python_mcp_server.runner.python.pep723 import Header
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.tools.benchmark.drawing import check_drawing, draw
from python_mcp_server.tools.benchmark.measured_run import Run
from python_mcp_server.tools.benchmark.plan import Benchmark, Entry, RunPlan
from python_mcp_server.tools.benchmark.ranking import Standing, headline, standings
from python_mcp_server.tools.benchmark.statistics import outliers, spread
from python_mcp_server.tools.call import Prepared, script_call
from python_mcp_server.tools.results import Noise, OutlyingRun, SpreadOfRuns
from python_mcp_server.tools.scripts import existing_directory, header_of, header_source

_SAMPLE_INTERVAL_S: Final = 0.05
_SNIPPET: Final = Path(__file__).with_name("snippet.py")


class Figures(TypedDict):
    """What was measured of one contender.

    Attributes:
        name: What it is called.
        loops: How many loops of a snippet ran in each process; its times are those of one loop.
        times: The wall time of each run that counts, in seconds, in order.
        peaks_mb: The peak of memory of each of these.
        wall, cpu, peak_mb: The wall time, the CPU time and the peak of memory over the runs.
        user, system: The mean CPU time in user mode and in the kernel; for a snippet all of it is `user`.
        ratio: How much longer it takes than the fastest, round by round; 1 for the fastest itself.
        ratio_low, ratio_high: Where this ratio lies, with `confidence`; not for the fastest.
        outliers: The runs that are far from the others.
    """

    name: str
    loops: NotRequired[int]
    times: list[float]
    peaks_mb: list[float]
    wall: SpreadOfRuns
    cpu: SpreadOfRuns
    peak_mb: SpreadOfRuns
    user: float
    system: float
    ratio: float
    ratio_low: NotRequired[float]
    ratio_high: NotRequired[float]
    confidence: NotRequired[float]
    outliers: list[OutlyingRun]


class FailedContender(TypedDict):
    """The contender whose failure ended the benchmark: its name, why in words, and the end of its stderr."""

    name: str
    sentence: str
    stderr: str


class ContendersResult(TypedDict):
    """The result of a benchmark of several contenders.

    Attributes:
        summary: The main finding, in a sentence; empty where no contender has a run.
        contenders: Those with runs, in the order of the call.
        warmup_runs: The runs of each before those that count.
        stopped: Why there were no more: "certain", "max_runs", "max_seconds" or "failed".
        elapsed_seconds: How long it took, without the preparation.
        startup_seconds: How long the interpreter takes to do nothing; only where a script or module runs.
        noise: What disturbed the runs.
        failed: The contender that failed.
        plot: The file of the plot.
        plot_error: Why there is no plot.
    """

    summary: str
    contenders: list[Figures]
    warmup_runs: int
    stopped: str
    elapsed_seconds: float
    startup_seconds: NotRequired[float]
    noise: Noise
    failed: NotRequired[FailedContender]
    plot: NotRequired[str]
    plot_error: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that takes part.

    Attributes:
        name: What it is called.
        start: How Python starts it, as in `run_python`; empty for a snippet.
        args: Its arguments.
        code: The code of a snippet; None for a script or a module.
        header: What its PEP 723 header asks for; None where it has none.
    """

    name: str
    start: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    code: str | None = None
    header: Header | None = None

    @classmethod
    def given(cls, told: dict[str, Any], folder: Path, packages: Sequence[str], *, use_uv: bool) -> Contender:
        """Return the contender that a call describes by `name`, `start` and `args`, or `name` and `code`."""
        source = (None, told["code"]) if "code" in told else header_source(told["start"], None, folder)
        header = header_of(*source, packages) if use_uv else None
        start, args = tuple(told.get("start", ())), tuple(told.get("args", ()))
        return cls(told["name"], start, args, told.get("code"), header)

    def entry(self, prepared: Prepared, setup: str, folder: Path) -> Entry:
        """Return what runs; the files of a snippet are in `folder`."""
        if self.code is None:
            script = Script(prepared.cwd, start=self.start)
            return Entry(replace(prepared, script=script, args=self.args))
        make_directory(str(folder))
        loops = _Loops(folder, self.code, setup)
        script = Script(folder, start=("-c", _SNIPPET.read_text("utf-8")))
        return Entry(replace(prepared, script=script, args=loops.files), loops.result)


class _Loops:
    """The loops of a snippet: the first process finds out how many, and all others run as many."""

    def __init__(self, folder: Path, code: str, setup: str) -> None:
        self._task, self._result = folder / "task.json", folder / "result.json"
        self._told = {"code": code, "setup": setup, "number": 0}
        self._write()

    @property
    def files(self) -> tuple[str, str]:
        """The arguments of the program."""
        return str(self._task), str(self._result)

    def result(self, run: Run) -> Run:
        """Return the run of one loop, from that of the process."""
        if run.failed or not self._result.exists():
            return run
        told = json.loads(self._result.read_bytes())
        self._result.unlink()
        if self._told["number"] == 0:
            self._told["number"] = told["number"]
            self._write()
        count = told["number"]
        ending = replace(run.ending, elapsed_s=told["seconds"] / count, orphans_cpu_s=0.0)
        figures = {"loops": count}
        return replace(run, ending=ending, user_s=told["cpu_s"] / count, system_s=0.0, figures=figures)

    def _write(self) -> None:
        write_file(str(self._task), json.dumps(self._told).encode())


def benchmark_contenders(
    directory: str,
    contenders: list[dict[str, Any]],
    plan: dict[str, Any],
    *,
    setup: str = "pass",
    dependencies: list[str] | None = None,
    use_uv: bool = True,
    python_version: str | None = None,
    env_vars: dict[str, str] | None = None,
    env_file: str | None = None,
    limits: dict[str, Any] | None = None,
    plot: str | None = None,
) -> ContendersResult:
    """Measure contenders in turns.

    Args:
        directory: The working directory.
        contenders: Each with its `name`, and `start` and `args` as in `run_python`, or `code`.
        plan: How often to run: the fields of `RunPlan`.
        setup: Code that each process of a snippet runs first, without measuring it.
        dependencies: Packages beside those of PEP 723 headers.
        use_uv: Whether the environment of a header or the directory is used.
        python_version: The version of Python; None for what a contender or the directory asks for.
        env_vars: Environment variables on top of the present ones. They are not stored.
        env_file: A file of such variables.
        limits: The limits of each run, by the names of the fields of `Limits`.
        plot: The format of a plot, one of `drawing.FORMATS`, which is drawn into the folder of the job.

    Raises:
        InvalidInput: A value is not valid, or a script does not exist.
        ToolchainError: A plot is wanted, and matplotlib is missing.
    """
    bounds, how_often = Limits.given(**(limits or {})), RunPlan(**plan)
    folder = existing_directory(directory)
    given = partial(given_variables, env_vars, env_file, folder)
    if plot is not None:
        check_drawing()

    def choose(uv: Uv, header: Header | None) -> Interpreter:
        return interpreter_in_directory(uv, folder, header, use_uv=use_uv, python_version=python_version)

    field = _Field(
        [Contender.given(each, folder, dependencies or (), use_uv=use_uv) for each in contenders],
        choose,
        setup,
    )
    benchmark = Benchmark(
        how_often, _SAMPLE_INTERVAL_S, field.enter, names=field.names, with_start=field.starts
    )
    with script_call(0, given, bounds) as call:
        first = field.contenders[0]
        script = Script(folder, start=first.start)
        call.run(script, folder, None, lambda uv: choose(uv, first.header), benchmark.start)
    result, runs = _result(benchmark, field.names)
    if plot is not None and runs and "failed" not in result:
        _add_plot(result, benchmark, runs, plot)
    return result


@dataclass(frozen=True, slots=True)
class _Field:
    """All contenders of a call."""

    contenders: list[Contender]
    choose: Callable[[Uv, Header | None], Interpreter]
    setup: str

    def __post_init__(self) -> None:
        if not self.names or len({*self.names}) < len(self.names):
            raise InvalidInput(f"contenders are {self.names!r}; give at least one, each with another name")

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.contenders]

    @property
    def starts(self) -> bool:
        """Whether any run includes the start of an interpreter."""
        return any(each.code is None for each in self.contenders)

    def enter(self, first: Prepared, folder: Path) -> list[Entry]:
        """Return what runs; contenders with the same header share an interpreter."""
        ready = {self.contenders[0].header: first.interpreter}
        entries: list[Entry] = []
        for number, each in enumerate(self.contenders):
            if each.header not in ready:
                ready[each.header] = self.choose(Uv(first.session), each.header)
            prepared = replace(first, interpreter=ready[each.header])
            entries.append(each.entry(prepared, self.setup, folder / str(number)))
        return entries


def _result(benchmark: Benchmark, names: Sequence[str]) -> tuple[ContendersResult, dict[str, list[Run]]]:
    """Return the result without its plot, and the runs that count."""
    measured = benchmark.measured
    good = ([run for run in series.runs if not run.failed] for series in measured.series)
    runs = {name: each for name, each in zip(names, good, strict=True) if each}
    found = standings({name: [run.wall_s for run in each] for name, each in runs.items()}) if runs else []
    result = ContendersResult(
        summary=headline(found) if found else "",
        contenders=[_figures(each, runs[each.name]) for each in found],
        warmup_runs=measured.warmups,
        stopped=measured.stopped,
        elapsed_seconds=round(measured.elapsed_s, 3),
        noise=benchmark.noise,
    )
    if measured.start:
        result["startup_seconds"] = round(median(run.wall_s for run in measured.start), 6)
    for name, series in zip(names, measured.series, strict=True):
        if series.failed is not None:
            ending = series.failed.ending
            why = ending.breach.sentence if ending.breach else f"ended with exit code {ending.exit_code}"
            result["failed"] = FailedContender(name=name, sentence=why, stderr=benchmark.failed_stderr)
    return result, runs


def _figures(found: Standing, runs: Sequence[Run]) -> Figures:
    walls = [run.wall_s for run in runs]
    figures = Figures(
        name=found.name,
        times=walls,
        peaks_mb=[run.peak_bytes / MB for run in runs],
        wall=spread(walls, digits=12),
        cpu=spread([run.cpu_s for run in runs], digits=12),
        peak_mb=spread([run.peak_bytes / MB for run in runs]),
        user=fmean(run.user_s for run in runs),
        system=fmean(run.system_s for run in runs),
        ratio=found.ratio,
        outliers=outliers(walls, digits=12),
    )
    if "loops" in runs[0].figures:
        figures["loops"] = int(runs[0].figures["loops"])
    if (interval := found.ratio_interval) is not None:
        figures["ratio_low"], figures["ratio_high"] = interval.low, interval.high
        figures["confidence"] = round(interval.confidence, 3)
    return figures


def _add_plot(result: ContendersResult, benchmark: Benchmark, runs: dict[str, list[Run]], form: str) -> None:
    job = current_job()
    if job is None:  # the folder of the call is gone by now
        return
    job.keep_record()
    benchmark.report_phase("drawing the plot")
    try:
        drawn = draw(runs, job.folder, noise=benchmark.noise, form=form)
    except ToolchainError as error:
        result["plot_error"] = str(error)
        return
    path = job.folder / f"benchmark.{form}"
    write_file(str(path), drawn)
    result["plot"] = str(path)
