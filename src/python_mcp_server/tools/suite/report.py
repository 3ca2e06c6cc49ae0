"""From what is known of a test run to its result, or to the sentence that says why there was none."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from python_mcp_server.context import JobContext
from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.output import cut_middle
from python_mcp_server.tools.results import ScriptResult, SuiteFailure, SuiteResult, TimedTest
from python_mcp_server.tools.suite.events import Failure, RunSummary, errors

Outcome = Literal["passed", "failed", "not_run", "interrupted", "internal_error", "crashed", "timed_out"]

_INTERRUPTED: Final = 2
_INTERNAL_ERROR: Final = 3
_USAGE_ERROR: Final = 4
_NO_TESTS: Final = 5
_NOT_RAN: Final = frozenset({"skipped", "warnings"})
_NAMED: Final = ("failed", "passed", "skipped", "xfailed", "xpassed", "error", "warnings")
_MEANINGS: Final[dict[Outcome, str]] = {
    "passed": "all tests passed",
    "failed": "tests failed",
    "not_run": "no test was run",
    "interrupted": "the run was interrupted",
    "internal_error": "pytest or one of its plugins failed",
    "crashed": "the process ended in the middle of the run",
    "timed_out": "the time limit ended the run",
}
_LEAST_CHARS: Final = 1_000
"""Of a traceback, however many there are."""
_MESSAGE_CHARS: Final = 500
_SECTION_CHARS: Final = 1_000
_UNFINISHED: Final = 20
_SENTENCE_CHARS: Final = 700
_PATHS: Final = 5


def check_ran(result: ScriptResult, tally: RunSummary, wanted: str) -> None:
    """Refuse a run in which pytest could not even look for tests, or found none.

    Args:
        result: How its process ended.
        tally: What it told.
        wanted: What was asked for, in words.

    Raises:
        InvalidInput: The text is pytest's own where it gave one.
    """
    if result.get("timed_out"):
        return
    if tally.usage:
        raise InvalidInput(f"pytest refused {wanted}: {_sentence(tally.usage)}")
    if result["exit_code"] == _USAGE_ERROR:
        raise InvalidInput(f"pytest did not start for {wanted}: {_complaint(result['stderr'])}")
    if result["exit_code"] == _NO_TESTS or (result["exit_code"] == 0 and tally.complete):
        _check_found(tally, wanted)


def _check_found(tally: RunSummary, wanted: str) -> None:
    """Refuse a run that found no tests, where pytest could look for them to the end."""
    if tally.total or tally.lost or tally.failure_count or not tally.ended:
        return
    left_out = f"; {tally.deselected} were deselected" if tally.deselected else ""
    if skipped := tally.counts["skipped"]:
        left_out += f"; {skipped} file{' was' if skipped == 1 else 's were'} skipped"
    raise InvalidInput(f"no tests were found for {wanted}{left_out}")


def suite_result(
    result: ScriptResult, tally: RunSummary, job: JobContext | None, limit_chars: int
) -> SuiteResult:
    """Return what a run came to.

    Args:
        result: How its process ended.
        tally: What it told.
        job: Whose record is kept where something is left out; None outside of one.
        limit_chars: How much all tracebacks together may take, roughly.
    """
    outcome = _outcome(result, tally)
    room = max(_LEAST_CHARS, limit_chars // max(1, len(tally.failures)))
    made = SuiteResult(
        **result,
        outcome=outcome,
        summary=_summary(outcome, result, tally),
        collected=tally.total or 0,
        passed=tally.counts["passed"],
        failed=tally.counts["failed"],
        errors=tally.counts["error"],
        skipped=tally.counts["skipped"],
        xfailed=tally.counts["xfailed"],
        xpassed=tally.counts["xpassed"],
        deselected=tally.deselected,
        warnings=tally.counts["warnings"],
        collection_errors=tally.collection_errors,
        failures=[_failure(failure, room) for failure in tally.failures],
        slowest=[TimedTest(id=_clean(nodeid), seconds=seconds) for seconds, nodeid in tally.slowest],
        workers=tally.workers,
    )
    _add_what_applies(made, tally)
    cut = any(len(failure.text) > room for failure in tally.failures)
    if job is not None and (cut or "failures_left_out" in made):
        job.keep_record()
        made["job_id"] = job.id
    return made


def _add_what_applies(made: SuiteResult, tally: RunSummary) -> None:
    left_out = tally.failure_count - len(tally.failures)
    if left_out:
        made["failures_left_out"] = left_out
    if others := {name: count for name, count in tally.counts.items() if name not in _NAMED}:
        made["other_counts"] = others
    if unfinished := [*tally.running, *_crashed_in(made["outcome"], tally)]:
        made["unfinished"] = [_clean(nodeid) for nodeid in unfinished[:_UNFINISHED]]
    if tally.alone:
        made["one_process_because"] = tally.alone
    if stopped := tally.stopped or tally.internal:
        made["stopped_because"] = _sentence(stopped)
    if tally.pytest_version:
        made["pytest_version"] = tally.pytest_version


def _outcome(result: ScriptResult, tally: RunSummary) -> Outcome:
    """Return how a run ended; "passed" only where nothing speaks against it."""
    if result.get("timed_out"):
        return "timed_out"
    exit_code = result["exit_code"]
    cut_off = not tally.ended and (exit_code != 0 or tally.pytest_version)
    if cut_off or (tally.lost and tally.total is None):
        return "crashed"
    if exit_code in {_INTERRUPTED, _INTERNAL_ERROR}:
        return "internal_error" if exit_code == _INTERNAL_ERROR and not tally.stopped else "interrupted"
    if tally.failure_count:
        return "failed"
    if tally.lost:
        return "crashed"
    if exit_code not in {0, _NO_TESTS} and not tally.stopped:
        return "failed"
    if tally.stopped or (tally.done and not tally.complete):
        return "interrupted"
    return "passed" if tally.counts.keys() - _NOT_RAN else "not_run"


def _summary(outcome: Outcome, result: ScriptResult, tally: RunSummary) -> str:
    seconds = f"in {result['elapsed_seconds']:.2f} s"
    if not tally.pytest_version:
        return f"no test session was started, {seconds}; stdout and stderr say why"
    counts = [(name, tally.counts[name]) for name in _NAMED[:5]]
    words = [f"{count} {name}" for name, count in counts if count]
    if tally.deselected:
        words.append(f"{tally.deselected} deselected")
    if tally.counts["error"]:
        words.append(errors(tally.counts["error"]))
    if tally.total is not None and tally.done < tally.total:
        words.append(f"{tally.total - tally.done} of {tally.total} not run to their end")
    meaning = _meaning(outcome, result["exit_code"], tally)
    ran = f"{tally.done} ran" if tally.done else "no test ran"
    return f"{meaning}: {', '.join(words) or ran} {seconds}"


def _meaning(outcome: Outcome, exit_code: int, tally: RunSummary) -> str:
    """Return an outcome in words, with what is known of its reason."""
    meaning = _MEANINGS[outcome]
    if outcome == "failed" and not tally.failure_count:
        return f"no test failed, but pytest ended with exit code {exit_code}; stdout says why"
    if outcome == "passed" and (tally.counts["skipped"] or tally.counts["xfailed"]):
        return "no test failed"
    reason = tally.stopped or tally.internal
    if outcome == "interrupted" and not reason:
        return "not every test was run to its end"
    if outcome == "not_run" and tally.idle:
        reason = f"{tally.idle} was given"
    elif outcome == "crashed":
        reason = _lost(tally.lost) if tally.lost else f"exit code {exit_code}"
    if files := _crashed_in(outcome, tally):
        reason += f" while tests were looked for in {files[0]}"
    return f"{meaning} ({_sentence(reason)})" if reason else meaning


def _lost(count: int) -> str:
    return "1 process of pytest-xdist" if count == 1 else f"{count} processes of pytest-xdist"


def _crashed_in(outcome: Outcome, tally: RunSummary) -> list[str]:
    """Return the files that were being collected when a process ended."""
    return tally.collecting if outcome in {"crashed", "internal_error", "timed_out"} else []


def _failure(failure: Failure, room: int) -> SuiteFailure:
    made = SuiteFailure(
        id=_clean(failure.id),
        outcome="failed" if failure.category == "failed" else "error",
        when=failure.when,
        message=cut_middle(_clean(failure.message), _MESSAGE_CHARS),
        traceback=cut_middle(_clean(failure.text), room),
    )
    if failure.subtest:
        made["subtest"] = cut_middle(_clean(failure.subtest), _MESSAGE_CHARS)
    if failure.location:
        made["location"] = _clean(failure.location)
    if failure.sections:
        made["output"] = {
            _clean(name): cut_middle(_clean(text), _SECTION_CHARS) for name, text in failure.sections
        }
    return made


def _complaint(stderr: str) -> str:
    """Return why pytest did not start, as one line, from what it wrote to stderr."""
    lines = [line.strip() for line in stderr.split("\n") if line.strip()]
    if any(line.startswith("ImportError while loading conftest") for line in lines):
        causes = [line[1:].strip() for line in lines if line.startswith("E ")]
        return _sentence(" ".join([lines[0].rstrip("."), *(["-", causes[-1]] if causes else ())]))
    told = [line for line in lines if "rror: " in line or line.startswith("ERROR: ")]
    useful = [line for line in told if "usage: " not in line] or lines[-1:] or ["it did not say why"]
    return _sentence(useful[0].removeprefix("ERROR: ").rpartition("error: ")[2].rpartition("UsageError: ")[2])


def _sentence(text: str) -> str:
    return " ".join(_clean(text).split())[:_SENTENCE_CHARS]


def _clean(text: str) -> str:
    """Return text that UTF-8 can carry: ids and messages may hold halves of characters."""
    return text.encode("utf-8", errors="replace").decode()


def words_of(directory: Path, paths: list[str] | None, keyword: str | None, markers: str | None) -> str:
    """Return what was asked for, in words."""
    parts = [f"directory {str(directory)!r}"]
    if paths:
        others = " and others" if len(paths) > _PATHS else ""
        parts.append(f"paths {', '.join(map(repr, paths[:_PATHS]))}{others}")
    given = (("keyword", keyword), ("markers", markers))
    return ", ".join([*parts, *(f"{name} {value!r}" for name, value in given if value is not None)])
