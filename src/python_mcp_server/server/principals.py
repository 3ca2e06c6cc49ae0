"""The principal of a request: who made it, and so which jobs it may see.

A principal that created a job over HTTP sees it, and so does the account's owner, who uses stdio, HTTP
without a token on this machine, or the command line. To other principals the job does not exist.
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
    """Return the principal of the present request; None is the account's owner.

    A person, where the token names one, is the same principal through every client.
    """
    token = get_access_token()
    if token is None:
        return None
    client, issuer, subject = principal_components(token)
    return f"client:{client}" if subject is None else f"subject:{json.dumps([issuer, subject])}"


async def find_job(manager: JobManager, job_id: str, *, whole: bool = False) -> Job:
    """Return a job of the present request's principal, in its present state.

    Args:
        manager: The manager of the jobs.
        job_id: The job.
        whole: Whether a result of more than 500 kB is read; it may be None otherwise.

    Raises:
        JobNotFound: The job does not exist, or belongs to another principal.
    """
    job = await manager.get(job_id, whole=whole)
    if not job.belongs_to(current_principal()):
        raise JobNotFound(job_id)
    return job
