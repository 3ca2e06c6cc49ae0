"""The list of jobs of an older version is imported once."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.model import Job, JobState, new_job_id
from python_mcp_server.store.files import FileJobStore

WHEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def imported(home: Path, content: Any) -> list[Job]:
    (home / "meta").mkdir(parents=True)
    (home / "meta" / "jobs.json").write_text(content if isinstance(content, str) else json.dumps(content))
    store = FileJobStore(home)
    jobs = store.list(limit=100)[0]
    store.close()
    return jobs


def entry(status: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "label": "old",
        "status": status,
        "created_at": WHEN.isoformat(),
        **fields,
    }


def test_jobs_get_new_ids_and_keep_the_old_ones(home: Path):
    entries = [entry("completed", result={"stdout": "hi"}), entry("cancelled")]
    jobs = imported(home, entries)
    assert {job.extra["old_id"]: job.status.value for job in jobs} == {e["id"]: e["status"] for e in entries}
    assert not {job.id for job in jobs} & {e["id"] for e in entries}
    assert [job.id[:9] for job in jobs] == [new_job_id(WHEN)[:9]] * 2
    assert next(job for job in jobs if job.status is JobState.COMPLETED).result == {"stdout": "hi"}


def test_the_list_of_this_version_can_be_imported(home: Path, tmp_path: Path):
    store = FileJobStore(tmp_path / "other")
    job = Job(new_job_id(), "label", JobState.FAILED, WHEN, completed_at=WHEN, error="boom")
    store.create(job)
    store.close()
    (found,) = imported(home, (tmp_path / "other" / "meta" / "jobs.json").read_text())
    assert found == job.evolve(id=found.id, background=True, extra={"old_id": job.id})


@pytest.mark.parametrize("status", ["running", "pending", "input_required"])
def test_a_job_that_was_not_over_is_lost(home: Path, status: str):
    (job,) = imported(home, [entry(status)])
    assert (job.status, job.error_kind, job.completed_at is not None) == (JobState.FAILED, "lost", True)


def test_broken_entries_cost_a_warning_and_only_themselves(home: Path, caplog: pytest.LogCaptureFixture):
    good = entry("completed")
    times = [{"created_at": value} for value in ("soon", 1e300, [])]
    broken = [entry("failed", **fields) for fields in [*times, {"id": 5}, {"progress": {"total": 1}}]]
    broken += [None, 5, "x", {}, entry("sleeping")]  # type: ignore[list-item]
    assert [job.extra["old_id"] for job in imported(home, [*broken, good])] == [good["id"]]
    assert caplog.text.count("was not imported") == len(broken)


@pytest.mark.parametrize("content", ["", "{", "5", "null", '{"jobs": []}', "[" * 100_000])
def test_a_file_that_is_no_list_does_not_keep_the_store_shut(home: Path, content: str):
    assert imported(home, content) == []
    assert (home / "meta" / "jobs.imported.json").read_text() == content


def test_the_import_happens_once_and_keeps_the_old_list(home: Path):
    old = [entry("completed")]
    imported(home, old)
    store = FileJobStore(home)
    store.prune(lambda _: True)
    store.close()
    store = FileJobStore(home)
    assert store.list() == ([], False)
    store.close()
    assert json.loads((home / "meta" / "jobs.imported.json").read_text()) == old


def test_an_import_that_was_killed_half_way_is_done_again(home: Path):
    old = [entry("completed"), entry("failed")]
    imported(home, old)
    (home / "jobs" / "format.json").unlink()
    store = FileJobStore(home)
    assert len(store.list()[0]) == 2
    store.close()
