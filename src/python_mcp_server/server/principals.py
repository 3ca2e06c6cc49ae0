"""Whose a job is: who created it over HTTP may see it, and nobody else but the account's owner.

The owner speaks over stdio, over HTTP without a token on this machine, and on the command line, and
sees everything in the home. A job of somebody else is to a principal as if it were not there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components

from python_mcp_server.errors import JobNotFound

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.model import Job


def current_principal() -> str | None:
    """Return who makes the present request; None is the account's owner.

    A person, where the token names one, is the same principal through every client.
    """
    token = get_access_token()
    if token is None:
        return None
    client, issuer, subject = principal_components(token)
    return f"client:{client}" if subject is None else f"subject:{json.dumps([issuer, subject])}"


def visible(job: Job) -> bool:
    """Whether whoever makes the present request may know of this job."""
    return job.belongs_to(current_principal())


async def find_job(manager: JobManager, job_id: str) -> Job:
    """Return a job of whoever makes the present request, as it stands now.

    Raises:
        JobNotFound: There is no such job, or it is somebody else's.
    """
    job = await manager.get(job_id)
    if not visible(job):
        raise JobNotFound(job_id)
    return job
