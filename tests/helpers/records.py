"""Jobs, and the files of their records."""

from __future__ import annotations

from pathlib import Path

from python_mcp_server.model import Job, JobState, new_job_id, utc_now


def a_job(status: JobState = JobState.RUNNING, job_id: str | None = None) -> Job:
    """Return a job that is in no store yet."""
    return Job(job_id or new_job_id(), "a label", status, utc_now())


def record_of(home: Path, job: Job) -> Path:
    """Return the file of a job's record in this home."""
    (found,) = (home / "jobs").rglob(f"*{job.id}.json")
    return found


def replace(path: Path, content: bytes) -> None:
    """Replace the content atomically, because the thread of meta/jobs.json reads records at any time."""
    made = path.with_name(path.name + ".new")
    made.write_bytes(content)
    made.replace(path)
