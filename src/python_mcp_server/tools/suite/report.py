"""From the summary of a test run to its result, or to the sentence that says why no test ran."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from python_mcp_server.context import JobContext
from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.output import cut_middle
from python_mcp_server.tools.results import ScriptResult, SuiteFailure, SuiteResult, TimedTest
from python_mcp_server.tools.suite.events import FailureDetails, RunSummary, errors

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


def check_ran(result: ScriptResult, summary: RunSummary, wanted: str) -> None:
    """Refuse a run in which pytest could not collect tests, or found none.

    Raises:
        InvalidInput: The text is pytest's own where it gave one.
    """
    if result.get("timed_out"):
        return
    if summary.usage:
        raise InvalidInput(f"pytest refused {wanted}: {_sentence(summary.usage)}")
    if result["exit_code"] == _USAGE_ERROR:
        raise InvalidInput(f"pytest did not start for {wanted}: {_complaint(result['stderr'])}")
    if result["exit_code"] == _NO_TESTS or (result["exit_code"] == 0 and summary.complete):
        _check_found(summary, wanted)


def _check_found(summary: RunSummary, wanted: str) -> None:
    """Refuse a run in which pytest collected to the end and found no tests."""
    if summary.total or summary.lost or summary.failure_count or not summary.ended:
        return
    left_out = f"; {summary.deselected} were deselected" if summary.deselected else ""
    if skipped := summary.counts["skipped"]:
        left_out += f"; {skipped} file{' was' if skipped == 1 else 's were'} skipped"
    raise InvalidInput(f"no tests were found for {wanted}{left_out}")


def suite_result(
    result: ScriptResult, summary: RunSummary, job: JobContext | None, limit_chars: int
) -> SuiteResult:
    """Return the result of a run.

    Args:
        result: How the process ended.
        summary: The state of the run.
        job: The job, whose record is kept where something is left out; None outside of a job.
        limit_chars: The space for all tracebacks together, roughly.
    """
    outcome = _outcome(result, summary)
    room = max(_LEAST_CHARS, limit_chars // max(1, len(summary.failures)))
    made = SuiteResult(
        **result,
        outcome=outcome,
        summary=_summary(outcome, result, summary),
        collected=summary.total or 0,
        passed=summary.counts["passed"],
        failed=summary.counts["failed"],
        errors=summary.counts["error"],
        skipped=summary.counts["skipped"],
        xfailed=summary.counts["xfailed"],
        xpassed=summary.counts["xpassed"],
        deselected=summary.deselected,
        warnings=summary.counts["warnings"],
        collection_errors=summary.collection_errors,
        failures=[_failure(failure, room) for failure in summary.failures],
        slowest=[TimedTest(id=_clean(nodeid), seconds=seconds) for seconds, nodeid in summary.slowest],
        workers=summary.workers,
    )
    _add_what_applies(made, summary)
    cut = any(len(failure.text) > room for failure in summary.failures)
    if job is not None and (cut or "failures_left_out" in made):
        job.keep_record()
        made["job_id"] = job.id
    return made


def _add_what_applies(made: SuiteResult, summary: RunSummary) -> None:
    left_out = summary.failure_count - len(summary.failures)
    if left_out:
        made["failures_left_out"] = left_out
    if others := {name: count for name, count in summary.counts.items() if name not in _NAMED}:
        made["other_counts"] = others
    if unfinished := [*summary.running, *_crashed_in(made["outcome"], summary)]:
        made["unfinished"] = [_clean(nodeid) for nodeid in unfinished[:_UNFINISHED]]
    if summary.alone:
        made["one_process_because"] = summary.alone
    if stopped := summary.stopped or summary.internal:
        made["stopped_because"] = _sentence(stopped)
    if summary.pytest_version:
        made["pytest_version"] = summary.pytest_version


def _outcome(result: ScriptResult, summary: RunSummary) -> Outcome:
    """Return how a run ended; "passed" only if every source agrees."""
    if result.get("timed_out"):
        return "timed_out"
    exit_code = result["exit_code"]
    cut_off = not summary.ended and (exit_code != 0 or summary.pytest_version)
    if cut_off or (summary.lost and summary.total is None):
        return "crashed"
    if exit_code in {_INTERRUPTED, _INTERNAL_ERROR}:
        return "internal_error" if exit_code == _INTERNAL_ERROR and not summary.stopped else "interrupted"
    if summary.failure_count:
        return "failed"
    if summary.lost:
        return "crashed"
    if exit_code not in {0, _NO_TESTS} and not summary.stopped:
        return "failed"
    if summary.stopped or (summary.done and not summary.complete):
        return "interrupted"
    return "passed" if summary.counts.keys() - _NOT_RAN else "not_run"


def _summary(outcome: Outcome, result: ScriptResult, summary: RunSummary) -> str:
    seconds = f"in {result['elapsed_seconds']:.2f} s"
    if not summary.pytest_version:
        return f"no test session was started, {seconds}; stdout and stderr say why"
    counts = [(name, summary.counts[name]) for name in _NAMED[:5]]
    words = [f"{count} {name}" for name, count in counts if count]
    if summary.deselected:
        words.append(f"{summary.deselected} deselected")
    if summary.counts["error"]:
        words.append(errors(summary.counts["error"]))
    if summary.total is not None and summary.done < summary.total:
        words.append(f"{summary.total - summary.done} of {summary.total} not run to their end")
    meaning = _meaning(outcome, result["exit_code"], summary)
    ran = f"{summary.done} ran" if summary.done else "no test ran"
    return f"{meaning}: {', '.join(words) or ran} {seconds}"


def _meaning(outcome: Outcome, exit_code: int, summary: RunSummary) -> str:
    """Describe an outcome, with its reason if known."""
    meaning = _MEANINGS[outcome]
    if outcome == "failed" and not summary.failure_count:
        return f"no test failed, but pytest ended with exit code {exit_code}; stdout says why"
    if outcome == "passed" and (summary.counts["skipped"] or summary.counts["xfailed"]):
        return "no test failed"
    reason = summary.stopped or summary.internal
    if outcome == "interrupted" and not reason:
        return "not every test was run to its end"
    if outcome == "not_run" and summary.idle:
        reason = f"{summary.idle} was given"
    elif outcome == "crashed":
        reason = _lost(summary.lost) if summary.lost else f"exit code {exit_code}"
    if files := _crashed_in(outcome, summary):
        reason += f" while tests were looked for in {files[0]}"
    return f"{meaning} ({_sentence(reason)})" if reason else meaning


def _lost(count: int) -> str:
    return "1 process of pytest-xdist" if count == 1 else f"{count} processes of pytest-xdist"


def _crashed_in(outcome: Outcome, summary: RunSummary) -> list[str]:
    """Return the files that were being collected when a process ended."""
    return summary.collecting if outcome in {"crashed", "internal_error", "timed_out"} else []


def _failure(failure: FailureDetails, room: int) -> SuiteFailure:
    made = SuiteFailure(
        id=_clean(failure.id),
        outcome="failed" if failure.category == "failed" else "error",
        when=failure.when,
        message=cut_middle(_clean(failure.message.strip().partition("\n")[0]), _MESSAGE_CHARS),
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
