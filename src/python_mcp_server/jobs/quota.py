"""The quotas of clients as data: what each may spend in a window of time, and what it has spent.

A client is the principal of an HTTP server, else the name that an MCP client gives itself. `jobs.quotas`
changes quotas, `jobs.spending` holds submissions to them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import number_words
from python_mcp_server.model import MB, iso

if TYPE_CHECKING:
    from python_mcp_server.model import Job

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WINDOW: Final = re.compile(rf"([0-9]{{1,8}})([{''.join(_UNITS_S)}])")
_LONGEST_S: Final = 366 * 86_400
_MOST_JOBS: Final = 1_000_000_000
_NAME_CHARS: Final = 1_000
_ALL: Final = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a client may spend; None for no bound.

    Attributes:
        jobs: How many jobs it may make in the window.
        cpu_seconds: How much CPU time its jobs may take in the window.
        memory_mb: How much memory its running jobs may take at once, in MB of 10^6 bytes.
        per: The window, such as "1h": a number of seconds (s), minutes (m), hours (h) or days (d).

    Raises:
        InvalidInput: A value has no meaning; the text names it.
    """

    jobs: int | None = None
    cpu_seconds: float | None = None
    memory_mb: float | None = None
    per: str = "1h"

    def __post_init__(self) -> None:
        jobs: Any = self.jobs
        if jobs is not None and not (_is_number(jobs) and isinstance(jobs, int) and jobs <= _MOST_JOBS):
            raise InvalidInput(f"jobs is {jobs!r:.160}; it must be a whole number, 0 or more")
        for name in ("cpu_seconds", "memory_mb"):
            value = getattr(self, name)
            if value is not None and not _is_number(value):
                raise InvalidInput(f"{name} is {value!r:.160}; it must be a number, 0 or more")
        if self.jobs is None and self.cpu_seconds is None and self.memory_mb is None:
            raise InvalidInput("a quota has no bound; give jobs, cpu_seconds or memory_mb")
        found = _WINDOW.fullmatch(self.per) if isinstance(self.per, str) else None  # type: ignore[reportUnnecessaryIsInstance]
        if found is None or not 1 <= int(found[1]) * _UNITS_S[found[2]] <= _LONGEST_S:
            raise InvalidInput(f'per is {self.per!r:.160}; it must be a time such as "90s", "1h" or "7d"')

    @property
    def per_s(self) -> float:
        """The length of the window in seconds."""
        return float(int(self.per[:-1]) * _UNITS_S[self.per[-1]])

    def to_json(self) -> dict[str, Any]:
        """Return the bounds that are set, and the window."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def check_client(client: Any) -> None:
    """Refuse a name of a client that no client can have.

    Raises:
        InvalidInput: The text has the name.
    """
    if not (isinstance(client, str) and 1 <= len(client) <= _NAME_CHARS and client.isprintable()):
        raise InvalidInput(
            f"the client is {client!r:.160}; it must be a line of 1 to {_NAME_CHARS} characters"
        )


def is_prefix(name: str) -> bool:
    """Whether the quota of this name is for each client whose name begins with it."""
    return name.endswith(_ALL)


def quota_of(quotas: Mapping[str, Quota], client: str) -> Quota | None:
    """Return the quota of a client: its own, else that of the longest prefix; None where it has none, as a
    program without a client.
    """
    if not quotas or not client:
        return None
    if (own := quotas.get(client)) is not None:
        return own
    fitting = [name for name in quotas if is_prefix(name) and client.startswith(name[:-1])]
    return quotas[max(fitting, key=len)] if fitting else None


class OfClient(Protocol):
    """A job, or the request of one."""

    @property
    def principal(self) -> str | None:
        """Who owns it, where the server knew."""
        ...

    @property
    def client(self) -> str | None:
        """The MCP client that asked for it, as it named itself."""
        ...


def client_of(job: OfClient) -> str:
    """Return the client whose quota a job spends; an empty text if no client is known."""
    return job.principal or job.client or ""


def memory_mb_of(job: Job) -> float:
    """Return what a running job counts as: its memory limit, else its memory as measured last."""
    if job.memory_limit_mb is not None:
        return job.memory_limit_mb
    return 0.0 if job.usage is None else job.usage.rss_bytes / MB


def memory_reason(quota: Quota | None, job: Job, taken_mb: float) -> str | None:
    """Return why a queued job must wait for the memory of its client's other jobs, or None.

    Args:
        quota: The quota of its client.
        job: The job.
        taken_mb: What the running jobs of its client take.
    """
    most_mb = None if quota is None else quota.memory_mb
    wanted_mb = job.memory_limit_mb
    if most_mb is None or (taken_mb < most_mb if wanted_mb is None else taken_mb + wanted_mb <= most_mb):
        return None
    takes = "" if wanted_mb is None else f"it may take {number_words(wanted_mb)} MB, "
    most = number_words(most_mb)
    return f"waiting for memory of its client's quota: {takes}{taken_mb:.0f} of {most} MB are taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a client has spent of its quota.

    Attributes:
        client: The client.
        quota: Its quota; None where it has none, and then nothing is counted.
        jobs: How many jobs it has made in the window.
        cpu_seconds: The CPU time of its jobs that ended in the window, or run.
        memory_mb: What its running jobs take, in MB of 10^6 bytes.
        refusal: Why its next job is refused, or None.
        fits_at: When a refused job fits again; None where none is refused, or where none will fit.
    """

    client: str
    quota: Quota | None = None
    jobs: int = 0
    cpu_seconds: float = 0.0
    memory_mb: float = 0.0
    refusal: str | None = None
    fits_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON."""
        return {
            "client": self.client,
            "quota": None if self.quota is None else self.quota.to_json(),
            "spent": {
                "jobs": self.jobs,
                "cpu_seconds": round(self.cpu_seconds, 3),
                "memory_mb": round(self.memory_mb, 3),
            },
            "refusal": self.refusal,
            "fits_at": iso(self.fits_at),
        }
