"""Reads records and starts during the run, as any other process can."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from python_mcp_server.model import Job
    from python_mcp_server.store.contract import JobStore
    from python_mcp_server.store.opening import StorePlace


class Start(NamedTuple):
    """A start of a body: its job, and the time on the monotonic clock."""

    job_id: str
    at: float


class StoreObserver:
    """Reads the store and the file of starts of one run."""

    def __init__(self, folder: Path, place: StorePlace) -> None:
        self._place = place
        self._starts = folder / "starts"
        self._opened: JobStore | None = None
        self._read = 0
        self._first: dict[str, float] = {}

    @property
    def store(self) -> JobStore:
        """The store."""
        from python_mcp_server.store.opening import open_place

        self._opened = self._opened or open_place(self._place)
        return self._opened

    def see(self, job_id: str) -> Job | None:
        """Return a job from its record."""
        return self.store.get(job_id)

    def live(self) -> tuple[Job, ...]:
        """Return the jobs that have not ended."""
        return self.store.live()

    def starts(self) -> list[Start]:
        """Return all starts, in their order."""
        if not self._starts.exists():
            return []
        lines = (line.split() for line in self._starts.read_text(encoding="ascii").splitlines())
        return [Start(job_id, float(at)) for job_id, _, at in lines]

    def first_start(self, job_id: str) -> float | None:
        """Return when a job first started, or None. Reads only what was added since the last call."""
        if self._starts.exists():
            with self._starts.open("rb") as file:
                file.seek(self._read)
                whole = file.read().rpartition(b"\n")[0]
            self._read += len(whole) + bool(whole)
            for line in whole.decode("ascii").splitlines():
                started_id, _, at = line.split()
                self._first.setdefault(started_id, float(at))
        return self._first.get(job_id)
