"""The jobs that one extension shows as tasks, to whoever makes the present request."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from python_mcp_server import functions
from python_mcp_server.errors import JobNotFound
from python_mcp_server.server.principals import find_job
from python_mcp_server.server.rounds import requests_of
from python_mcp_server.server.task_wire import detailed

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.model import Job
    from python_mcp_server.server.sdk import Face


class TaskBook:
    """Finds jobs by their id and shows them as tasks."""

    def __init__(self, manager: JobManager | None) -> None:
        self._manager = manager

    @property
    def manager(self) -> JobManager:
        """Whose jobs the tasks are; the default manager may change, so it is asked for each time."""
        return self._manager or functions.default_manager()

    def holds(self, manager: JobManager) -> bool:
        """Whether the jobs of this manager are found here."""
        return manager is self.manager or manager.store.home == self.manager.store.home

    async def find(self, task_id: str) -> Job | None:
        """Return the job, or None where there is none that this client may see."""
        try:
            return await find_job(self.manager, task_id)
        except JobNotFound:
            return None

    def show(self, job: Job, *, asks: bool) -> dict[str, Any]:
        """Return the task as `tasks/get` shows it, less the type of the result.

        Args:
            job: The job.
            asks: Whether its questions are shown: a client that cannot show a form gets none.
        """
        known = functions.default_tools() | self.manager.tools  # of tools that an author put beside ours, too
        face = cast("Face | None", known.get(job.tool))
        return detailed(job, face, requests_of(job.open_questions) if asks else None)

    def runs_here(self, job: Job) -> bool:
        """Whether this process has the job in hand, so that a look at it costs nothing."""
        return job.owner is not None and job.owner.pid == os.getpid()
