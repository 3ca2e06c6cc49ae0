"""A pytest plugin that writes one line of JSON for each event of a test run.

The plugin is copied into the folder of a call and runs there in the suite's own environment, so it imports
nothing of ours, and works with Python from 3.8 and pytest from 7 on. Under pytest-xdist the controller
writes the events of tests; a worker writes only what never reaches the controller.

The events, by their field `e`:
    start       pytest, rootdir; idle: the option that keeps tests from running, or ""; alone: why
                pytest-xdist is not used, or "" where it is used or was not wanted
    worker      a worker of xdist is ready
    lost        a worker of xdist ended before its time
    collecting  id: a file that is being collected; "" after the last one; by: the worker, or ""
    collected   n: how many tests will run
    deselected  n, by: the worker, or ""
    usage       text: why pytest refuses its arguments
    began       id
    report      id, as: the category of pytest's counts; for failures also the details
    done        id, s: seconds with set-up and teardown
    passed_by   id: a test that ended, but neither ran, failed nor was skipped
    warning
    stopped     text: why the session ended early
    internal    text: an error of pytest itself
    end
"""

# ruff: noqa: D102 - a hook does what its name says

from __future__ import annotations

import json
import os
import re
from ast import literal_eval
from collections.abc import Generator
from importlib.util import find_spec
from typing import Any, Final

import pytest

FOLDER = os.path.dirname(os.path.abspath(__file__))
TEXT_CHARS = 100_000  # of one failure, in the stream of failures
FAILURES = ("failed", "error")
IDLE = {"collectonly": "--collect-only", "setupplan": "--setup-plan", "setuponly": "--setup-only"}
_WORKER_LINE: Final = re.compile(r"\A\[gw\d+\] .*\n\n?")  # which Python of xdist
_NO_FAILURES: Final = str.maketrans({"f": "", "F": "", "E": "", "a": "sxX", "A": "sxXpP"})
"""Of the letters of -r, those without failures."""


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: Any, args: list[str]) -> None:
    """Add options that this suite knows, because the suite may have switched plugins off.

    They stand after the options of the suite's configuration and before those of the caller.
    """
    known = early_config.known_args_namespace
    options = [*(["--color=no"] if hasattr(known, "color") else ()), *_parallel(early_config)]
    at = args.index(__name__) + 1
    args[at:at] = options


def _parallel(config: Any) -> list[str]:
    """Return the options for xdist; none where it is not used, or where the suite configures it."""
    run = _instructions()
    workers, few = run["workers"], len(run["only"] or ())
    why_not = without_xdist(config)
    if why_not:
        if workers in (0, "auto"):
            return []
        raise pytest.UsageError(f"workers is {workers}, but {why_not}; set workers to 0")
    if workers == "auto" and config.known_args_namespace.numprocesses is not None:
        return []
    if few == 1:
        return ["-n", "0"]
    return ["-n", str(workers), *(["--maxprocesses", str(few)] if few else ())]


def without_xdist(config: Any) -> str:
    """Return why xdist cannot be used, in words; an empty text if it can be used."""
    if config.pluginmanager.is_blocked("xdist"):
        return "pytest-xdist is switched off (-p no:xdist)"
    if hasattr(config.known_args_namespace, "numprocesses"):
        return ""
    there = find_spec("xdist") is not None
    return f"pytest-xdist is {'not loaded, or too old' if there else 'not installed'}"


def _instructions() -> Any:
    with open(os.path.join(FOLDER, "run.json"), encoding="utf-8") as file:
        return json.load(file)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: Any) -> None:
    """Register the recorder of the controller, or that of a worker of xdist; the result has the failures, so
    the terminal's list is left out.
    """
    if hasattr(config.option, "reportchars"):  # the terminal plugin is on
        config.option.reportchars = config.option.reportchars.translate(_NO_FAILURES)
    only = _instructions()["only"]
    if only is not None:
        config.pluginmanager.register(Selection(only), "python-mcp-selection")
    worker = getattr(config, "workerinput", {}).get("workerid")
    writer = EventWriter(config, worker) if worker else Recorder(config)
    config.pluginmanager.register(writer, "python-mcp-recorder")


class Selection:
    """Runs only the tests with these ids, and those of the files and classes with these ids."""

    def __init__(self, only: list[str]) -> None:
        self._only = set(only)

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        chosen = [item for item in items if self._wants(item.nodeid)]
        if len(chosen) < len(items):
            others = [item for item in items if not self._wants(item.nodeid)]
            config.hook.pytest_deselected(items=others)
            items[:] = chosen

    def _wants(self, nodeid: str) -> bool:
        parts = nodeid.split("::")
        return any("::".join(parts[:count]) in self._only for count in range(1, len(parts) + 1))


class EventWriter:
    """Writes events in a worker of xdist: only those that the controller does not see.

    Tests may replace functions, close descriptors, change the directory and fork: so this class keeps the
    functions it needs, opens the file for each event, and writes nothing in a forked child.
    """

    def __init__(self, config: Any, name: str = "") -> None:
        self._config = config
        self._name = name
        self._pid = os.getpid()
        self._path = os.path.join(FOLDER, "events.jsonl")
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._dumps, self._getpid = json.dumps, os.getpid
        self._open, self._write, self._close = os.open, os.write, os.close

    def emit(self, event: str, **facts: Any) -> None:
        """Append one event."""
        if self._getpid() != self._pid:
            return
        line = (self._dumps({"e": event, **facts}) + "\n").encode()
        descriptor = self._open(self._path, self._flags, 0o600)
        try:
            while line:
                line = line[self._write(descriptor, line) :]
        finally:
            self._close(descriptor)

    def pytest_deselected(self, items: list[Any]) -> None:
        self.emit("deselected", n=len(items), by=self._name)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_collection(self) -> Generator[None, Any, None]:
        """Report a wrong -m, -k or node id, which xdist would lose."""
        outcome = yield
        error = (outcome.excinfo or (None, None))[1]
        if isinstance(error, pytest.UsageError):
            self.emit("usage", text="; ".join(map(str, error.args)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_make_collect_report(self, collector: Any) -> None:
        """Report the file before its import, which may end the process."""
        if isinstance(collector, pytest.File):
            self.emit("collecting", id=collector.nodeid, by=self._name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self) -> None:
        self.emit("collecting", id="", by=self._name)

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        self.emit("stopped", text=str(excinfo.value) or excinfo.typename)

    def pytest_internalerror(self, excrepr: Any) -> None:
        self.emit("internal", text=_cut(str(excrepr)))


class Recorder(EventWriter):
    """Writes the events of tests, in the controller of xdist or in the only process."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._seconds: dict[str, float] = {}
        self._judged: set[str] = set()  # tests that ran, failed or were skipped
        self._collected = self._lost = 0

    def pytest_sessionstart(self) -> None:
        config = self._config
        idle = next((option for name, option in IDLE.items() if config.getoption(name, False)), "")
        alone = without_xdist(config) if _instructions()["workers"] == "auto" else ""
        self.emit("start", pytest=pytest.__version__, rootdir=str(config.rootpath), idle=idle, alone=alone)

    def pytest_collection_finish(self, session: Any) -> None:
        self.emit("collected", n=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        each = self._config.getoption("dist") == "each"  # every worker runs all of them
        self._collected = len(ids) + (self._collected if each else 0)
        self.emit("collected", n=self._collected)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self) -> None:
        self.emit("worker")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: Any) -> None:
        """Stop a run whose workers all die at an import: xdist would replace each of them four times."""
        if not error or error == "keyboard-interrupt":
            return
        self.emit("lost")
        self._lost += 1
        if not self._collected and self._lost >= max(2, len(self._config.getoption("tx"))):
            pytest.exit("every worker of pytest-xdist ended while tests were looked for")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.emit("began", id=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        seconds = getattr(report, "duration", 0.0)
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + seconds
        if report.when == "call" or not report.passed:
            self._judged.add(report.nodeid)
        category = self._category(report)
        if category:
            self._emit_report(report, category, report.when)
        if report.when == "???":  # a worker that crashed: no other event of this test follows
            self.pytest_runtest_logfinish(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        seconds = round(self._seconds.pop(nodeid, 0.0), 6)
        if nodeid in self._judged:
            self._judged.remove(nodeid)
            self.emit("done", id=nodeid, s=seconds)
        else:
            self.emit("passed_by", id=nodeid)

    def _category(self, report: Any) -> str:
        """Return the category of a report in pytest's counts, also where its terminal plugin is off."""
        status = self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        if status:
            return str(status[0])
        if report.when in ("setup", "teardown"):
            return {"passed": "", "failed": "error"}.get(report.outcome, str(report.outcome))
        return str(report.outcome)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed or report.skipped:
            self._emit_report(report, "error" if report.failed else "skipped", "collect")

    def _emit_report(self, report: Any, category: str, when: str) -> None:
        facts = _failure(report, when) if category in FAILURES else {}
        self.emit("report", **{"id": report.nodeid, "as": category, **facts})

    def pytest_warning_recorded(self) -> None:
        self.emit("warning")

    def pytest_sessionfinish(self, session: Any) -> None:
        reason = session.shouldfail or session.shouldstop
        if reason:
            self.emit("stopped", text=str(reason))
        self._config.option.tbstyle = "no"  # all reports are made; the terminal would tell them again
        self.emit("end")


def _failure(report: Any, when: str) -> dict[str, Any]:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = _WORKER_LINE.sub("", report.longreprtext)
    lines = [line for line in text.split("\n") if line.strip()] or [""]
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    return {
        "when": "call" if when == "???" else when,
        "message": _cut(getattr(crash, "message", None) or (errors or lines)[-1]),
        "at": _location(report.longrepr, crash),
        "sub": _subtest(report),
        "text": _cut(text),
        "sections": [[name, _cut(content)] for name, content in report.sections],
    }


def _location(longrepr: Any, crash: Any) -> str:
    """Return the file and line that raised, as the traceback shows them."""
    entries = getattr(getattr(longrepr, "reprtraceback", None), "reprentries", None)
    place = getattr(entries[-1], "reprfileloc", None) if entries else None
    place = place or crash
    return f"{place.path}:{place.lineno}" if place is not None else ""


def _subtest(report: Any) -> str:
    """Return the name of a subtest as pytest prints it; empty for a test."""
    context: Any = getattr(report, "context", None)  # of pytest 9, or of the plugin pytest-subtests
    if not hasattr(context, "kwargs"):
        return ""
    show = repr
    if type(context).__module__.startswith("_pytest"):  # there the values are texts already
        show = _unquoted if hasattr(report, "node") else str
    values = ", ".join(f"{name}={show(value)}" for name, value in context.kwargs.items())
    parts = [f"[{context.msg}]" if context.msg is not None else "", f"({values})" if values else ""]
    return " ".join(filter(None, parts)) or "(<subtest>)"


def _unquoted(value: str) -> str:
    """Return the text of a value from a worker of xdist, which pytest quotes twice."""
    try:
        return str(literal_eval(value))
    except (SyntaxError, ValueError):
        return value


def _cut(text: str) -> str:
    """Keep the head and the tail, because the end of a traceback says what happened."""
    if len(text) <= TEXT_CHARS:
        return text
    half = TEXT_CHARS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
