"""Who looks at limits tells of a breach once, and never of a body that has just ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from python_mcp_server.limits import CPU, Breach
from python_mcp_server.pool.monitor import LimitMonitor
from tests.helpers import eventually

if TYPE_CHECKING:
    import pytest


class FakeGuard:
    """Over its limit from the second look on; may be told what to do in between."""

    pause_s = 0.001

    def __init__(self, on_look: Callable[[], object] = bool) -> None:
        self.looks = 0
        self._on_look = on_look

    def look(self) -> Breach | None:
        self.looks += 1
        self._on_look()
        return Breach(CPU, "over") if self.looks > 1 else None

    def freeze(self, kind: str) -> None:
        """Called once the breach was reported."""


def test_a_breach_is_reported_once_and_ends_the_monitoring():
    limiter, told, guard = LimitMonitor(), list[Breach](), FakeGuard()
    watched = limiter.watch(guard, told.append)  # type: ignore[arg-type]
    eventually(lambda: told)
    other = FakeGuard()
    limiter.watch(other, told.append)  # type: ignore[arg-type]
    eventually(lambda: len(told) == 2)
    limiter.close()
    assert (guard.looks, other.looks) == (2, 2)
    assert not limiter.unwatch(watched), "so that its worker is known to be spent"


def test_a_body_that_ends_during_a_sample_gets_no_breach():
    limiter, told = LimitMonitor(), list[Breach]()
    ended = threading.Event()

    def end() -> None:
        if guard.looks == 2:
            assert limiter.unwatch(watched)
            ended.set()

    guard = FakeGuard(end)
    watched = limiter.watch(guard, told.append)  # type: ignore[arg-type]
    assert ended.wait(30)
    eventually(lambda: not limiter._watched)
    limiter.close()
    assert limiter._thread is not None
    limiter._thread.join(30)
    assert told == []


def test_a_failed_sample_does_not_end_the_monitoring(caplog: pytest.LogCaptureFixture):
    limiter, told = LimitMonitor(), list[Breach]()

    def fail() -> None:
        if guard.looks == 1:
            raise OSError("no descriptors")

    guard = FakeGuard(fail)
    limiter.watch(guard, told.append)  # type: ignore[arg-type]
    eventually(lambda: told)
    limiter.close()
    assert "could not be looked at" in caplog.text
