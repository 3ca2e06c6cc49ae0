"""What binds one call inside its worker: priority, cores, the kernel's limits; and how it is undone."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from python_mcp_server.errors import LimitExceeded
from python_mcp_server.limits import Limits, jump_breach
from python_mcp_server.model import Outcome
from python_mcp_server.pool.outcomes import failure_of
from python_mcp_server.runner.guard import Guard
from python_mcp_server.runner.limits import backstops, confine_own_thread, thread_variables


@contextmanager
def fenced(limits: Limits | None, libc: Any) -> Generator[None]:
    """Run a body within its limits. Priority and cores stay: such a worker takes no further call.

    Args:
        limits: The call's.
        libc: The C library, to give back first what calls before have left unused; None without.

    Raises:
        InvalidInput: This machine or this account cannot give what they say.
    """
    if limits is None:
        yield
        return
    if limits.memory_limit_mb is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    os.environ.update(thread_variables(limits))
    confine_own_thread(limits)
    with backstops(limits):
        yield


def own_guard(limits: Limits, cpu_base_s: float, started_s: float) -> Guard:
    """Return who looks after the limits of this very process, once its server is gone."""
    return Guard(limits, lambda: (os.getpid(),), cpu_base_s=lambda: -cpu_base_s, started_s=started_s)


def worded(outcome: Outcome, limits: Limits | None) -> Outcome:
    """Call a body's `MemoryError` what it is, where it had a limit of memory."""
    failure = outcome.failure
    if failure is None or limits is None or limits.memory_limit_mb is None:
        return outcome
    if failure.type_name not in ("MemoryError", "numpy._core._exceptions._ArrayMemoryError"):
        return outcome
    breach = jump_breach(limits)
    told = failure_of(LimitExceeded(breach.sentence, breach.kind))
    return Outcome(failure=replace(told, traceback_text=failure.traceback_text))
