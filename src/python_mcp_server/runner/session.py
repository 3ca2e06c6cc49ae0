"""The session of one call, which its phases share: folder, deadline, job id, the caller's variables."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.limits import Limits

_LONGEST_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class Session:
    """One call of a script tool.

    Attributes:
        folder: A private directory for its files.
        home: The home of the product, for what calls share.
        job_id: The id that its processes carry in their environment.
        given: The variables that the caller set; they hold secrets.
        deadline: When all its processes are ended, on the monotonic clock; None for never.
        limits: The limits of the script; installing for it has the same priority and cores.
    """

    folder: Path
    home: Path
    job_id: str
    given: Mapping[str, str] = field(repr=False)
    deadline: float | None = None
    limits: Limits | None = None


def make_private(folder: Path) -> None:
    """Make a directory under the home, and the home itself, for this user only."""
    for path in (folder.parent, folder):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)


def deadline_after(timeout_seconds: float) -> float | None:
    """Return the deadline of a call that starts now; None for 0, which means no limit.

    Raises:
        InvalidInput: The limit is negative or no number.
    """
    given: Any = timeout_seconds  # a direct caller may give anything
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not number or math.isnan(timeout_seconds) or timeout_seconds < 0:
        raise InvalidInput(f"timeout_seconds is {given!r}; it must be a number of seconds, or 0 for no limit")
    if timeout_seconds == 0 or timeout_seconds > _LONGEST_S:
        return None
    return time.monotonic() + timeout_seconds
