from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from python_mcp_server.cli import show
from python_mcp_server.jobs.rows import elapsed_s
from python_mcp_server.model import Job, JobProgress, JobState, Usage, new_job_id, utc_now


def a_job(**facts: Any) -> Job:
    now = utc_now()
    given: dict[str, Any] = {"label": "a label", "status": JobState.RUNNING, "started_at": now} | facts
    return Job(id=new_job_id(), created_at=now, **given)


def printed(thing: Any, width: int = 2_000) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(thing)
    return out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_a_duration_reads_as_people_write_it(seconds: float, words: str) -> None:
    assert show.span(seconds) == words


def test_a_job_is_one_line_with_its_facts() -> None:
    usage = Usage(rss_bytes=1_000_000, peak_rss_bytes=2_500_000, cpu_seconds=1.5)
    job = a_job(usage=usage, progress=JobProgress(3, 10, "sieving"))
    line = printed(show.jobs_table([job])).splitlines()[1]
    assert " ".join(line.split()) == f"{job.id} running 0 s 0.0 s 2.5 MB 1.5 s a label 3/10 sieving"


def test_a_narrow_terminal_gets_lines_that_fit_with_ids_that_do() -> None:
    jobs = [a_job(label="x" * 100, message="y" * 100) for _ in range(20)]
    lines = printed(show.jobs_table(jobs, width=80), width=80).splitlines()
    assert len(lines) == 21
    assert all(len(line) <= 80 and line.rstrip().endswith("…") for line in lines[1:])
    shown = [line.split()[0] for line in lines[1:]]
    assert [job.id for job in jobs if job.id.startswith(tuple(shown))] == [job.id for job in jobs]
    assert len(set(shown)) == 20
    assert len(shown[0]) < 20


def test_a_pipe_gets_everything_uncut() -> None:
    told = printed(show.jobs_table([a_job(label="x" * 200, message="y" * 2_000)]), 100_000)
    assert "x" * 200 in told
    assert "y" * 2_000 in told


def test_what_ran_stands_beside_a_label_of_its_own() -> None:
    assert "train (a.py 3)" in printed(show.jobs_table([a_job(label="train", ran="a.py 3")]))
    assert "a.py (a.py 3)" not in (told := printed(show.jobs_table([a_job(label="a.py", ran="a.py 3")])))
    assert "a.py 3" in told


@pytest.mark.parametrize(
    ("label", "ran", "told"),
    [
        ("-c import os", "print(2) x", "-c print(2) x"),
        ("-", "print(1)", "- print(1)"),
        ("-m timeit", "-m timeit -n 3", "-m timeit -n 3"),
    ],
)
def test_what_run_was_given_stands_once(label: str, ran: str, told: str) -> None:
    *_, line = printed(show.jobs_table([a_job(label=label, ran=ran)])).splitlines()
    assert line.rstrip().endswith(f" 0.0 s          {told}")


@pytest.mark.parametrize("table", [lambda job: show.jobs_table([job]), show.job_table])
def test_a_label_cannot_steer_the_terminal(table: Any) -> None:
    told = printed(table(a_job(label="\x1b[2J[bold]dear\nuser\x07")))
    assert "[bold]dear user" in told
    assert not {"\x1b", "\x07"} & set(told)


def test_a_failed_job_shows_its_error() -> None:
    error = "ValueError: no\n\nTraceback (most recent call last):\n  here\n"
    job = a_job(status=JobState.FAILED, error=error, error_kind="exception")
    whole = [line.strip() for line in printed(show.job_table(job)).splitlines()]
    assert [line.split() for line in whole if line.startswith("error")] == [
        ["error", "(exception)", "ValueError:", "no"]
    ]
    assert whole[-2:] == ["Traceback (most recent call last):", "here"]
    told = printed(show.jobs_table([job]))
    assert "ValueError: no" in told
    assert "Traceback" not in told


def test_a_result_is_shown_as_json() -> None:
    job = a_job(status=JobState.COMPLETED, result={"a": ["b\x1b"]}, completed_at=utc_now())
    assert '"a": [' in printed(show.job_table(job))


@pytest.mark.parametrize(
    ("result", "shown"),
    [("first\nsecond\x1b[31m", ["first", "second [31m"]), ("", ['""']), ('"', ['"']), (None, []), (7, ["7"])],
)
def test_a_text_as_a_result_is_shown_as_text(result: Any, shown: list[str]) -> None:
    job = a_job(status=JobState.COMPLETED, result=result, completed_at=utc_now())
    lines = printed(show.job_table(job)).splitlines()
    at = next((at for at, line in enumerate(lines) if line.startswith("result")), len(lines))
    assert [line.removeprefix("result").strip() for line in lines[at:]] == shown


def test_the_usage_of_a_job_is_what_it_uses_and_later_what_it_took() -> None:
    usage = Usage(2_000_000, 2_500_000, cpu_seconds=1.5, processes=1)
    assert show.usage_words(a_job(usage=usage)) == "2.0 MB (peak 2.5 MB), 1.5 s CPU time, 1 process"
    ended = a_job(status=JobState.COMPLETED, usage=usage)
    assert show.usage_words(ended) == "peak 2.5 MB, 1.5 s CPU time"
    assert show.usage_words(ended.evolve(usage=Usage(cpu_seconds=0.1))) == "0.1 s CPU time"
    assert show.usage_words(a_job()) == ""


def test_a_finished_job_took_the_time_between_start_and_end() -> None:
    job = a_job()
    assert job.started_at is not None
    ended = job.evolve(completed_at=job.started_at + timedelta(seconds=7))
    assert elapsed_s(ended) == 7
    assert elapsed_s(a_job(started_at=None)) == 0
