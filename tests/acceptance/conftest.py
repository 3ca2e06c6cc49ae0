"""Our server, shared by the tests that need no home and no setting of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.acceptance.over_http import Served
    from tests.acceptance.shared import Shared

KINDS = {
    "patient": {"MCP_DEBUG": "true", "PYTHON_MCP_RECORD_AFTER_SECONDS": "60"},
    "hasty": {"SMART_ASYNC_TIMEOUT_SECONDS": "0.5"},
}
NEWEST = "auto"  # what the client comes to by itself
Find = Callable[[str, str], "Shared"]


@pytest.fixture(scope="session")
def our_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Find]:
    """Finds a server of a kind, with a client of a version of the protocol; the first who asks starts it."""
    from tests.acceptance.shared import shared  # it loads the SDK, which xdist's first process never needs

    started: dict[tuple[str, str], Shared] = {}
    with ExitStack() as stack:

        def find(kind: str, mode: str) -> Shared:
            if (kind, mode) not in started:
                home = tmp_path_factory.mktemp(kind) / "home"
                started[kind, mode] = stack.enter_context(shared(home, env=KINDS[kind], mode=mode))
            return started[kind, mode]

        yield find


@pytest.fixture
def ours(our_servers: Find, request: pytest.FixtureRequest) -> Iterator[Shared]:
    """Our server without any job; no call that somebody waits for gets a record, however slow the
    machine is. The protocol is the newest unless a test asks for "legacy"."""
    yield from cleared(our_servers("patient", getattr(request, "param", NEWEST)))


@pytest.fixture
def hasty(our_servers: Find, request: pytest.FixtureRequest) -> Iterator[Shared]:
    """Our server without any job, and with a budget of half a second."""
    yield from cleared(our_servers("hasty", getattr(request, "param", NEWEST)))


def cleared(server: Shared) -> Iterator[Shared]:
    """Yield the server, and then free it of jobs."""
    from tests.acceptance.shared import clear

    server.heard.clear()
    yield server
    server.run(clear)


@pytest.fixture(scope="session")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from tests.acceptance.over_http import served

    with served(tmp_path_factory.mktemp("http")) as server:
        yield server


@pytest.fixture
def http(http_server: Served) -> Iterator[Served]:
    """Our server over HTTP, without any job of those who have the token."""
    yield http_server
    http_server.clear()
