"""Reports facts of a library process to the experiment, a JSON line each; `History.add_fact` reads them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from python_mcp_server.model import Job


def emit(fact: str, **rest: Any) -> None:
    """Report a fact."""
    sys.stdout.write(json.dumps({"fact": fact, **rest}) + "\n")
    sys.stdout.flush()


def emit_job(job: Job, asked_at: float) -> None:
    """Report how this process saw a job."""
    shown = {"id": job.id, "status": job.status.value, "error_kind": job.error_kind}
    shown["completed_at"] = job.completed_at.isoformat() if job.completed_at else None
    emit("saw", job=shown, asked=asked_at)
