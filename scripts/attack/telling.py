"""How a library process tells the driver what it was told: a JSON line each, see `History.take`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from python_mcp_server.model import Job


def say(fact: str, **rest: Any) -> None:
    """Tell the driver a fact."""
    sys.stdout.write(json.dumps({"fact": fact, **rest}) + "\n")
    sys.stdout.flush()


def saw(job: Job, asked_at: float) -> None:
    """Tell how a job was seen."""
    shown = {"id": job.id, "status": job.status.value, "error_kind": job.error_kind}
    shown["completed_at"] = job.completed_at.isoformat() if job.completed_at else None
    say("saw", job=shown, asked=asked_at)
