"""The output for people: tables, and words for times and sizes. The module imports rich, so it is loaded
late.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from python_mcp_server.cli.options import error_sentence
from python_mcp_server.model import MB, Job, JobProgress, JobState, Usage, utc_now
from python_mcp_server.questions.forms import options
from python_mcp_server.questions.model import Question
from python_mcp_server.runner.textfile import split_lines

_COLOURS: Final = {
    JobState.PENDING: "yellow",
    JobState.RUNNING: "cyan",
    JobState.INPUT_REQUIRED: "magenta",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "bright_black",
}
_PIPE_COLUMNS: Final = 200
_WIDE_COLUMNS: Final = 120
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


def console(*, stderr: bool = False) -> Console:
    """Return a console; in a pipe it is wide, so that ids stay on one line."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_COLUMNS
    return Console(stderr=stderr, width=width, highlight=False)


def jobs_table(jobs: list[Job], *, width: int = _PIPE_COLUMNS) -> Table:
    """Return one line for each job; on a narrow terminal without its usage and note."""
    wide = width >= _WIDE_COLUMNS
    rows = [_cells(job, wide=wide) for job in jobs]
    table = Table(box=None, pad_edge=False, header_style="bold")
    fixed = ("ID", "STATUS", "AGE", "TIME", "PEAK", "CPU")[: 6 if wide else 4]
    for number, heading in enumerate(fixed):
        least = max(len(row[number]) for row in rows)
        justify = "left" if heading in {"ID", "STATUS"} else "right"
        table.add_column(heading, justify=justify, no_wrap=True, min_width=least)
    for heading in ("LABEL", "NOTE")[: 2 if wide else 1]:
        table.add_column(heading, overflow="ellipsis", no_wrap=True, max_width=60)
    for row in rows:
        table.add_row(*row)
    return table


def _cells(job: Job, *, wide: bool) -> list[Text]:
    times = [span((utc_now() - job.created_at).total_seconds()), span(elapsed_s(job))]
    use = [size(job.usage.peak_rss_bytes), span(job.usage.cpu_seconds)] if job.usage else ["", ""]
    words = [plain(job.label), plain(_note(job))]
    shown = [*times, *use, *words] if wide else [*times, words[0]]
    return [Text(job.id), state(job.status), *map(Text, shown)]


def job_table(job: Job) -> Table:
    """Return a job's facts, a line each."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("id", Text(job.id))
    table.add_row("status", state(job.status))
    facts: dict[str, str | None] = {
        "label": job.label,
        "tool": job.tool,
        "ran": job.ran,
        "directory": job.directory,
        "client": job.client,
        "created": _moment(job.created_at),
        "started": _moment(job.started_at),
        "ended": _moment(job.completed_at),
        "took": span(elapsed_s(job)),
        "usage": usage_words(job.usage) if job.usage else None,
        "progress": progress_words(job.progress) if job.progress else None,
        "message": job.message,
        "note": job.result_note,
    }
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(plain(value)))
    for question in job.open_questions:
        table.add_row(f"asks {plain(question.key)}", Text(_asked(question)))
    if job.error:
        table.add_row("error", Text(_lines(f"({job.error_kind}) {job.error.rstrip()}")))
    if job.result is not None:
        table.add_row("result", Text(_lines(json.dumps(job.result, indent=2, ensure_ascii=False))))
    return table


def _asked(question: Question) -> str:
    """Return the question, and a line for each field of the answer."""
    fields = [
        _field(name, prop, question.schema["required"])
        for name, prop in question.schema["properties"].items()
    ]
    return "\n".join([_lines(question.message), *map(plain, fields)])


def _field(name: str, prop: dict[str, Any], required: list[str]) -> str:
    choices = options(prop)
    kind = prop["type"] if choices is None else f"{prop['type']}: {' | '.join(map(str, choices))}"
    need = "" if name in required else ", may be left out"
    words = prop.get("description") or prop.get("title")
    return f"  {name} ({kind}{need})" + (f" {words}" if words else "")


def state(status: JobState) -> Text:
    """Return a state in its colour."""
    return Text(status.value, style=_COLOURS[status])


def elapsed_s(job: Job) -> float:
    """Return how long a job has run, or ran; 0 before its start."""
    if job.started_at is None:
        return 0.0
    return max(0.0, ((job.completed_at or utc_now()) - job.started_at).total_seconds())


def usage_words(usage: Usage) -> str:
    """Return memory and CPU in a few words."""
    words = [f"{size(usage.rss_bytes)} (peak {size(usage.peak_rss_bytes)})"]
    if usage.cpu_percent is not None:
        words.append(f"{usage.cpu_percent:.0f} % CPU")
    words.append(f"{span(usage.cpu_seconds)} CPU time")
    if usage.processes:
        words.append(f"{usage.processes} process{'es' if usage.processes > 1 else ''}")
    return ", ".join(words)


def progress_words(progress: JobProgress) -> str:
    """Return progress in a few words."""
    total = "" if progress.total is None else f"/{progress.total:g}"
    return f"{progress.current:g}{total} {progress.message or ''}".strip()


def size(count: int) -> str:
    """Return a size in MB of 10^6 bytes."""
    return f"{count / MB:.1f} MB"


def span(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if seconds < _DAY_S:
        return f"{int(seconds // _HOUR_S)} h {int(seconds % _HOUR_S // 60)} min"
    return f"{int(seconds // _DAY_S)} d {int(seconds % _DAY_S // _HOUR_S)} h"


def plain(text: str) -> str:
    """Return text on one line, without characters that would steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def _lines(text: str) -> str:
    return "\n".join(plain(line) for line in split_lines(text))


def _note(job: Job) -> str:
    if job.status is JobState.FAILED:
        return error_sentence(job)
    if asked := job.open_questions:
        return f"asks {asked[0].key}: {asked[0].message}"
    if not job.status.terminal and job.progress is not None:
        return progress_words(job.progress)
    return job.message or ""


def _moment(when: datetime | None) -> str | None:
    return when and when.astimezone().isoformat(sep=" ", timespec="seconds")
