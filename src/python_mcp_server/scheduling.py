"""The decorator `scheduled`: a function of a tool author that runs at times of its own.

It is apart from `smart_async`, because few modules need it. The function is known to the manager from its
definition on; the schedule is made when an engine of the manager opens, or at once where one is open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from python_mcp_server.context import BODY_ATTRIBUTE, in_worker
from python_mcp_server.errors import InvalidInput
from python_mcp_server.functions import default_schedules

if TYPE_CHECKING:
    from datetime import datetime

    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.options import JobOptions

Function = TypeVar("Function", bound=Callable[..., Any])


def scheduled(
    cron: str | None = None,
    *,
    every: float | None = None,
    at: datetime | None = None,
    tz: str = "UTC",
    name: str | None = None,
    missed: str = "once",
    overlap: str | None = None,
    options: JobOptions | None = None,
    manager: JobManager | None = None,
) -> Callable[[Function], Function]:
    """Run a function without arguments at times of its own, as a background job.

    The function itself stays as it is. Its schedule is made when the manager starts, and changed where its
    definition has changed; it stays in the home, also where the function is gone, until it is removed. Any
    number of servers may define it: each time starts one job, on one server that has the function.

    Args:
        cron: When: `"0 3 * * *"`, minute, hour, day, month and weekday; a sixth field in front is for
            seconds.
        every: Or each so many seconds, 1 at least.
        at: Or once, at this time.
        tz: The IANA name of the time zone.
        name: The name of the schedule; that of the function, with its module, where None.
        missed: What happens to times at which no server was there: "once", "skip" or "all".
        overlap: What happens while the job before runs: "skip", "wait" or "start".
        options: How its jobs are queued and retried.
        manager: The manager of the jobs; the default manager where None.

    Raises:
        InvalidInput: The function is of the main program, where no other server finds it, or a value has no
            meaning.
    """

    def declare(function: Function) -> Function:
        if in_worker():
            return function
        body: Callable[..., Any] = getattr(function, BODY_ATTRIBUTE, function)
        if body.__module__ == "__main__":
            raise InvalidInput(
                f"{body.__qualname__} is of the main program, where servers do not find it; "
                "define it in a module, and import that"
            )
        how = {"cron": cron, "every": every, "at": at, "tz": tz, "missed": missed, "overlap": overlap}
        _declare(body, name or f"{body.__module__}.{body.__qualname__}", how, options, manager)
        return function

    return declare


def _declare(
    body: Callable[..., Any],
    name: str,
    how: dict[str, Any],
    options: JobOptions | None,
    manager: JobManager | None,
) -> None:
    from python_mcp_server.jobs.request import Request
    from python_mcp_server.jobs.schedules import DeclaredSchedule, check_schedule

    check_schedule(**how, name=name)
    declared = DeclaredSchedule(Request(body, options=options), how | {"name": name})
    if manager is not None:
        manager.declared.append(declared.make)
        return
    from python_mcp_server.startup import start_with_server

    default_schedules().append(declared.make)
    start_with_server()
