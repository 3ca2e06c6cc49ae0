"""One manager for many tests: most of them find a worker that is ready, which costs 0.2 s of CPU else."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.settings import Settings
from tests.helpers.leftovers import TEST_VARIABLE, outliving
from tests.helpers.loop import guarded

T = TypeVar("T")


class WarmManager:
    """A manager that many tests use, one after the other, so that most find a worker that is ready.

    Attributes:
        env: The variables under which its workers start, so that no test is held to leave them behind.
        home: Its home.
    """

    def __init__(self, portal: BlockingPortal, jobs: JobManager, env: dict[str, str]) -> None:
        self.env = {TEST_VARIABLE: env[TEST_VARIABLE]}
        self.home = jobs.settings.home
        self._portal = portal
        self._jobs = jobs

    def run(self, main: Callable[[JobManager], Coroutine[Any, Any, T]]) -> T:
        """Return what the coroutine returns; it runs on the manager's loop, which it must not block."""
        return self._portal.call(guarded, main(self._jobs))


@contextmanager
def warm_manager(home: Path) -> Generator[WarmManager]:
    """A manager with this home on a loop of its own."""
    with outliving(home) as env, start_blocking_portal() as portal:
        settings = Settings.from_environ(home=home, spare_workers=0, min_free_memory_mb=0)
        jobs = JobManager(settings=settings)
        yield WarmManager(portal, jobs, env)
        portal.call(jobs.close)


async def clear(made: JobManager) -> None:
    """Remove all jobs; fail where one still runs, which is ended."""
    left = [job for job in (await made.list(limit=1000))[0] if not job.status.terminal]
    for job in left:
        await made.cancel(job.id)
    await made.prune(keep_completed=False, keep_failed=False, max_age_hours=0)
    assert not left, left
