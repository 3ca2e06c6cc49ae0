"""One benchmark: what is run in turns, where its output goes, what the machine did meanwhile."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from python_mcp_server.context import report_progress
from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.benchmark import Run, Sampler, measured_run
from python_mcp_server.runner.child import Command, Ending
from python_mcp_server.runner.command import Script, interpreter_with
from python_mcp_server.runner.inline import write_script
from python_mcp_server.runner.metadata import Header, merge, parse_header
from python_mcp_server.runner.uv import Uv
from python_mcp_server.tools.benchmark_noise import Machine, judge
from python_mcp_server.tools.benchmark_results import Noise
from python_mcp_server.tools.benchmark_statistics import median
from python_mcp_server.tools.benchmark_turns import Contenders, Measured, Plan, Turns
from python_mcp_server.tools.running import Prepared
from python_mcp_server.tools.sources import source_of

_STREAMS: Final = ("stdout", "stderr")
_LAST_WORDS_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class Rival:
    """The script to compare with: a file, or code that runs where the first script does."""

    path: Path | None
    content: str | None
    python_version: str | None
    dependencies: tuple[str, ...]

    @classmethod
    def of(cls, text: str, python_version: str | None, dependencies: list[str] | None) -> Rival:
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

    def __init__(self, plan: Plan, sample_interval_s: float, rival: Rival | None) -> None:
        self.measured = Measured()
        self.noise = Noise(noisy=False, reasons=[], other_cpu_percent=0.0, cores=0)
        self.install_s = 0.0
        self.rival_said = ""
        self._plan = plan
        self._interval_s = sample_interval_s
        self._rival = rival
        self._told = 1

    def start(self, prepared: Prepared) -> Ending:
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
            self.measured = Turns(self._plan, contenders, self._tell).take()
        shutil.rmtree(folder)
        self.noise = judge(before, Machine.now(), self.measured.script)
        return _ending(self.measured)

    def never_started(self, ending: Ending) -> None:
        """Take what there is of a call whose time was over before its first run."""
        run = Run(ending, 0.0, 0.0, 0, (), {}, accounted=False)
        self.measured = Measured(script=[run], stopped="timed_out", failed=run)

    def _heard(self, output: _Output, command: Command) -> Run:
        run = output.run_aside(command)
        if run.failed:
            self.rival_said = output.last_words()
        return run

    def _tell(self, words: str) -> None:
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


def _ending(measured: Measured) -> Ending:
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
