"""What a test run tells of itself: a pytest plugin that writes one line of JSON for each event.

It is copied into the folder of a call and runs there in the suite's own environment, so it imports
nothing of ours, and works with Python from 3.8 and pytest from 7 on. Under pytest-xdist the
controller tells of the tests; a worker tells only what never reaches the controller.

The lines, by their `e`:
    start       pytest, python, rootdir
    worker      a worker of xdist is ready
    collected   n: how many tests will run
    deselected  n, by: the worker, or ""
    usage       text: why pytest refuses its arguments
    began       id
    report      id, as: the category that pytest counts it under; for failures also the details
    done        id, s: seconds with its set-up and teardown
    warning
    stopped     text: why the session ended early
    internal    text: an error of pytest itself
    end
"""

# ruff: noqa: D102 - a hook does what its name says

from __future__ import annotations

import json
import os
from collections.abc import Generator
from typing import Any

import pytest

FOLDER = os.path.dirname(os.path.abspath(__file__))
TEXT_CHARS = 100_000  # of one failure, in the stream of failures; pytest's own output has all of it
FAILURES = ("failed", "error")


def pytest_configure(config: Any) -> None:
    """Take part, as the controller or as a worker of xdist."""
    with open(os.path.join(FOLDER, "run.json"), encoding="utf-8") as file:
        only = json.load(file)["only"]
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


class Teller:
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


class Worker(Teller):
    """In a worker of xdist: only what the controller does not hear of."""


class Recorder(Teller):
    """In the controller, or in the one process that there is."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._seconds: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        rootdir = str(self._config.rootpath)
        self.tell("start", pytest=pytest.__version__, rootdir=rootdir)

    def pytest_collection_finish(self, session: Any) -> None:
        self.tell("collected", n=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self.tell("collected", n=len(ids))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self) -> None:
        self.tell("worker")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell("began", id=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        status = self._config.hook.pytest_report_teststatus(report=report, config=self._config)
        seconds = getattr(report, "duration", 0.0)
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + seconds
        if status[0]:
            self._tell_report(report, status[0], report.when)
        if report.when == "???":  # a worker that crashed: nothing else will be heard of this test
            self.pytest_runtest_logfinish(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.tell("done", id=nodeid, s=round(self._seconds.pop(nodeid, 0.0), 6))

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed or report.skipped:
            self._tell_report(report, "error" if report.failed else "skipped", "collect")

    def _tell_report(self, report: Any, category: str, when: str) -> None:
        facts = _failure(report, when) if category in FAILURES else {}
        self.tell("report", **{"id": report.nodeid, "as": category, **facts})

    def pytest_warning_recorded(self) -> None:
        self.tell("warning")

    def pytest_internalerror(self, excrepr: Any) -> None:
        self.tell("internal", text=_cut(str(excrepr)))

    def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
        self.tell("stopped", text=str(excinfo.value) or excinfo.typename)

    def pytest_sessionfinish(self, session: Any) -> None:
        reason = session.shouldfail or session.shouldstop
        if reason:
            self.tell("stopped", text=str(reason))
        self.tell("end")


def _failure(report: Any, when: str) -> dict[str, Any]:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = report.longreprtext
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    return {
        "when": "call" if when == "???" else when,
        "message": _cut(getattr(crash, "message", None) or (errors or lines)[-1]),
        "at": _location(report.longrepr, crash),
        "text": _cut(text),
        "sections": [[name, _cut(content)] for name, content in report.sections],
    }


def _location(longrepr: Any, crash: Any) -> str:
    """Return where it was raised; in the suite, where the traceback shows no more than that."""
    entries = getattr(getattr(longrepr, "reprtraceback", None), "reprentries", None)
    place = getattr(entries[-1], "reprfileloc", None) if entries else None
    place = place or crash
    return f"{place.path}:{place.lineno}" if place is not None else ""


def _cut(text: str) -> str:
    """Keep the head and the tail: the end of a traceback says what happened."""
    if len(text) <= TEXT_CHARS:
        return text
    half = TEXT_CHARS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
