"""Owners of jobs, as records name them."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes import identify


@pytest.fixture
def own() -> ProcessIdentity:
    """This process."""
    identity = identify(os.getpid())
    assert identity is not None
    return identity


@pytest.fixture
def gone(own: ProcessIdentity) -> ProcessIdentity:
    """A process that had our pid before us."""
    return replace(own, start_ticks=own.start_ticks - 1)
