"""What a test run tells of itself: a pytest plugin that writes one line of JSON for each event.

It is copied into the folder of a call and runs there in the suite's own environment, so it imports
nothing of ours, and works with Python from 3.8 and pytest from 7 on. Under pytest-xdist the
controller tells of the tests; a worker tells only what never reaches the controller.

The lines, by their `e`:
    start       pytest, rootdir; idle: the option for which no test runs, or ""; alone: why pytest-xdist
                takes no part, or "" where it does or need not
    worker      a worker of xdist is ready
    lost        a worker of xdist ended before its time
    collecting  id: a file whose tests are looked for; "" after the last one; by: the worker, or ""
    collected   n: how many tests will run
    deselected  n, by: the worker, or ""
    usage       text: why pytest refuses its arguments
    began       id
    report      id, as: the category that pytest counts it under; for failures also the details
    done        id, s: seconds with its set-up and teardown
    passed_by   id: it came to its end, but neither ran, failed nor was skipped
    warning
    stopped     text: why the session ended early
    internal    text: an error of pytest itself
    end
"""

# ruff: noqa: D102 - a hook does what its name says

from __future__ import annotations

import json
import os
from ast import literal_eval
from collections.abc import Generator
from importlib.util import find_spec
from typing import Any

import pytest

FOLDER = os.path.dirname(os.path.abspath(__file__))
TEXT_CHARS = 100_000  # of one failure, in the stream of failures; pytest's own output has all of it
FAILURES = ("failed", "error")
IDLE = {"collectonly": "--collect-only", "setupplan": "--setup-plan", "setuponly": "--setup-only"}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: Any, args: list[str]) -> None:
    """Add the options that this suite knows: it may have switched plugins off, or use them its own way.

    They come after those of the suite's configuration and before those of the caller.
    """
    known = early_config.known_args_namespace
    options = [*(["--color=no"] if hasattr(known, "color") else ()), *_parallel(early_config)]
    at = args.index(__name__) + 1
    args[at:at] = options


def _parallel(config: Any) -> list[str]:
    """Return the options for xdist; none where it takes no part, or the suite says how."""
    run = _run()
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
    """Return why xdist takes no part, in words; empty where it can."""
    if config.pluginmanager.is_blocked("xdist"):
        return "pytest-xdist is switched off (-p no:xdist)"
    if hasattr(config.known_args_namespace, "numprocesses"):
        return ""
    there = find_spec("xdist") is not None
    return f"pytest-xdist is {'not loaded, or too old' if there else 'not installed'}"


def _run() -> Any:
    with open(os.path.join(FOLDER, "run.json"), encoding="utf-8") as file:
        return json.load(file)


def pytest_configure(config: Any) -> None:
    """Take part, as the controller or as a worker of xdist."""
    only = _run()["only"]
    if only is not None:
        config.pluginmanager.register(Selection(only), "python-mcp-selection")
    worker = getattr(config, "workerinput", {}).get("workerid")
    teller = Worker(config, worker) if worker else Recorder(config)
    config.pluginmanager.register(teller, "python-mcp-recorder")


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
    """Writes events, whatever the tests do to their process.

    They may replace functions, close descriptors, change the directory and fork: so all that is
    needed is kept from before, each event opens the file anew, and a forked child says nothing.
    """

    def __init__(self, config: Any, name: str = "") -> None:
        self._config = config
        self._name = name
        self._pid = os.getpid()
        self._path = os.path.join(FOLDER, "events.jsonl")
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._dumps, self._getpid = json.dumps, os.getpid
        self._open, self._write, self._close = os.open, os.write, os.close

    def tell(self, event: str, **facts: Any) -> None:
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
        self.tell("deselected", n=len(items), by=self._name)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_collection(self) -> Generator[None, Any, None]:
        """A wrong -m, -k or node id is found here; xdist would lose it."""
        outcome = yield
        error = (outcome.excinfo or (None, None))[1]
        if isinstance(error, pytest.UsageError):
            self.tell("usage", text="; ".join(map(str, error.args)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_make_collect_report(self, collector: Any) -> None:
        """The file is imported next, which may end the process."""
        if isinstance(collector, pytest.File):
            self.tell("collecting", id=collector.nodeid, by=self._name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self) -> None:
        self.tell("collecting", id="", by=self._name)

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        self.tell("stopped", text=str(excinfo.value) or excinfo.typename)

    def pytest_internalerror(self, excrepr: Any) -> None:
        self.tell("internal", text=_cut(str(excrepr)))


class Worker(EventWriter):
    """In a worker of xdist: only what the controller does not hear of."""


class Recorder(EventWriter):
    """In the controller, or in the one process that there is."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._seconds: dict[str, float] = {}
        self._judged: set[str] = set()  # tests that ran, failed or were skipped
        self._collected = self._lost = 0

    def pytest_sessionstart(self) -> None:
        config = self._config
        idle = next((option for name, option in IDLE.items() if config.getoption(name, False)), "")
        alone = without_xdist(config) if _run()["workers"] == "auto" else ""
        self.tell("start", pytest=pytest.__version__, rootdir=str(config.rootpath), idle=idle, alone=alone)

    def pytest_collection_finish(self, session: Any) -> None:
        self.tell("collected", n=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        each = self._config.getoption("dist") == "each"  # every worker runs all of them
        self._collected = len(ids) + (self._collected if each else 0)
        self.tell("collected", n=self._collected)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self) -> None:
        self.tell("worker")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: Any) -> None:
        """Where all workers end at an import, so would those that replace them: xdist tries four for each."""
        if not error or error == "keyboard-interrupt":
            return
        self.tell("lost")
        self._lost += 1
        if not self._collected and self._lost >= max(2, len(self._config.getoption("tx"))):
            pytest.exit("every worker of pytest-xdist ended while tests were looked for")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell("began", id=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        seconds = getattr(report, "duration", 0.0)
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + seconds
        if report.when == "call" or not report.passed:
            self._judged.add(report.nodeid)
        category = self._category(report)
        if category:
            self._tell_report(report, category, report.when)
        if report.when == "???":  # a worker that crashed: nothing else will be heard of this test
            self.pytest_runtest_logfinish(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        seconds = round(self._seconds.pop(nodeid, 0.0), 6)
        if nodeid in self._judged:
            self._judged.remove(nodeid)
            self.tell("done", id=nodeid, s=seconds)
        else:
            self.tell("passed_by", id=nodeid)

    def _category(self, report: Any) -> str:
        """Return what pytest counts a report under; without its terminal it does not count."""
        status = self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        if status:
            return str(status[0])
        if report.when in ("setup", "teardown"):
            return {"passed": "", "failed": "error"}.get(report.outcome, str(report.outcome))
        return str(report.outcome)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed or report.skipped:
            self._tell_report(report, "error" if report.failed else "skipped", "collect")

    def _tell_report(self, report: Any, category: str, when: str) -> None:
        facts = _failure(report, when) if category in FAILURES else {}
        self.tell("report", **{"id": report.nodeid, "as": category, **facts})

    def pytest_warning_recorded(self) -> None:
        self.tell("warning")

    def pytest_sessionfinish(self, session: Any) -> None:
        reason = session.shouldfail or session.shouldstop
        if reason:
            self.tell("stopped", text=str(reason))
        self.tell("end")


def _failure(report: Any, when: str) -> dict[str, Any]:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = report.longreprtext
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
    """Return where it was raised; in the suite, where the traceback shows no more than that."""
    entries = getattr(getattr(longrepr, "reprtraceback", None), "reprentries", None)
    place = getattr(entries[-1], "reprfileloc", None) if entries else None
    place = place or crash
    return f"{place.path}:{place.lineno}" if place is not None else ""


def _subtest(report: Any) -> str:
    """Return which subtest it is, as pytest prints it; empty for a test."""
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
    """Return the text of a value that came from a worker of xdist: there pytest quotes it twice."""
    try:
        return str(literal_eval(value))
    except (SyntaxError, ValueError):
        return value


def _cut(text: str) -> str:
    """Keep the head and the tail: the end of a traceback says what happened."""
    if len(text) <= TEXT_CHARS:
        return text
    half = TEXT_CHARS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
