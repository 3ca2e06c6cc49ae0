"""`jobs output`, `jobs rm` and `jobs prune` over records that lie in a home."""

from __future__ import annotations

import errno
import json
from datetime import timedelta
from pathlib import Path

import pytest

from python_mcp_server.cli import main
from python_mcp_server.errors import StoreError
from python_mcp_server.jobs.home_files import HomeFiles
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.request import Request
from python_mcp_server.jobs.sameness import same_or_new
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.options import JobOptions
from python_mcp_server.store.files import FileJobStore

TEXT = "".join(f"line {number}\n" for number in range(1, 21)) + "unended"


@pytest.fixture
def store(home: Path) -> FileJobStore:
    return FileJobStore(home)


def keep(
    store: FileJobStore, state: JobState = JobState.COMPLETED, *, hours: float = 0, text: str = ""
) -> str:
    then = utc_now() - timedelta(hours=hours)
    job = Job(new_job_id(then), "a label", state, then, completed_at=then if state.terminal else None)
    store.create(job)
    folder = store.folder(job.id)
    folder.mkdir(parents=True)
    (folder / "stdout").write_text(text, "utf-8")
    return job.id


def jobs(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as end:
        main(["jobs", *words])
    told = capsys.readouterr()
    assert end.value.code == code, told
    return told.err + told.out if code else told.out


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--tail", "2"], "line 20\nunended"),
        (["--line", "20"], "line 20\nunended"),
        (["--line", "-1"], "unended"),
        (["--line", "500"], ""),
        (["--tail", "500"], TEXT),
        (["--offset", "9" * 30], ""),
        (["--line", "9" * 30], ""),
        (["--tail", "9" * 30], TEXT),
        (["--line", "2", "--limit", "7"], "line 2\n"),
        (["--pattern", "line 1[0-2]"], "10: line 10\n11: line 11\n12: line 12\n"),
        (["--pattern", "line", "--line", "19"], "19: line 19\n20: line 20\n"),
        (["--pattern", "line|un", "--tail", "1", "--follow"], "21: unended\n"),
        (["--pattern", "nothing"], ""),
        ([], TEXT),
    ],
)
def test_output_is_shown_from_a_line_or_by_a_pattern(
    store: FileJobStore, capsys: pytest.CaptureFixture[str], options: list[str], shown: str
) -> None:
    assert jobs(capsys, "output", keep(store, text=TEXT), *options) == shown


def test_a_page_as_json_says_where_the_next_one_begins(
    store: FileJobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = keep(store, text=TEXT)
    page = json.loads(jobs(capsys, "output", job_id, "--line", "2", "--limit", "14", "--json"))
    assert (page["text"], page["first_line"], page["eof"]) == ("line 2\nline 3\n", 2, False)
    page = json.loads(
        jobs(capsys, "output", job_id, "--offset", str(page["next_offset"]), "--limit", "7", "--json")
    )
    assert page == {"text": "line 4\n", "next_offset": 28, "total_bytes": len(TEXT), "eof": False}


def test_options_that_contradict_are_refused(store: FileJobStore, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = keep(store)
    for options in (["--tail", "1", "--line", "2"], ["--tail", "1", "--offset", "2"]):
        assert "--tail, --line and --offset exclude each other" in jobs(
            capsys, "output", job_id, *options, code=2
        )
    assert "line is 0" in jobs(capsys, "output", job_id, "--line", "0", code=2)
    assert "no regular expression" in jobs(capsys, "output", job_id, "--pattern", "(", code=2)


def test_jobs_are_removed_by_any_beginning_of_their_ids(
    store: FileJobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, stays = (keep(store, hours=hours, text="x") for hours in (3, 2, 1))
    assert jobs(capsys, "rm", first[:10], second, first) == "2 removed\n"
    assert [job.id for job in store.list()[0]] == [stays]
    assert not store.folder(first).exists()
    assert store.folder(stays).exists()


def test_an_id_that_was_removed_has_expired(store: FileJobStore, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = keep(store)
    jobs(capsys, "rm", job_id)
    assert f"Job {job_id} has expired (it ended " in jobs(capsys, "show", job_id, code=1)


def test_nothing_is_removed_where_one_job_still_runs(
    store: FileJobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, waiting = keep(store), keep(store, JobState.INPUT_REQUIRED)
    store.update(waiting, lambda job: job.evolve(status=JobState.PENDING))
    assert "cancel it first, nothing was removed" in jobs(capsys, "rm", ended, waiting, code=2)
    assert {job.id for job in store.list()[0]} == {ended, waiting}
    assert store.remove(waiting) is False


def test_nothing_is_removed_where_one_id_is_unknown_or_fits_several(
    store: FileJobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = keep(store)
    keep(store)
    told = jobs(capsys, "rm", ended, "zzz", code=1)
    assert told == "python-mcp-server: Job zzz not found; nothing was removed\n"
    assert jobs(capsys, "rm", ended, "1", code=2).endswith("give more of it; nothing was removed\n")
    assert store.get(ended) is not None


def test_a_list_goes_on_before_any_beginning_of_an_id(
    store: FileJobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    oldest, middle, newest = (keep(store, hours=hours) for hours in (30, 20, 10))
    for before in (middle, middle[:7], middle[-6:]):
        listed = json.loads(jobs(capsys, "list", "--before", before, "--json"))
        assert [job["id"] for job in listed["jobs"]] == [oldest]
    assert "fits several jobs" in jobs(capsys, "list", "--before", newest[:1], code=2)
    assert jobs(capsys, "list", "--before", "zzz", code=1) == "python-mcp-server: Job zzz not found\n"
    gone = new_job_id(utc_now() - timedelta(hours=25))
    assert json.loads(jobs(capsys, "list", "--before", gone, "--json"))["total"] == 1


def test_a_prune_says_what_its_options_would_remove(
    store: FileJobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for state in (JobState.COMPLETED, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED):
        keep(store, state, hours=30)
    keep(store)
    assert jobs(capsys, "prune").split("\n") == [
        "1 removed, 4 remaining",
        "--drop-completed would remove 2",
        "--drop-failed would remove 1",
        "",
    ]
    assert jobs(capsys, "prune", "--drop-completed").split("\n")[1:] == ["--drop-failed would remove 1", ""]
    assert jobs(capsys, "prune", "--drop-completed", "--drop-failed") == "1 removed, 1 remaining\n"


def test_cached_results_are_dropped_by_their_kind(
    store: FileJobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(
        new_job_id(), "a", JobState.PENDING, utc_now(), tool="draw", options=JobOptions(cache_seconds=9)
    )
    job = job.evolve(call={"body": "m:f", "file": None, "cwd": None})
    same_or_new(store, job, Request(utc_now), lambda: store.create(job))
    assert jobs(capsys, "cache", "drop", "other") == "0 dropped\n"
    assert json.loads(jobs(capsys, "cache", "drop", "draw", "--json")) == {"dropped": 1}
    assert jobs(capsys, "cache", "drop") == "0 dropped\n"
    assert store.get(job.id) is not None


def test_a_wait_that_ends_first_says_why_the_job_has_not_started(
    store: FileJobStore, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(new_job_id(), "a label", JobState.PENDING, utc_now(), background=True, call={"body": "a:b"})
    store.create(job)
    assert "still pending: no server of this home is up" in jobs(
        capsys, "wait", job.id, "--timeout", "0", code=124
    )
    Queues(store).pause("default")
    assert "still pending: its queue 'default' is paused" in jobs(
        capsys, "wait", job.id, "--timeout", "0", code=124
    )


def test_two_answers_at_once_are_refused(store: FileJobStore, capsys: pytest.CaptureFixture[str]) -> None:
    told = jobs(capsys, "answer", keep(store), "key", "--decline", "--cancel", code=2)
    assert "--decline and --cancel exclude each other" in told


def test_a_prune_that_may_not_write_says_so_once(
    store: FileJobStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, JobState.CANCELLED, hours=30)

    def refused(*_: object, **__: object) -> None:
        raise StoreError("Could not write") from OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(HomeFiles, "append", refused)
    assert "expired" not in jobs(capsys, "prune", code=1)


def test_a_result_is_shown_whole_or_in_parts(store: FileJobStore, capsys: pytest.CaptureFixture[str]) -> None:
    when = utc_now()
    job = Job(new_job_id(), "x", JobState.COMPLETED, when, completed_at=when, result={"a": ["b"] * 30_000})
    store.create(job)
    assert json.loads(jobs(capsys, "output", job.id, "--stream", "result")) == job.result
    assert len(jobs(capsys, "output", job.id, "--stream", "result", "--limit", "7")) == 7
    told = jobs(capsys, "output", job.id, "--stream", "result", "--follow", code=2)
    assert "--stream result goes with --offset and --limit only" in told
