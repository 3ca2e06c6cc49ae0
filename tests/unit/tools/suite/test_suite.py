"""What is made of the events of a test run: counts, texts, the record of failures."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.output import cut_middle
from python_mcp_server.tools.results import ScriptResult
from python_mcp_server.tools.suite import environment
from python_mcp_server.tools.suite.environment import LAUNCH
from python_mcp_server.tools.suite.events import KEPT, EventFollower, RunSummary
from python_mcp_server.tools.suite.report import check_ran, suite_result
from python_mcp_server.tools.suite.tool import SuiteRecord

PLUGIN = Path(environment.__file__).parent / "plugin.py"


def report(nodeid: str, category: str, **facts: Any) -> dict[str, Any]:
    details = {"when": "call", "message": "no", "at": "a.py:1", "text": "E   no", "sections": [], "sub": ""}
    return {
        "e": "report",
        "id": nodeid,
        "as": category,
        **(details if category in ("failed", "error") else {}),
    } | facts


def summary_of(*events: dict[str, Any], rootdir: Path | None = None) -> RunSummary:
    made = RunSummary()
    if rootdir is not None:
        made.add({"e": "start", "pytest": "9.0", "rootdir": str(rootdir), "idle": "", "alone": ""})
    for event in events:
        made.add(event)
    return made


def ran(nodeid: str, category: str = "passed") -> list[dict[str, Any]]:
    return [{"e": "began", "id": nodeid}, report(nodeid, category), {"e": "done", "id": nodeid, "s": 0.1}]


def ended(exit_code: int, stderr: str = "", **facts: Any) -> ScriptResult:
    return ScriptResult(
        stdout="",
        stderr=stderr,
        exit_code=exit_code,
        elapsed_seconds=1.0,
        execution_strategy="uv-run",
        **facts,
    )


@pytest.mark.parametrize("program", [PLUGIN.read_text("utf-8"), LAUNCH], ids=["plugin", "launch"])
def test_programs_for_other_environments_are_old_python_and_standalone(program: str) -> None:
    tree = ast.parse(program, feature_version=(3, 8))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported - sys.stdlib_module_names <= {"__future__", "pytest", "collections.abc", "importlib.util"}


def test_progress_tells_what_passed_and_what_did_not() -> None:
    made = summary_of()
    assert made.progress() == "collecting tests"
    for event in [
        {"e": "collected", "n": 9},
        *ran("a"),
        *ran("b", "failed"),
        *ran("c", "error"),
        *ran("d", "skipped"),
    ]:
        made.add(event)
    assert made.progress() == "1 of 9 passed, 1 failed, 1 error"
    assert (made.done, made.total) == (4, 9)


def test_unknown_events_are_ignored_and_unknown_categories_counted() -> None:
    made = summary_of({"e": "something new"}, report("a", "rerun"), rootdir=Path("/x"))
    assert suite_result(ended(0), made, None, 20_000).get("other_counts") == {"rerun": 1}


def test_each_worker_counts_the_same_deselected_tests() -> None:
    made = summary_of(
        *({"e": "deselected", "n": n, "by": worker} for worker in ("gw0", "gw1") for n in (2, 3))
    )
    assert made.deselected == 5


def test_only_the_slowest_are_kept() -> None:
    made = summary_of(*({"e": "done", "id": f"t{n}", "s": n % 50} for n in range(200)))
    assert [seconds for seconds, _ in made.slowest] == [49] * 4 + [48] * 4 + [47] * 2


CODE_6 = "no test failed, but pytest ended with exit code 6; stdout says why: 1 passed in 1.00 s"
CRASHED = "the process ended in the middle of the run (exit code -11): 1 passed, 1 of 2 not run to their end"
ONE, TWO = {"e": "collected", "n": 1}, {"e": "collected", "n": 2}
FILE = {"e": "collecting", "id": "a.py", "by": ""}
LOST = "the process ended in the middle of the run (1 process of pytest-xdist"
IDLE = {"e": "start", "pytest": "9.0", "rootdir": "/x", "idle": "--setup-plan", "alone": ""}
OUTCOMES: list[tuple[ScriptResult, list[dict[str, Any]], str, str]] = [
    (ended(0), [ONE, *ran("a"), {"e": "end"}], "passed", "all tests passed: 1 passed in 1.00 s"),
    (
        ended(0),
        [TWO, *ran("a"), *ran("b", "skipped"), {"e": "end"}],
        "passed",
        "no test failed: 1 passed, 1 skipped in 1.00 s",
    ),
    (ended(0), [ONE, *ran("a", "fine"), {"e": "end"}], "passed", "all tests passed: 1 ran in 1.00 s"),
    (ended(0), [ONE, *ran("a", "failed"), {"e": "end"}], "failed", "tests failed: 1 failed in 1.00 s"),
    (
        ended(0),
        [TWO, *ran("a"), {"e": "end"}],
        "interrupted",
        "not every test was run to its end: 1 passed, 1 of 2 not run to their end in 1.00 s",
    ),
    (
        ended(0),
        [TWO, *ran("a"), {"e": "stopped", "text": "enough"}, {"e": "end"}],
        "interrupted",
        "the run was interrupted (enough): 1 passed, 1 of 2 not run to their end in 1.00 s",
    ),
    (
        ended(0),
        [IDLE, ONE, {"e": "began", "id": "a"}, {"e": "passed_by", "id": "a"}, {"e": "end"}],
        "not_run",
        "no test was run (--setup-plan was given): 1 of 1 not run to their end in 1.00 s",
    ),
    (
        ended(0),
        [ONE, *ran("a", "skipped"), {"e": "end"}],
        "not_run",
        "no test was run: 1 skipped in 1.00 s",
    ),
    (ended(0), [ONE, *ran("a"), {"e": "lost"}, {"e": "end"}], "crashed", f"{LOST}): 1 passed in 1.00 s"),
    (
        ended(5),
        [{**FILE, "by": "gw0"}, {**FILE, "by": "gw1"}, {"e": "lost"}, {"e": "end"}],
        "crashed",
        f"{LOST} while tests were looked for in a.py): no test ran in 1.00 s",
    ),
    (
        ended(-9, timed_out=True),
        [FILE],
        "timed_out",
        "the time limit ended the run (while tests were looked for in a.py): no test ran in 1.00 s",
    ),
    (ended(1), [*ran("a", "failed"), {"e": "end"}], "failed", "tests failed: 1 failed in 1.00 s"),
    (ended(6), [*ran("a"), {"e": "end"}], "failed", CODE_6),
    (
        ended(2),
        [{"e": "stopped", "text": "1 error\nduring collection"}, {"e": "end"}],
        "interrupted",
        "the run was interrupted (1 error during collection): no test ran in 1.00 s",
    ),
    (
        ended(3),
        [{"e": "internal", "text": "Traceback\nKeyError: 1\n"}, {"e": "end"}],
        "internal_error",
        "pytest or one of its plugins failed (KeyError: 1): no test ran in 1.00 s",
    ),
    (
        ended(-11),
        [{"e": "collected", "n": 2}, *ran("a"), {"e": "began", "id": "b"}],
        "crashed",
        f"{CRASHED} in 1.00 s",
    ),
    (
        ended(-9, timed_out=True),
        [{"e": "collected", "n": 2}, *ran("a")],
        "timed_out",
        "the time limit ended the run: 1 passed, 1 of 2 not run to their end in 1.00 s",
    ),
]


@pytest.mark.parametrize(("process", "events", "outcome", "summary"), OUTCOMES)
def test_the_end_of_a_run_has_a_name_and_a_sentence(
    process: ScriptResult, events: list[dict[str, Any]], outcome: str, summary: str
) -> None:
    result = suite_result(process, summary_of(*events, rootdir=Path("/x")), None, 20_000)
    assert (result["outcome"], result["summary"]) == (outcome, summary)


def test_a_process_without_a_session_says_so() -> None:
    result = suite_result(ended(1, "Traceback"), summary_of(), None, 20_000)
    assert (result["outcome"], result["collected"]) == ("crashed", 0)
    assert result["summary"].startswith("no test session was started")


CONFTEST = """\
ImportError while loading conftest '/x/conftest.py'.
conftest.py:1: in <module>
    import a
E   ModuleNotFoundError: No module named 'a'
"""
COMPLAINTS = [
    ("ERROR: usage: pytest [options]\npytest: error: unrecognized arguments: --bogus\n  inifile: None\n",
     "unrecognized arguments: --bogus"),
    ("ERROR: /x/pyproject.toml: 'minversion' requires pytest-9.0, actual pytest-8.0\n",
     "/x/pyproject.toml: 'minversion' requires pytest-9.0, actual pytest-8.0"),
    ("Traceback (most recent call last):\n_pytest.config.exceptions.UsageError: workers is 3\n",
     "workers is 3"),
    (CONFTEST,
     "ImportError while loading conftest '/x/conftest.py' - ModuleNotFoundError: No module named 'a'"),
    ("ERROR: found no collectors for /x/a.txt\n\n", "found no collectors for /x/a.txt"),
    ("", "it did not say why"),
]  # fmt: skip


@pytest.mark.parametrize(("stderr", "words"), COMPLAINTS)
def test_why_pytest_did_not_start_is_one_line(stderr: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_ran(ended(4, stderr), summary_of(), "directory '/x'")
    assert str(caught.value) == f"pytest did not start for directory '/x': {words}"


def test_a_usage_error_that_xdist_loses_is_told_from_the_events() -> None:
    with pytest.raises(InvalidInput, match="pytest refused directory '/x': Wrong expression"):
        check_ran(ended(3), summary_of({"e": "usage", "text": "Wrong expression"}), "directory '/x'")


def test_a_long_text_keeps_its_head_and_more_of_its_tail() -> None:
    text = "".join(f"line {n}\n" for n in range(1000))
    cut = cut_middle(text, 300)
    head, note, tail = cut.partition("[... ")[0], *cut.partition("[... ")[1:]
    assert text.startswith(head.rstrip("\n"))
    assert cut.endswith("line 999\n")
    assert 300 - 40 < len(cut) < 300 + 60
    assert len(tail.partition("...]\n")[2]) > 1.5 * len(head)
    assert note
    assert cut_middle("x" * 300, 300) == "x" * 300


def test_failures_beyond_the_first_are_counted() -> None:
    made = summary_of(
        *(report(f"t{n}", "failed", text="x" * 5000) for n in range(KEPT + 7)), rootdir=Path("/x")
    )
    result = suite_result(ended(1), made, None, 20_000)
    assert (len(result["failures"]), result.get("failures_left_out")) == (KEPT, 7)
    assert sum(len(failure["traceback"]) for failure in result["failures"]) < 22_000


def test_ids_and_messages_that_utf8_cannot_carry_are_shown_all_the_same() -> None:
    made = summary_of(report("t[\ud800]", "failed", message="\udfff", text="\udfff"), rootdir=Path("/x"))
    json.dumps(suite_result(ended(1), made, None, 20_000), ensure_ascii=False).encode()


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    saved: list[int] = []
    follower = EventFollower(tmp_path / "events", tmp_path / "failures", lambda made: saved.append(made.done))
    follower.read_new()
    line = json.dumps(report("a", "failed", sections=[["Captured stdout call", "said\n"]])) + "\n"
    (tmp_path / "events").write_text(line[:20], "utf-8")
    follower.read_new()
    assert follower.summary.failure_count == 0
    with (tmp_path / "events").open("a") as file:
        file.write(line[20:])
    follower.read_new()
    follower.read_new()
    assert follower.summary.failure_count == 1
    assert (tmp_path / "failures").read_text() == "FAILED a\nE   no\n--- Captured stdout call\nsaid\n\n"


def test_what_a_killed_process_left_half_written_costs_one_event(tmp_path: Path) -> None:
    follower = EventFollower(tmp_path / "events", tmp_path / "failures", lambda _: None)
    lines = [json.dumps(event) for event in [*ran("a"), *ran("b")]]
    (tmp_path / "events").write_text("\n".join([*lines[:3], lines[3][:9] + lines[4], lines[5], ""]))
    follower.read_new()
    assert (follower.summary.done, follower.summary.counts["passed"]) == (2, 1)


def test_the_record_forgets_what_passed_and_keeps_what_had_no_turn(tmp_path: Path) -> None:
    record = SuiteRecord(tmp_path / "home", tmp_path)
    assert record.load() is None
    first = [*ran("a.py::x", "failed"), *ran("a.py::y", "failed"), report("b.py", "error")]
    record.save(summary_of(*first, rootdir=tmp_path), complete=True)
    record.save(summary_of(*ran("a.py::x"), *ran("b.py::z"), rootdir=tmp_path), complete=False)
    found = record.load()
    assert found is not None
    assert (found.rootdir, found.ids) == (tmp_path, ("a.py::y",))
    assert found.files() == []
    (tmp_path / "a.py").touch()
    assert found.files() == [str(tmp_path / "a.py")]
    record.save(summary_of(*ran("c.py::new", "failed"), rootdir=tmp_path), complete=True)
    assert record.load() == type(found)(tmp_path, ("c.py::new",))
    [file] = (tmp_path / "home" / "suites").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert str(tmp_path) not in file.name


def test_a_run_that_never_started_leaves_the_record_alone(tmp_path: Path) -> None:
    record = SuiteRecord(tmp_path / "home", tmp_path)
    record.save(summary_of(*ran("a.py::x", "failed"), rootdir=tmp_path), complete=True)
    record.save(summary_of(), complete=False)
    found = record.load()
    assert found is not None
    assert found.ids == ("a.py::x",)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"rootdir": 1}'])
def test_a_damaged_record_counts_as_missing(tmp_path: Path, damage: str) -> None:
    record = SuiteRecord(tmp_path / "home", tmp_path)
    record.save(summary_of(*ran("a.py::x", "failed"), rootdir=tmp_path), complete=True)
    [file] = (tmp_path / "home" / "suites").iterdir()
    file.write_text(damage)
    assert record.load() is None
