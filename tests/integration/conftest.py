"""Owners of jobs, as records name them, and a manager for the tests that need no setting of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from python_mcp_server.model import ProcessIdentity
from python_mcp_server.processes import identify
from tests.helpers.stores import SHARED, url_in

if TYPE_CHECKING:
    from tests.helpers.warm_manager import WarmManager


@pytest.fixture(params=SHARED)
def any_home(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of this test, once for each store that processes share."""
    monkeypatch.setenv("PYTHON_MCP_STORE", url_in(home, request.param))
    return home


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


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmManager]:
    from tests.helpers.warm_manager import warm_manager

    with warm_manager(tmp_path_factory.mktemp("warm") / "home") as made:
        yield made


@pytest.fixture
def warm(lasting: WarmManager, monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmManager]:
    """A manager without any job; the tests of a file use it one after the other."""
    from tests.helpers.warm_manager import clear

    for name, value in lasting.env.items():
        monkeypatch.setenv(name, value)
    yield lasting
    lasting.run(clear)
