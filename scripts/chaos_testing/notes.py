"""The notes of the bodies of queued jobs: which start of which attempt ran from when to when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Run:
    """One start of a body.

    Attributes:
        job_id: Its job.
        attempt: The attempt, by the record.
        pid: The worker.
        began_at: When it began, on the monotonic clock.
        began_s: When it began, on the wall clock.
        ended_at: When it ended, on the monotonic clock; None where it was killed.
        how: "raised", "returned", "snoozed"; empty where it was killed.
    """

    job_id: str
    attempt: int
    pid: int
    began_at: float
    began_s: float
    ended_at: float | None = None
    how: str = ""


@dataclass(slots=True)
class Notes:
    """All notes of a run: the starts, in order, and what bodies found wrong."""

    runs: list[Run]
    wrong: list[str]

    def by_job(self) -> dict[str, list[Run]]:
        """Return the starts of each job, in order."""
        found = dict[str, list[Run]]()
        for run in self.runs:
            found.setdefault(run.job_id, []).append(run)
        return found


def read_notes(path: Path) -> Notes:
    """Read the file of notes, which may not be there."""
    notes, last = Notes([], []), dict[tuple[str, int], Run]()
    for what, job_id, attempt, pid, at, wall, text in _lines(path):
        key = (job_id, int(pid))
        if what == "start":
            last[key] = Run(job_id, int(attempt), int(pid), float(at), float(wall))
            notes.runs.append(last[key])
        elif what == "wrong":
            notes.wrong.append(f"job {job_id}, attempt {attempt}: {text}")
        else:
            last[key].ended_at, last[key].how = float(at), what
    return notes


def _lines(path: Path) -> Iterator[list[str]]:
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield line.split(" ", 6)
