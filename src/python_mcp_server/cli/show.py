"""The output for people: tables, and words for times and sizes. The module imports rich, so it is loaded
late.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from python_mcp_server.jobs.rows import elapsed_s, ending_words, note, plain, progress_words
from python_mcp_server.model import MB, Job, JobState, cut, utc_now
from python_mcp_server.questions.forms import options
from python_mcp_server.questions.model import Question
from python_mcp_server.runner.textfile import split_lines
from python_mcp_server.store.events import EventKind

_COLOURS: Final = {
    JobState.PENDING: "",
    JobState.RUNNING: "cyan",
    JobState.INPUT_REQUIRED: "magenta",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "dim",
}
_PIPE_COLUMNS: Final = 100_000
_NUMBERS: Final = frozenset({"AGE", "TIME", "PEAK", "CPU"})
SHORT_ID_CHARS: Final = 10
"""The time in an id, in ms, and one more: jobs of the same ms seldom begin alike."""
_WIDE_COLUMNS: Final = 120
_LABEL_CHARS: Final = 60
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86400


def console(*, stderr: bool = False) -> Console:
    """Return a console; in a pipe it is so wide that nothing is cut."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_COLUMNS
    return Console(stderr=stderr, width=width, highlight=False)


def print_table(table: Table) -> None:
    """Print a table; in a pipe without the blanks that fill each line to the width of the longest."""
    out = console()
    if sys.stdout.isatty():
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def jobs_table(jobs: list[Job], *, width: int = _PIPE_COLUMNS) -> Table:
    """Return one line for each job.

    A terminal gets short ids, and a narrow one no memory and CPU time; what is too long for its line ends in
    "…". A pipe gets everything.
    """
    piped, wide = width >= _PIPE_COLUMNS, width >= _WIDE_COLUMNS
    ids = [job.id for job in jobs] if piped else short_ids([job.id for job in jobs])
    headings = ["ID", "STATUS", "AGE", "TIME", *(["PEAK", "CPU"] if wide else []), "WHAT", "NOTE"]
    rows = [[Text(short), *_cells(job, wide=wide)] for short, job in zip(ids, jobs, strict=True)]
    columns = zip(headings, *rows, strict=True)
    widths = _fitting([max(map(len, column)) for column in columns], width)
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for heading, column_width in zip(headings, widths, strict=True):
        justify = "right" if heading in _NUMBERS else "left"
        table.add_column(heading, justify=justify, overflow="ellipsis", no_wrap=True, width=column_width)
    for row in rows:
        table.add_row(*row)
    return table


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table of texts and numbers; numbers stand at the right."""
    table, cells = Table(box=None, pad_edge=False, header_style="bold"), [*rows]
    for heading, first in zip(headings, [*cells[:1], [""] * len(headings)][0], strict=True):
        table.add_column(heading, justify="right" if isinstance(first, int) else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(plain(str(cell))) for cell in row))
    return table


def stats_table(found: dict[str, Any]) -> Table:
    """Return a line for each group of what `jobs.stats` has found, and one for all."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(found["by"].upper(), overflow="fold")
    headings = ("ENDED", "FAILED", "PER MIN", "WAIT P50", "WAIT P99", "RUN P50", "RUN P99", "CPU", "PEAK")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for group in [*found["groups"], {"name": "all"} | found["total"]]:
        ended = sum(group[kind.value] for kind in EventKind if kind.is_end)
        times = [
            span(group[what][share]) if group[what]["count"] else ""
            for what in ("waiting_seconds", "running_seconds")
            for share in ("p50", "p99")
        ]
        use = (span(group["cpu_seconds"]), size(round(group["peak_rss_mb"] * MB)))
        cells = (str(ended), str(group["failed"]), f"{group['ended_per_minute']:.2f}", *times, *use)
        table.add_row(Text(plain(group["name"])), *cells)
    return table


def _fitting(widths: list[int], width: int) -> list[int]:
    """Return the widths of columns, with a blank between them, where the last two give way."""
    *fixed, what, note_width = widths
    room = max(2, width - sum(fixed) - len(fixed) - 1)
    what = min(what, max(room - note_width, room * 2 // 3))
    return [*fixed, what, min(note_width, room - what)]


def short_ids(ids: list[str]) -> list[str]:
    """Return the beginnings of these ids, of one length, by which the jobs can be told apart."""
    length = next(n for n in count(SHORT_ID_CHARS) if len({each[:n] for each in ids}) == len({*ids}))
    return [each[:length] for each in ids]


def _cells(job: Job, *, wide: bool) -> list[Text]:
    use = ["", ""]
    if job.usage:
        peak = size(job.usage.peak_rss_bytes) if job.usage.peak_rss_bytes else ""
        use = [peak, span(job.usage.cpu_seconds)]
    facts = [
        brief((utc_now() - job.created_at).total_seconds()),
        span(elapsed_s(job)),
        *(use if wide else []),
    ]
    return [state(job), *map(Text, [*facts, plain(_what(job)), plain(note(job))])]


def _what(job: Job) -> str:
    """Return what ran, with the label before it where that says something else, and its schedule."""
    by = "" if job.schedule is None else f" (schedule {job.schedule.get('name')})"
    return _named(job) + by


def _named(job: Job) -> str:
    ran = job.ran or job.label
    if ran.startswith(job.label):
        return ran
    if job.label == "-" or job.label.startswith("-c "):  # `run` calls it so, and then comes its first line
        return f"{job.label[:2].strip()} {ran}"
    return f"{job.label} ({ran})"


def job_table(job: Job, items: int = 0, predecessors: Mapping[str, Job | None] | None = None) -> Table:
    """Return a job's facts, a line each, how many items it has, and the jobs that it waits or waited for."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("id", Text(job.id))
    table.add_row("status", state(job))
    facts: dict[str, str | None] = {
        "label": job.label,
        "tool": job.tool,
        "ran": job.ran,
        "directory": job.directory,
        "client": job.client,
        "schedule": None if job.schedule is None else str(job.schedule.get("name")),
        "created": _moment(job.created_at),
        "started": _moment(job.started_at),
        "ended": _moment(job.completed_at),
        "took": span(elapsed_s(job)),
        "usage": usage_words(job),
        "progress": progress_words(job.progress) if job.progress else None,
        "message": job.message,
        "items": f"{items} (jobs output {job.id[:SHORT_ID_CHARS]} --stream items)" if items else None,
        "note": job.result_note,
    }
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(plain(value)))
    for job_id, other in (predecessors or {}).items():
        table.add_row("after", Text(f"{job_id} ") + (Text("removed") if other is None else _brief_job(other)))
    for question in job.open_questions:
        table.add_row(f"asks {plain(question.key)}", Text(_asked(question)))
    if job.error:
        table.add_row("error", Text(_lines(f"({job.error_kind}) {job.error.rstrip()}")))
    if job.result is not None:
        table.add_row("result", Text(_lines(_result_text(job.result))))
    return table


def _result_text(result: Any) -> str:
    """Return a text as it is, and anything else as JSON."""
    if isinstance(result, str) and result.strip():
        return result
    return json.dumps(result, indent=2, ensure_ascii=False)


def _brief_job(job: Job) -> Text:
    return Text(f"{plain(cut(job.label, _LABEL_CHARS))} ") + state(job)


def _asked(question: Question) -> str:
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


def state(job: Job) -> Text:
    """Return how a job is, or how it ended, in its colour; red where its script did not end as it should."""
    ended = ending_words(job)
    return Text(ended or job.status.value, style="red" if ended else _COLOURS[job.status])


def usage_words(job: Job) -> str:
    """Return the memory and CPU of a job in a few words, or an empty text if no usage was recorded."""
    usage = job.usage
    if usage is None:
        return ""
    peak = f"peak {size(usage.peak_rss_bytes)}" if usage.peak_rss_bytes else ""
    taken = f"{span(usage.cpu_seconds)} CPU time"
    if job.status.terminal:
        return f"{peak}, {taken}" if peak else taken
    words = [f"{size(usage.rss_bytes)} ({peak})" if usage.rss_bytes else peak] if peak else []
    if usage.cpu_percent is not None:
        words.append(f"{usage.cpu_percent:.0f} % CPU")
    words.append(taken)
    if usage.processes:
        words.append(f"{usage.processes} process{'es' if usage.processes > 1 else ''}")
    return ", ".join(words)


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


def brief(seconds: float) -> str:
    """Return a duration in its largest unit."""
    for unit, name in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds)} s"


def _lines(text: str) -> str:
    return "\n".join(plain(line) for line in split_lines(text))


def _moment(when: datetime | None) -> str | None:
    return when and when.astimezone().isoformat(sep=" ", timespec="seconds")
