"""Numbers about a worker: nice to have, and never a reason for a call to fail."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from python_mcp_server.pool.monitor import Sampler

if TYPE_CHECKING:
    import pytest


def test_usage_is_sampled_again_once_a_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sampler = Sampler(0.01)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert sampler.watch(os.getpid(), "a", 0.0).usage is None
    assert sampler._thread is None
    sampler.watch(os.getpid(), "b", 0.0)
    thread = sampler._thread
    assert thread is not None
    sampler.close()
    thread.join(30)
    assert not thread.is_alive()
