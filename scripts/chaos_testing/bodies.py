"""Python bodies of library processes. Workers import this module, so they get a crash point too."""

from __future__ import annotations

import os
import time

from chaos_testing.crash_point import arm_crash_point
from chaos_testing.job_script import ANSWER_FACTOR, note_start
from python_mcp_server.context import current_job, report_progress

arm_crash_point(worker=True)


def body(kind: str, value: int, starts: str) -> int:
    """Do what the kind says, and return the answer."""
    job = current_job()
    note_start(starts, job.id if job else "none")
    if kind == "body-sleeps":
        for step in range(8):
            report_progress(step + 1, 8, "sleeping")
            time.sleep(sleep_s(value) / 8)
    elif kind == "body-computes":
        until = time.process_time() + 0.1 + value % 4 / 4
        while time.process_time() < until:
            sum(range(1000))
    elif kind == "body-raises":
        raise ArithmeticError(str(value))
    elif kind == "body-exits":
        os._exit(7)
    return value * ANSWER_FACTOR


def sleep_s(value: int) -> float:
    """Return how long a body of the kind "body-sleeps" sleeps."""
    return 0.16 + value % 16 / 8
