"""Runs contenders in turns until what they tell is certain enough, or a number or a time is spent.

    warm-up ──▶ turn: each once, the first one moves on ──▶ enough? ──▶ Measured
                 ▲                                             │ no
                 └─────────────────────────────────────────────┘

Turns let a slow minute of the machine hit all of them alike. Knows no process: a contender is a
function that returns a `Run`.


One benchmark: what is run in turns, where its output goes, what the machine did meanwhile."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from python_mcp_server.context import report_progress
from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.child import ChildExit, Command
from python_mcp_server.runner.command import Script, interpreter_with
from python_mcp_server.runner.inline import write_script
from python_mcp_server.runner.python.pep723 import Header, merge, parse_header
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.settings import positive
from python_mcp_server.tools.benchmark.process import Run, Sampler, measured_run
from python_mcp_server.tools.benchmark.results import Noise
from python_mcp_server.tools.benchmark.statistics import (
    Interval,
    Machine,
    assess_noise,
    interval_of_median,
    interval_of_ratio,
    median,
)
from python_mcp_server.tools.call import Prepared
from python_mcp_server.tools.scripts import source_of

Stop = Literal["certain", "max_runs", "max_seconds", "failed", "timed_out"]

CERTAIN: Final = 0.01
"""How far the ends of an interval may be from its middle, as a share of it, for the runs to be enough."""
MOST_RUNS: Final = 1000
_GROWTH: Final = 1.2
"""Looking after each run would stop by luck; so the next look is after so many times the runs."""
_LONG_SHARE: Final = 0.25
"""A first run that takes this share of the time counts, where nobody asked for warm-ups."""
STARTS: Final = 10
"""How often the start of the interpreter is measured at most: it varies little."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How often to run.

    Attributes:
        warmup: Runs before those that count; None for one, which counts where it is long.
        min_runs: No look at the intervals before so many.
        max_runs: No more than these.
        max_seconds: After this time no other turn begins.

    Raises:
        InvalidInput: A value has no meaning; the text names it.
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
            _check_count(name, value, least)
        positive(self.max_seconds, "max_seconds")


@dataclass(frozen=True, slots=True)
class Contenders:
    """What is run, each once a turn: the script, another script, and the interpreter with nothing to do."""

    script: Callable[[], Run]
    other: Callable[[], Run] | None = None
    start: Callable[[], Run] | None = None


@dataclass(slots=True)
class Measured:
    """The runs that count, and how it came to an end.

    Attributes:
        script: Of the script, in order; at least one.
        other: Of the other script, turn by turn.
        start: Of the interpreter alone.
        warmups: How many runs of the script went before.
        stopped: Why there are no more.
        failed: The run of the script that ended otherwise than by success.
        other_failed: The same of the other script, which is not run again then.
        elapsed_s: How long all of it took.
    """

    script: list[Run] = field(default_factory=list[Run])
    other: list[Run] = field(default_factory=list[Run])
    start: list[Run] = field(default_factory=list[Run])
    warmups: int = 0
    stopped: Stop = "max_runs"
    failed: Run | None = None
    other_failed: Run | None = None
    elapsed_s: float = 0.0


class Turns:
    """One benchmark, while it is measured."""

    def __init__(
        self,
        plan: Plan,
        contenders: Contenders,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            plan: How often.
            contenders: What.
            tell: Called before each run of a script with the phase and the run, in words.
            clock: Returns seconds.
        """
        self._plan = plan
        self._contenders = contenders
        self._tell = tell
        self._clock = clock
        self._measured = Measured()
        self._other_runs = contenders.other is not None

    def take(self) -> Measured:
        """Measure."""
        began = self._clock()
        if self._warm_up():
            self._count(began)
        self._measured.elapsed_s = self._clock() - began
        return self._measured

    def _warm_up(self) -> bool:
        """Return whether it goes on."""
        plan = self._plan
        wanted = plan.warmup if plan.warmup is not None else min(1, plan.max_runs - 1)
        for number in range(1, wanted + 1):
            self._tell(f"warm-up {number} of {wanted}")
            turn = self._turn(number - 1, with_start=True)
            if turn.over:
                self._end(turn)
                return False
            if plan.warmup is None and turn.longest_s > _LONG_SHARE * plan.max_seconds:
                self._keep(turn)
            else:
                self._measured.warmups += 1
        return True

    def _count(self, began: float) -> None:
        plan, measured = self._plan, self._measured
        next_look = min(plan.min_runs, plan.max_runs)
        while len(measured.script) < plan.max_runs:
            if measured.script and self._clock() - began >= plan.max_seconds:
                measured.stopped = "max_seconds"
                return
            if len(measured.script) >= next_look:
                if self._certain():
                    measured.stopped = "certain"
                    return
                next_look = math.ceil(_GROWTH * next_look)
            self._tell(self._words())
            turn = self._turn(len(measured.script), with_start=len(measured.start) < STARTS)
            if turn.over:
                self._end(turn)
                return
            self._keep(turn)

    def _turn(self, number: int, *, with_start: bool) -> _Turn:
        """Run each once, in an order that moves on; nobody runs after the script has failed."""
        turn = _Turn()
        for name in _rotated(("script", "other", "start"), number):
            contender: Callable[[], Run] | None = getattr(self._contenders, name)
            wanted = {"script": True, "other": self._other_runs, "start": with_start}[name]
            if contender is None or not wanted:
                continue
            run = contender()
            setattr(turn, name, run)
            if name == "other" and run.failed:
                self._other_runs, self._measured.other_failed = False, run
            if turn.over:
                break
        return turn

    def _keep(self, turn: _Turn) -> None:
        measured = self._measured
        if turn.script is not None:
            measured.script.append(turn.script)
        if turn.other is not None and not turn.other.failed:
            measured.other.append(turn.other)
        if turn.start is not None and not turn.start.failed:
            measured.start.append(turn.start)

    def _end(self, last: _Turn) -> None:
        """Take the last run of the script for the result where it is the only one."""
        measured = self._measured
        if last.script is not None:
            measured.failed = last.script if last.script.failed else None
            measured.script = measured.script or [last.script]
        measured.stopped = "timed_out" if last.timed_out else "failed"

    def _certain(self) -> bool:
        walls = [run.wall_s for run in self._measured.script]
        others = [run.wall_s for run in self._measured.other]
        return _narrow(interval_of_ratio(others, walls) if others else interval_of_median(walls))

    def _words(self) -> str:
        walls = [run.wall_s for run in self._measured.script]
        words = f"run {len(walls) + 1} of at most {self._plan.max_runs}"
        interval = interval_of_median(walls)
        if interval is None:
            return words
        return f"{words}: {seconds(median(walls))} +- {100 * _half_width(interval):.1f} %"


@dataclass(slots=True)
class _Turn:
    script: Run | None = None
    other: Run | None = None
    start: Run | None = None

    @property
    def longest_s(self) -> float:
        return max(run.wall_s for run in (self.script, self.other) if run is not None)

    @property
    def timed_out(self) -> bool:
        """Whether the time of the whole call is spent."""
        runs = (self.script, self.other, self.start)
        return any(run.ending.timed_out for run in runs if run is not None)

    @property
    def over(self) -> bool:
        """Whether no other turn makes sense."""
        return self.timed_out or (self.script is not None and self.script.failed)


def _rotated(names: Sequence[str], number: int) -> Sequence[str]:
    first = number % len(names)
    return (*names[first:], *names[:first])


def seconds(value: float) -> str:
    """Return a duration in words, with three digits or so."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:.{max(0, 2 - math.floor(math.log10(value * factor)))}f} {unit}"
    return f"{value * 1e6:.0f} us"


def _narrow(interval: Interval | None) -> bool:
    return interval is not None and _half_width(interval) <= CERTAIN


def _half_width(interval: Interval) -> float:
    """Return how far the ends are from the middle, as a share of it."""
    return (interval.high - interval.low) / (interval.high + interval.low)


def _check_count(name: str, value: Any, least: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not least <= value <= MOST_RUNS:
        raise InvalidInput(f"{name} is {value!r}; it must be a whole number from {least} to {MOST_RUNS}")


_STREAMS: Final = ("stdout", "stderr")
_LAST_WORDS_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class Candidate:
    """The script to compare with: a file, or code that runs where the first script does."""

    path: Path | None
    content: str | None
    python_version: str | None
    dependencies: tuple[str, ...]

    @classmethod
    def of(cls, text: str, python_version: str | None, dependencies: list[str] | None) -> Candidate:
        """Return what this text means: the file that it names, else code.

        Raises:
            InvalidInput: It is the name of a script that does not exist.
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
        """Return it ready to run, with the arguments of the first script."""
        header = parse_header(source_of(self.path, self.content)) or Header()
        header = replace(header, dependencies=merge(header.dependencies, self.dependencies))
        interpreter = interpreter_with(Uv(first.session), header, self.python_version)
        if self.path is not None:
            return replace(first, interpreter=interpreter, script=Script(self.path), cwd=self.path.parent)
        script = Script(write_script(_made(folder), self.content or ""), first.cwd)
        return replace(first, interpreter=interpreter, script=script)


class Benchmark:
    """Measures a prepared script as a plan says.

    Attributes:
        measured: The runs; none before `start` has returned.
        noise: What disturbed them.
        install_s: How long preparing the rival's environment took.
        rival_said: The last that the rival wrote to stderr, where it failed.
    """

    def __init__(self, plan: Plan, sample_interval_s: float, rival: Candidate | None) -> None:
        self.measured = Measured()
        self.noise = Noise(noisy=False, reasons=[], other_cpu_percent=0.0, cores=0)
        self.install_s = 0.0
        self.rival_said = ""
        self._plan = plan
        self._interval_s = sample_interval_s
        self._rival = rival
        self._told = 1

    def start(self, prepared: Prepared) -> ChildExit:
        """Run all, and return how the script ended: its medians, or the run that failed."""
        folder = prepared.session.folder / "benchmark"
        prepared = replace(prepared, figures=None)  # saving figures is no part of the script
        rival = None if self._rival is None else self._rival.prepared(prepared, folder / "compare_with")
        self.install_s = 0.0 if rival is None else rival.interpreter.install_s or 0.0
        before = Machine.now()
        with Sampler(self._interval_s) as sampler:
            output = _Output(prepared, sampler, _made(folder))
            idle = replace(prepared, script=_idle(prepared, folder), args=())
            contenders = Contenders(
                lambda: output.run(prepared.command),
                None if rival is None else lambda: self._heard(output, rival.command),
                lambda: output.run_aside(idle.command),
            )
            self.measured = Turns(self._plan, contenders, self.report_phase).take()
        shutil.rmtree(folder)
        self.noise = assess_noise(before, Machine.now(), self.measured.script)
        return _ending(self.measured)

    def never_started(self, ending: ChildExit) -> None:
        """Take what there is of a call whose time was over before its first run."""
        run = Run(ending, 0.0, 0.0, 0, (), {}, accounted=False)
        self.measured = Measured(script=[run], stopped="timed_out", failed=run)

    def _heard(self, output: _Output, command: Command) -> Run:
        run = output.run_aside(command)
        if run.failed:
            self.rival_said = output.last_words()
        return run

    def report_phase(self, words: str) -> None:
        """Report the next step of the call as its progress."""
        report_progress(self._told, None, words)
        self._told += 1


class _Output:
    """Where the runs write: the first one into the streams of the call, each other into files that the
    next one replaces, so that many runs need the room of two."""

    def __init__(self, prepared: Prepared, sampler: Sampler, folder: Path) -> None:
        self._session = prepared.session
        self._sampler = sampler
        self._aside = {name: folder / name for name in _STREAMS}
        self._runs = 0

    def run(self, command: Command) -> Run:
        """Run the script; what a later run says is added to the first one's only where that run failed."""
        self._runs += 1
        streams = {name: self._session.folder / name for name in _STREAMS}
        if self._runs == 1:
            return measured_run(command, self._session, **streams, sampler=self._sampler)
        run = self.run_aside(command)
        if run.failed:
            for name, path in streams.items():
                if self._aside[name].stat().st_size:
                    _append(path, self._aside[name], f"[run {self._runs} wrote:]\n")
        return run

    def run_aside(self, command: Command) -> Run:
        """Run anything else."""
        for path in self._aside.values():
            path.unlink(missing_ok=True)
        return measured_run(command, self._session, **self._aside, sampler=self._sampler)

    def last_words(self) -> str:
        """Return the end of what the last run aside wrote to stderr."""
        with self._aside["stderr"].open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_WORDS_CHARS))
            return file.read().decode("utf-8", errors="replace").strip()


def _ending(measured: Measured) -> ChildExit:
    if measured.failed is not None:
        return measured.failed.ending
    runs = measured.script
    return replace(runs[0].ending, elapsed_s=median([run.wall_s for run in runs]))


def _idle(prepared: Prepared, folder: Path) -> Script:
    """Return a script that does nothing, started as the measured one is."""
    return Script(write_script(_made(folder / "nothing"), ""), prepared.script.home)


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _append(path: Path, source: Path, line: str) -> None:
    with path.open("ab+") as target, source.open("rb") as more:
        if end := target.seek(0, os.SEEK_END):
            target.seek(end - 1)
        begins_line = not end or target.read(1) == b"\n"
        target.write((line if begins_line else f"\n{line}").encode())
        shutil.copyfileobj(more, target)
