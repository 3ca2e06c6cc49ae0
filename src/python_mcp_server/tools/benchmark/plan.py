"""What a benchmark runs, in which order, and when the figures are certain enough.

    warm-up ──> round: each candidate once, in turns ──> enough? ──> Measured
                 ^                                         | no
                 └─────────────────────────────────────────┘

Rounds let a slow minute of the machine hit all candidates alike. `Rounds` knows no process: a candidate is a
function that returns a `Run`. `Benchmark` makes candidates of the contenders of a call, and runs them.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from python_mcp_server.atomic import make_directory, remove_tree
from python_mcp_server.context import report_progress
from python_mcp_server.errors import InvalidInput
from python_mcp_server.regular import own_file
from python_mcp_server.runner.child import ChildExit, Command
from python_mcp_server.runner.command import Script, interpreter_with
from python_mcp_server.runner.inline import write_script
from python_mcp_server.runner.output import append_line, end_of, open_stream, size_of
from python_mcp_server.runner.python.pep723 import Header
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.settings import positive
from python_mcp_server.tools.benchmark.measured_run import Run, RunSampler, measured_run
from python_mcp_server.tools.benchmark.ranking import seconds
from python_mcp_server.tools.benchmark.statistics import (
    Interval,
    Machine,
    assess_noise,
    interval_of_median,
    interval_of_ratio,
)
from python_mcp_server.tools.call import Prepared
from python_mcp_server.tools.results import Noise
from python_mcp_server.tools.scripts import header_of

Stop = Literal["certain", "max_runs", "max_seconds", "failed", "timed_out"]

CERTAIN: Final = 0.01
"""The runs are enough when the ends of the interval are this share of its middle away from it, or less."""
MOST_RUNS: Final = 1000
_GROWTH: Final = 1.2
"""The factor between two checks, in runs: a check after each run would stop by luck."""
_LONG_SHARE: Final = 0.25
"""A first run that takes this share of `max_seconds` counts, unless the caller asked for warm-ups."""
STARTS: Final = 10
"""The start of the interpreter is measured at most this often, because it varies little."""
_START: Final = -1
"""The place of the interpreter's start among the contenders of a round."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """How often to run.

    Attributes:
        warmup: Runs before those that count; None for one, which counts where it is long.
        min_runs: Runs before the first check of the interval.
        max_runs: The largest number of runs.
        max_seconds: No round begins after this time.

    Raises:
        InvalidInput: A value is out of bounds.
    """

    warmup: int | None = None
    min_runs: int = 10
    max_runs: int = 100
    max_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("warmup", 0 if self.warmup is None else self.warmup, 0),
            ("min_runs", self.min_runs, 1),
            ("max_runs", self.max_runs, 1),
        ):
            check_count(name, value, least)
        positive(self.max_seconds, "max_seconds")


@dataclass(frozen=True, slots=True)
class Candidates:
    """What runs once per round: the contenders, and the interpreter with an empty script.

    Attributes:
        contenders: The script, and what it is compared with.
        start: The interpreter alone.
        names: How progress calls contenders that are equals: the failure of any ends the benchmark. Where it
            is empty, only that of the first does, of which progress speaks then.
    """

    contenders: Sequence[Callable[[], Run]]
    start: Callable[[], Run] | None = None
    names: Sequence[str] = ()


@dataclass(slots=True)
class Series:
    """The runs of one contender.

    Attributes:
        runs: Those that count, in order.
        failed: The run that did not succeed; the contender is not run again then.
    """

    runs: list[Run] = field(default_factory=list[Run])
    failed: Run | None = None

    @property
    def walls(self) -> list[float]:
        """The wall times, in seconds."""
        return [run.wall_s for run in self.runs]


@dataclass(slots=True)
class Measured:
    """The runs that count, and why there are no more.

    Attributes:
        series: Those of each contender; the first has at least one run.
        start: The runs of the interpreter alone.
        warmups: The number of warm-up runs of each contender.
        stopped: Why there are no more runs.
        elapsed_s: The time of all rounds.
    """

    series: list[Series] = field(default_factory=lambda: [Series()])
    start: list[Run] = field(default_factory=list[Run])
    warmups: int = 0
    stopped: Stop = "max_runs"
    elapsed_s: float = 0.0

    @property
    def script(self) -> Series:
        """The first contender."""
        return self.series[0]

    @property
    def other(self) -> Series:
        """The runs of the second contender; no runs if there is one contender."""
        return self.series[1] if len(self.series) > 1 else Series()


class Rounds:
    """One benchmark, while it is measured."""

    def __init__(
        self,
        plan: RunPlan,
        candidates: Candidates,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare the rounds.

        Args:
            plan: How often to run.
            candidates: What to run.
            report: Called before each round with the phase and the number of the run, in words.
            clock: Returns seconds.
        """
        self._plan = plan
        self._candidates = candidates
        self._report = report
        self._clock = clock
        self._measured = Measured([Series() for _ in candidates.contenders])

    def run(self) -> Measured:
        """Run the rounds."""
        began = self._clock()
        if self._warm_up():
            self._count(began)
        self._measured.elapsed_s = self._clock() - began
        return self._measured

    def _warm_up(self) -> bool:
        """Return whether the benchmark goes on."""
        plan = self._plan
        wanted = plan.warmup if plan.warmup is not None else min(1, plan.max_runs - 1)
        for number in range(1, wanted + 1):
            self._report(f"warm-up {number} of {wanted}")
            round_ = self._run_round(number - 1, with_start=True)
            if self._is_last(round_):
                self._end(round_)
                return False
            longest_s = max(run.wall_s for place, run in round_.items() if place != _START)
            if plan.warmup is None and longest_s > _LONG_SHARE * plan.max_seconds:
                self._keep(round_)
            else:
                self._measured.warmups += 1
        return True

    def _count(self, began: float) -> None:
        plan, measured = self._plan, self._measured
        next_check = min(plan.min_runs, plan.max_runs)
        while (count := len(measured.script.runs)) < plan.max_runs:
            if count and self._clock() - began >= plan.max_seconds:
                measured.stopped = "max_seconds"
                return
            if count >= next_check:
                if self._certain():
                    measured.stopped = "certain"
                    return
                next_check = math.ceil(_GROWTH * next_check)
            self._report(self._words())
            round_ = self._run_round(count, with_start=len(measured.start) < STARTS)
            if self._is_last(round_):
                self._end(round_)
                return
            self._keep(round_)

    def _run_round(self, number: int, *, with_start: bool) -> dict[int, Run]:
        """Run each candidate once, in an order that rotates; none runs after the last one that may."""
        turns = dict(enumerate(self._candidates.contenders))
        if self._candidates.start is not None:
            turns[_START] = self._candidates.start
        order = [*turns]
        first = number % len(order)
        round_: dict[int, Run] = {}
        for place in (*order[first:], *order[:first]):
            series = None if place == _START else self._measured.series[place]
            if series.failed if series else not with_start:
                continue
            run = round_[place] = turns[place]()
            if series and run.failed:
                series.failed = run
            if self._is_last(round_):
                break
        return round_

    def _is_last(self, round_: Mapping[int, Run]) -> bool:
        """Whether no round may follow: a contender failed, or the call's time limit was reached."""
        last = len(self._candidates.contenders) if self._candidates.names else 1
        return any(run.ending.timed_out or (run.failed and 0 <= at < last) for at, run in round_.items())

    def _keep(self, round_: dict[int, Run]) -> None:
        for place, run in round_.items():
            if not run.failed:
                (self._measured.start if place == _START else self._measured.series[place].runs).append(run)

    def _end(self, last: dict[int, Run]) -> None:
        """Note the end; the last run of the script counts where it is the only one."""
        script = self._measured.script
        if 0 in last:
            script.runs = script.runs or [last[0]]
        timed_out = any(run.ending.timed_out for run in last.values())
        self._measured.stopped = "timed_out" if timed_out else "failed"

    def _certain(self) -> bool:
        """Whether the median of a lone contender, or each ratio to the fastest one, is certain."""
        walls = [series.walls for series in self._measured.series if series.failed is None]
        fastest = min(walls, key=median)
        intervals = [interval_of_ratio(each, fastest) for each in walls if each is not fastest]
        return all(
            interval is not None and _half_width(interval) <= CERTAIN
            for interval in intervals or [interval_of_median(fastest)]
        )

    def _words(self) -> str:
        shown = dict(zip(self._candidates.names or ("",), self._measured.series, strict=False))
        count = len(self._measured.script.runs)
        words = f"run {count + 1} of at most {self._plan.max_runs}"
        told = [_estimate(name, series.walls) for name, series in shown.items()] if count > 1 else []
        return f"{words}: {', '.join(told)}" if told else words


def _estimate(name: str, walls: Sequence[float]) -> str:
    interval = interval_of_median(walls)
    width = 0.0 if interval is None else 100 * _half_width(interval)
    return f"{name} {seconds(median(walls))} +- {width:.1f} %".strip()


def _half_width(interval: Interval) -> float:
    """Return how far the ends are from the middle, as a share of it."""
    return (interval.high - interval.low) / (interval.high + interval.low)


def check_count(name: str, value: Any, least: int) -> None:
    """Refuse a number of runs that is out of bounds.

    Raises:
        InvalidInput: The text has the name.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not least <= value <= MOST_RUNS:
        raise InvalidInput(f"{name} is {value!r}; it must be a whole number from {least} to {MOST_RUNS}")


_STREAMS: Final = ("stdout", "stderr")
_STDERR_BYTES: Final = 2000


@dataclass(frozen=True, slots=True)
class ComparisonTarget:
    """The script to compare with: a file, or code that runs in the directory of the first script."""

    path: Path | None
    content: str | None
    python_version: str | None
    dependencies: tuple[str, ...]

    @classmethod
    def of(cls, text: str, python_version: str | None, dependencies: list[str] | None) -> ComparisonTarget:
        """Return the file that the text names, or else its code.

        Raises:
            InvalidInput: The text names a script that does not exist.
        """
        words = (python_version, tuple(dependencies or ()))
        if "\n" in text:
            return cls(None, text, *words)
        path = Path.cwd() / os.path.expanduser(text.strip())
        if os.path.isfile(path):
            return cls(path, None, *words)
        if text.strip().endswith(".py") or os.path.isdir(path):
            raise InvalidInput(
                f"compare_with {text!r} is no file (looked at {path}); give a script's path, or Python code"
            )
        return cls(None, text, *words)

    def prepared(self, first: Prepared, folder: Path) -> Prepared:
        """Return the target ready to run, with the arguments of the first script."""
        header = header_of(self.path, self.content, self.dependencies) or Header()
        interpreter = interpreter_with(Uv(first.session), header, self.python_version)
        if self.path is not None:
            return replace(first, interpreter=interpreter, script=Script(self.path), cwd=self.path.parent)
        script = Script(write_script(_made(folder), self.content or ""), first.cwd)
        return replace(first, interpreter=interpreter, script=script)


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender ready to run.

    Attributes:
        prepared: What runs.
        result: Returns the run that counts for one run of the process.
    """

    prepared: Prepared
    result: Callable[[Run], Run] = lambda run: run


Enter = Callable[[Prepared, Path], list[Entry]]
"""Makes the contenders of the first one and of a folder for their files."""


def lone(target: ComparisonTarget | None) -> Enter:
    """Return what makes the contenders of the tool: the script, and perhaps another one."""

    def enter(first: Prepared, folder: Path) -> list[Entry]:
        others = [] if target is None else [Entry(target.prepared(first, folder / "compare_with"))]
        return [Entry(first), *others]

    return enter


class Benchmark:
    """Measures a prepared script by a plan.

    Attributes:
        measured: The runs; empty before `start` has returned.
        noise: What disturbed the runs.
        install_s: The time to prepare the environments of the contenders but the first.
        failed_stderr: The end of what the contender that failed last wrote to stderr.
    """

    def __init__(
        self,
        plan: RunPlan,
        sample_interval_s: float,
        enter: Enter,
        *,
        names: Sequence[str] = (),
        with_start: bool = True,
    ) -> None:
        """Prepare a benchmark.

        Args:
            plan: How often to run.
            sample_interval_s: Seconds between two samples of memory, at most.
            enter: Makes the contenders.
            names: The names of contenders that are equals: a failure of any ends the benchmark, and no output
                is kept. Where it is empty, the call is about the first one.
            with_start: Whether the start of the interpreter is measured too.
        """
        self.measured = Measured()
        self.noise = Noise(noisy=False, reasons=[], other_cpu_percent=0.0, cores=0)
        self.install_s = 0.0
        self.failed_stderr = ""
        self._plan = plan
        self._interval_s = sample_interval_s
        self._enter = enter
        self._names = names
        self._with_start = with_start
        self._steps = 1

    def start(self, prepared: Prepared) -> ChildExit:
        """Run the rounds, and return how the script ended: its medians, or the run that failed."""
        folder = _made(prepared.session.folder / "benchmark")
        prepared = replace(prepared, figures=None)  # the time to save figures is not the script's
        entries = self._enter(prepared, folder)
        self.install_s = sum(entry.prepared.interpreter.install_s or 0.0 for entry in entries[1:])
        before = Machine.now()
        with RunSampler(self._interval_s) as sampler:
            output = _Output(prepared, sampler, folder)
            turns = [self._turn(output, entry) for entry in entries]
            if not self._names:
                turns[0] = lambda: output.run(prepared.command)
            idle = replace(prepared, script=_idle(prepared, folder), args=())
            start = (lambda: output.run_apart(idle.command)) if self._with_start else None
            candidates = Candidates(turns, start, self._names)
            self.measured = Rounds(self._plan, candidates, self.report_phase).run()
        remove_tree(str(folder))
        self.noise = assess_noise(before, Machine.now(), self.measured.script.runs)
        return _ending(self.measured)

    def _turn(self, output: _Output, entry: Entry) -> Callable[[], Run]:
        def run() -> Run:
            run = output.run_apart(entry.prepared.command)
            if run.failed:
                self.failed_stderr = output.stderr_tail()
            return entry.result(run)

        return run

    def never_started(self, ending: ChildExit) -> None:
        """Fill in the result of a call that timed out before its first run."""
        run = Run(ending, 0.0, 0.0, 0, (), {}, accounted=False)
        self.measured = Measured([Series([run], run)], stopped="timed_out")

    def report_phase(self, words: str) -> None:
        """Report the next step of the call as its progress."""
        most = (1 if self._plan.warmup is None else self._plan.warmup) + self._plan.max_runs
        report_progress(self._steps, max(most, self._steps) if self._names else None, words)
        self._steps += 1


class _Output:
    """Where the runs write: the first one into the streams of the call, each other one into files that the
    next one replaces, so that many runs need the space of two."""

    def __init__(self, prepared: Prepared, sampler: RunSampler, folder: Path) -> None:
        self._session = prepared.session
        self._sampler = sampler
        self._apart = {name: folder / name for name in _STREAMS}
        self._runs = 0

    def run(self, command: Command) -> Run:
        """Run the script; the output of a later run is kept, after that of the first, only if it fails."""
        self._runs += 1
        streams = {name: self._session.folder / name for name in _STREAMS}
        if self._runs == 1:
            return measured_run(command, self._session, **streams, sampler=self._sampler)
        run = self.run_apart(command)
        if run.failed:
            for name, path in streams.items():
                if size_of(self._apart[name]):
                    append_line(path, f"[run {self._runs} wrote:]\n".encode())
                    with (
                        open_stream(path) as descriptor,
                        open(descriptor, "wb", closefd=False) as target,
                        open(self._apart[name], "rb", opener=own_file) as more,
                    ):
                        shutil.copyfileobj(more, target)
        return run

    def run_apart(self, command: Command) -> Run:
        """Run a command whose output the next run replaces."""
        for path in self._apart.values():
            path.unlink(missing_ok=True)
        return measured_run(command, self._session, **self._apart, sampler=self._sampler)

    def stderr_tail(self) -> str:
        """Return the end of what the last of these commands wrote to stderr."""
        return end_of(self._apart["stderr"], _STDERR_BYTES).decode("utf-8", errors="replace").strip()


def _ending(measured: Measured) -> ChildExit:
    for series in measured.series:
        if series.failed is not None and (series is measured.script or measured.stopped == "failed"):
            return series.failed.ending
    return replace(measured.script.runs[0].ending, elapsed_s=median(measured.script.walls))


def _idle(prepared: Prepared, folder: Path) -> Script:
    """Return an empty script that starts as the measured one does."""
    return Script(write_script(_made(folder / "nothing"), ""), prepared.script.home)


def _made(folder: Path) -> Path:
    make_directory(str(folder))
    return folder
