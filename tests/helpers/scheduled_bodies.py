"""Functions that are scheduled where this module is imported; they note their runs in a file."""

from __future__ import annotations

import os

from python_mcp_server import scheduled
from tests.helpers.bodies import note


@scheduled("* * * * * *", tz="Europe/Berlin", name="tick", missed="all", overlap="start")
def tick() -> None:
    """Note a run."""
    note(os.environ["TICKS"], "tick")
