"""A job in words: what it runs, how it ended, and all of it as one row of a list, without its result."""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, cast

from python_mcp_server import errors
from python_mcp_server.jobs.redaction import HIDDEN, holds_secret, name_looks_secret, without_secrets
from python_mcp_server.model import (
    MB,
    OUR_TOOLS,
    Job,
    JobProgress,
    JobState,
    Usage,
    cut,
    iso,
    utc_now,
)
from python_mcp_server.processes import signal_name

_LABEL_CHARS: Final = 60
_RAN_CHARS: Final = 100
_NOTE_CHARS: Final = 160
_RAN_MOST_CHARS: Final = 300
_MOST_WORDS: Final = 20
_WORD_CHARS: Final = 2_000
"""More than is told, so that a secret that reaches beyond that is still seen as one."""
_GOES_ON: Final = (*"([{,\\=+:",)
_QUOTES: Final = ('"""', "'''")
_MOST_LINES: Final = 200
_STATEMENT: Final = re.compile(r"(?:^|:[ \t]*)pass$")
"""It names no secret."""
_CODE_BYTES: Final = 20_000
"""How much of a code is looked at for its first line."""
TIMED_OUT: Final = 124
SIGNALLED: Final = 128
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
        "schedule", "note"}`: `ran` where the label does not say it, `ended` where a script did not end as
        it should; `seconds` count from the job's start; `schedule` is the name of the one that made it.
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
        "schedule": None if job.schedule is None else one_line(str(job.schedule.get("name")), _LABEL_CHARS),
        "note": one_line(note(job), _NOTE_CHARS) or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def listing(
    jobs: list[Job], more: bool, show: Callable[[Job], dict[str, Any]] = Job.to_json
) -> dict[str, Any]:
    """Return `{"jobs", "total", "more"}`, and `next_before` where there are more.

    `total` counts the jobs in the answer; `next_before` is the `before` of the next page.
    """
    told: dict[str, Any] = {"jobs": list(map(show, jobs)), "total": len(jobs), "more": more}
    return told | {"next_before": jobs[-1].id} if more else told


def ending_words(job: Job) -> str | None:
    """Return how a completed job's script ended, where that was not as it should: "exit code 3", "ended by
    SIGSEGV", "timed out", the outcome of a test suite, or "8 of 50 failed" for a batch.

    The result may be that of any body, so nothing of its text is returned.
    """
    result = _result(job)
    if result.get("timed_out") is True:
        return "timed out"
    if failed := _failed_items(result):
        return f"{failed} of {result['total']} failed"
    outcome = result.get("outcome")
    if isinstance(outcome, str) and outcome in _OUTCOMES:
        return None if outcome == "passed" else outcome
    code = _code(result)
    if code < 0 and (name := signal_name(-code)):
        return f"ended by {name}"
    return f"exit code {code}" if code else None


def exit_code(job: Job) -> int:
    """Return the exit code for an ended job: that of its script, as a shell tells it.

    It is 1 where the job failed or was cancelled, or items of a batch failed.
    """
    if job.status is not JobState.COMPLETED:
        return 1
    result = _result(job)
    if result.get("timed_out") is True:
        return TIMED_OUT
    if _failed_items(result):
        return 1
    code = _code(result)
    return code if code >= 0 else SIGNALLED - code


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
    """Return plain text on one line of at most so many characters."""
    return cut(plain(text[: most + 1]), most)


def plain(text: str) -> str:
    """Return text on one line, without characters that would steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _peak_mb(usage: Usage | None) -> float | None:
    """Return the peak in MB; None where the program was gone before the first sample."""
    return round(usage.peak_rss_bytes / MB, 1) if usage and usage.peak_rss_bytes else None


def _failed_items(result: dict[str, Any]) -> int:
    """Return how many items of a batch failed; 0 where the result is not that of a batch."""
    failed, total = result.get("failed"), result.get("total")
    return failed if type(failed) is int and type(total) is int and 0 < failed <= total else 0


def _code(result: dict[str, Any]) -> int:
    """Return the exit code of a script; 0 where the result is of something else."""
    code = result.get("exit_code")
    return code if type(code) is int and abs(code) <= _LARGEST_CODE else 0


def _result(job: Job) -> dict[str, Any]:
    result = cast("object", job.result)
    return cast("dict[str, Any]", result) if isinstance(result, dict) else {}


@dataclass(frozen=True, slots=True)
class Ran:
    """The program of a job and its directory, as a list of jobs shows them.

    Attributes:
        program: The program in one line of at most 300 characters; None if it is not known.
        directory: The directory that the caller named; None if the caller named no directory.
    """

    program: str | None = None
    directory: str | None = None


def what_ran(body: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Ran:
    """Return what a call of one of our tools runs, without what looks like a secret; nothing for another
    body, whose parameters are not known here, or where it refuses these.
    """
    if not (getattr(body, "__module__", None) or "").startswith(OUR_TOOLS):
        return Ran()
    try:
        named = inspect.signature(body).bind(*args, **kwargs).arguments
        words = ["pytest"] if body.__name__ == "run_tests" else []
        text = " ".join([*words, *_program(named)])
    except (TypeError, ValueError):  # such as a number where a text is meant
        return Ran()
    directory = named.get("directory", named.get("cwd"))
    return Ran(
        one_line(text, _RAN_MOST_CHARS) or None,
        one_line(directory, _RAN_MOST_CHARS) if isinstance(directory, str) else None,
    )


def _program(named: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words of the program, as a shell would take them."""
    if isinstance(start := named.get("start"), list):
        yield from _started(cast("list[str]", start), named.get("stdin"))
    code, path, name = (named.get(key) for key in ("script_content", "script_path", "script_name"))
    argv = named.get("argv", named.get("command"))
    if isinstance(argv, str):
        code = argv  # a text for the shell
    if isinstance(code, str):
        yield first_line(code)
    elif isinstance(path, str):
        yield shlex.quote(os.path.basename(path))
    elif isinstance(name, str):
        yield shlex.quote(name)
    words = [*_texts(argv), *_texts(named.get("args")), *_texts(named.get("paths"))]
    yield from without_secrets(words)
    if isinstance(lists := named.get("args_list"), Sequence):
        yield f"({len(cast('Sequence[Any]', lists))} times)"
    elif isinstance(file := named.get("args_file"), str):
        yield f"(for each line of {os.path.basename(file)})"
    if isinstance(earlier := named.get("resume"), str):
        yield f"(the rest of {earlier})"


def _started(start: list[str], stdin: Any) -> Iterator[str]:
    """Yield the words behind `python`: code is told by a line."""
    if start[0] == "-c" or (start[0] == "-" and isinstance(stdin, str)):
        yield first_line(start[1] if start[0] == "-c" else stdin)
    elif start[0] == "-m":
        yield from map(shlex.quote, start)
    else:
        yield shlex.quote(os.path.basename(start[0]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for word in islice(cast("Sequence[Any]", value), _MOST_WORDS):
            yield str(word)[:_WORD_CHARS]


def first_line(code: str) -> str:
    """Return the first line of a code that says what it does: no comment, import or secret if possible.

    A line that goes on in the next one may have its secret there, so no line behind it is told.
    """
    lines: list[str] = []
    for line in map(str.strip, code[:_CODE_BYTES].splitlines()[:_MOST_LINES]):
        named = _STATEMENT.sub("", line)
        if name_looks_secret(named) or holds_secret(named):
            if line.endswith(_GOES_ON) or any(quotes in line for quotes in _QUOTES):
                break
        elif line and not line.startswith("#"):
            lines.append(line)
    telling = (line for line in lines if not line.startswith(("import ", "from ", *_QUOTES)))
    return next(telling, lines[0] if lines else HIDDEN)
