"""Whether the machine has memory for one more background job."""

from __future__ import annotations

from typing import Final

from python_mcp_server.model import MB
from python_mcp_server.processes.memory import memory

_SHARE: Final = 0.1
"""Of all memory: on a small machine no more than this is kept free; guessed."""


def shortage(least_bytes: float) -> str | None:
    """Return how far memory has run out, or None where there is enough. Blocks, for a millisecond.

    Args:
        least_bytes: What must be available; 0 for no such look.
    """
    if not least_bytes:
        return None
    now = memory()
    wanted = min(least_bytes, _SHARE * now.total)
    if now.available >= wanted:
        return None
    return f"{now.available / MB:.0f} MB are free, {wanted / MB:.0f} MB must be"
