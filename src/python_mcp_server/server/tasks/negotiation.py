"""Whether the request at hand may become a task, from the extension down to the decorator.

The extension opens an offer around the call of a tool, and a decorated function that hands its run
over accepts it. A context variable carries the offer, because the SDK's own code stands between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from mcp.shared.exceptions import MCPError
from mcp_types import MISSING_REQUIRED_CLIENT_CAPABILITY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from python_mcp_server.errors import InvalidInput

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from python_mcp_server.jobs.manager import JobManager

IDENTIFIER: Final = "io.modelcontextprotocol/tasks"
VERSIONS: Final = frozenset(MODERN_PROTOCOL_VERSIONS)
"""The versions of the protocol that know the extension."""


class Offer:
    """One call of a tool that may become a task.

    Args:
        finds: Whether the extension finds the jobs of a manager; None where the client takes no tasks.

    Attributes:
        job_id: The job that the tool answered with a handle of, once its run was handed over.
    """

    def __init__(self, finds: Callable[[JobManager], bool] | None) -> None:
        self.job_id = ""
        self._finds = finds

    @property
    def wanted(self) -> bool:
        """Whether the client takes tasks."""
        return self._finds is not None

    def accept(self, manager: JobManager, job_id: str) -> None:
        """Make the call this job's task, where that is possible."""
        if self._finds is not None and self._finds(manager):
            self.job_id = job_id

    def accepted_in(self, result: object) -> bool:
        """Whether this result of the call is the handle of the job.

        It may be a copy of what the tool answered, as a FastMCP server makes it, or something else, where a
        tool or middleware around the decorated function has made an answer of its own.
        """
        handle = cast("dict[str, Any] | None", getattr(result, "structured_content", None))
        return bool(self.job_id) and isinstance(handle, dict) and handle.get("job_id") == self.job_id


_CURRENT: Final[ContextVar[Offer | None]] = ContextVar("task_offer", default=None)


@contextmanager
def offering(offer: Offer) -> Generator[None]:
    """Make the offer to the code in this block."""
    token = _CURRENT.set(offer)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_offer() -> Offer | None:
    """Return the offer for the call at hand; None on a server without the extension."""
    return _CURRENT.get()


def supports_tasks(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client takes tasks at this very request: it says so, in a version that has them."""
    capabilities = ctx.session.client_capabilities
    extensions = capabilities.extensions if capabilities else None
    return ctx.protocol_version in VERSIONS and IDENTIFIER in (extensions or ())


def require_tasks(ctx: ServerRequestContext[Any, Any]) -> None:
    """Refuse a request whose client did not declare the extension.

    Raises:
        MCPError: The client did not; the code is -32021, as the specification says.
    """
    if not supports_tasks(ctx):
        needed: dict[str, Any] = {"requiredCapabilities": {"extensions": {IDENTIFIER: {}}}}
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY, f"the client must declare the extension {IDENTIFIER}", needed
        )


def require_tasks_for(tool: str, ctx: ServerRequestContext[Any, Any] | None) -> None:
    """Refuse a call whose tool answers only with a task, where no task is possible.

    Raises:
        MCPError: The client did not declare the extension.
        InvalidInput: The server does not have it.
    """
    if ctx is not None:
        require_tasks(ctx)
    if current_offer() is None:
        raise InvalidInput(
            f"{tool} answers with a task, and this server makes none; "
            "it needs MCPServer(..., extensions=[TasksExtension()])"
        )
