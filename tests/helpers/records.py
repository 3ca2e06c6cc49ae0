"""Jobs, and the files of their records."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from python_mcp_server.atomic import read_file
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store import records
from python_mcp_server.store.layout import is_job_id

if TYPE_CHECKING:
    import pytest


def a_job(status: JobState = JobState.RUNNING, job_id: str | None = None) -> Job:
    """Return a job that is in no store yet."""
    return Job(job_id or new_job_id(), "a label", status, utc_now())


def record_of(home: Path, job: Job) -> Path:
    """Return the file of a job's record in this home."""
    (found,) = (home / "jobs").rglob(f"*{job.id}.json")
    return found


def records_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the id of each record that this thread tries to open from now on."""
    opened: list[str] = []
    own = threading.current_thread()  # another thread reads for `meta/jobs.json`

    def read(path: str) -> bytes | None:
        if threading.current_thread() is own and is_job_id(Path(path).stem):
            opened.append(Path(path).stem)
        return read_file(path)

    monkeypatch.setattr(f"{records.__name__}.read_file", read)
    return opened


def replace(path: Path, content: bytes) -> None:
    """Replace the content atomically, because the thread of meta/jobs.json reads records at any time."""
    made = path.with_name(path.name + ".new")
    made.write_bytes(content)
    made.replace(path)
