"""The principal of a request: who made it, and so which jobs it may see.

A principal that created a job over HTTP sees it, and so does the account's owner, who uses stdio, HTTP
without a token on this machine, or the command line. To other principals the job does not exist.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken, principal_components

from python_mcp_server.errors import JobExpired, JobNotFound, StoreError

if TYPE_CHECKING:
    from python_mcp_server.jobs.manager import JobManager
    from python_mcp_server.model import Job


_log: Final = logging.getLogger(__name__)


class TokenHolder(AuthenticatedUser):
    """The user that all clients with the server's own token are.

    The name of this principal in records needs the key of the home, which a full disk may refuse for a while.
    Until the name is known, only what needs no principal is served.

    Args:
        find_name: Returns the name, or raises `StoreError`; may block.
    """

    def __init__(self, find_name: Callable[[], str]) -> None:
        super().__init__(AccessToken(token="", client_id="http-token", scopes=[]))
        self._find_name = find_name
        self._name: str | None = None
        self._trouble: StoreError | None = None

    async def look_up(self) -> None:
        """Find the name, unless it is known; log why it cannot be found, once."""
        if self._name is not None:
            return
        try:
            self._name = await asyncio.to_thread(self._find_name)
        except StoreError as error:
            if self._trouble is None:
                _log.warning("clients with the token have no jobs now, each call tries again: %s", error)
            self._trouble = error

    @property
    def principal(self) -> str:
        """The name.

        Raises:
            StoreError: The key of the home can be neither read nor written.
        """
        if self._name is None:
            raise self._trouble or StoreError("The name of the token's principal was not looked up")
        return f"client:{self._name}"


def current_principal() -> str | None:
    """Return the principal of the present request; None is the account's owner.

    A person, where the token names one, is the same principal through every client.

    Raises:
        StoreError: The name of the principal is not known yet.
    """
    user = auth_context_var.get()
    if user is None:
        return None
    if isinstance(user, TokenHolder):
        return user.principal
    client, issuer, subject = principal_components(user.access_token)
    return f"client:{client}" if subject is None else f"subject:{json.dumps([issuer, subject])}"


async def find_job(manager: JobManager, job_id: str, *, whole: bool = False) -> Job:
    """Return a job of the present request's principal, in its present state.

    Args:
        manager: The manager of the jobs.
        job_id: The job.
        whole: Whether a result of more than 500 kB is read; it may be None otherwise.

    Raises:
        JobExpired: It was removed a short time ago.
        JobNotFound: The job does not exist, or belongs to another principal.
        StoreError: The name of the principal is not known yet.
    """
    principal = current_principal()
    try:
        job = await manager.get(job_id, whole=whole)
    except JobExpired as error:
        if principal in (None, error.principal):
            raise
        raise JobNotFound(job_id) from None
    if not job.belongs_to(principal):
        raise JobNotFound(job_id)
    return job
