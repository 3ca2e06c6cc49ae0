"""A job as one row of a list: short, on one line, and without its result."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from python_mcp_server import errors
from python_mcp_server.model import MB, Job, JobProgress, JobState, Usage, cut, iso, utc_now
from python_mcp_server.processes import signal_name

_LABEL_CHARS: Final = 60
_RAN_CHARS: Final = 100
_NOTE_CHARS: Final = 160
_TIMED_OUT: Final = 124
_SIGNALLED: Final = 128
"""As `timeout` and shells tell it."""
_LARGEST_CODE: Final = 0xFFFF_FFFF
"""An exit code of Windows has 32 bits."""
_OWN_ERROR: Final = re.compile(rf"\A{re.escape(errors.__name__)}\.\w+: ")
"""Before a sentence of this package: its class says nothing more."""
_OUTCOMES: Final = frozenset(
    {"passed", "failed", "not_run", "interrupted", "internal_error", "crashed", "timed_out"}
)
"""Those of `py_run_tests`."""


def row(job: Job) -> dict[str, Any]:
    """Return a job as a row of a list, without the fields that say nothing.

    Returns:
        `{"id", "label", "ran", "status", "ended", "error_kind", "created_at", "seconds", "peak_rss_mb",
        "note"}`: `ran` where the label does not say it, `ended` where a script did not end as it should;
        `seconds` count from the job's start.
    """
    facts: dict[str, Any] = {
        "id": job.id,
        "label": one_line(job.label, _LABEL_CHARS),
        "ran": None if job.ran is None or job.ran == job.label else one_line(job.ran, _RAN_CHARS),
        "status": job.status.value,
        "ended": ending_words(job),
        "error_kind": job.error_kind,
        "created_at": iso(job.created_at.replace(microsecond=0)),
        "seconds": None if job.started_at is None else round(elapsed_s(job), 1),
        "peak_rss_mb": _peak_mb(job.usage),
        "note": one_line(note(job), _NOTE_CHARS) or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def rows(jobs: list[Job], more: bool) -> dict[str, Any]:
    """Return `{"jobs", "total", "more"}` with a row for each job, and `next_before` where there are more."""
    told: dict[str, Any] = {"jobs": list(map(row, jobs)), "total": len(jobs), "more": more}
    return told | {"next_before": jobs[-1].id} if more else told


def ending_words(job: Job) -> str | None:
    """Return how a completed job's script ended, where that was not as it should: "exit code 3", "ended by
    SIGSEGV", "timed out", or the outcome of a test suite.

    The result may be that of any body, so nothing of its text is returned.
    """
    result = _result(job)
    if result.get("timed_out") is True:
        return "timed out"
    outcome = result.get("outcome")
    if isinstance(outcome, str) and outcome in _OUTCOMES:
        return None if outcome == "passed" else outcome
    code = _code(result)
    if code < 0 and (name := signal_name(-code)):
        return f"ended by {name}"
    return f"exit code {code}" if code else None


def exit_code(job: Job) -> int:
    """Return the exit code for an ended job: that of its script, as a shell tells it.

    It is 1 where the job failed or was cancelled.
    """
    if job.status is not JobState.COMPLETED:
        return 1
    result = _result(job)
    if result.get("timed_out") is True:
        return _TIMED_OUT
    code = _code(result)
    return code if code >= 0 else _SIGNALLED - code


def note(job: Job) -> str:
    """Return what else there is to say of a job: its error, its question, its progress, or its message."""
    if job.status is JobState.FAILED:
        return _OWN_ERROR.sub("", error_sentence(job))
    if asked := job.open_questions:
        return f"asks {asked[0].key}: {asked[0].message}"
    if not job.status.terminal and job.progress is not None:
        return progress_words(job.progress)
    return job.message or ""


def progress_words(progress: JobProgress) -> str:
    """Return progress in a few words."""
    return f"{progress.numbers('/')} {progress.message or ''}".strip()


def error_sentence(job: Job) -> str:
    """Return a job's error without the traceback that follows it in the record."""
    return (job.error or "").partition("\n\n")[0]


def elapsed_s(job: Job) -> float:
    """Return how long a job has run, or ran; 0 before its start."""
    if job.started_at is None:
        return 0.0
    return max(0.0, ((job.completed_at or utc_now()) - job.started_at).total_seconds())


def one_line(text: str, most: int) -> str:
    """Return text on one line of at most so many characters, without those that would steer a terminal."""
    return cut("".join(char if char.isprintable() else " " for char in text[: most + 1]), most)


def _peak_mb(usage: Usage | None) -> float | None:
    """Return the peak in MB; None where the program was gone before the first sample."""
    return round(usage.peak_rss_bytes / MB, 1) if usage and usage.peak_rss_bytes else None


def _code(result: dict[str, Any]) -> int:
    """Return the exit code of a script; 0 where the result is of something else."""
    code = result.get("exit_code")
    return code if type(code) is int and abs(code) <= _LARGEST_CODE else 0


def _result(job: Job) -> dict[str, Any]:
    result = cast("object", job.result)
    return cast("dict[str, Any]", result) if isinstance(result, dict) else {}
