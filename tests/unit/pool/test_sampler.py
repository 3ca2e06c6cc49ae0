"""Numbers about a worker: nice to have, and never a reason for a call to fail."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from python_mcp_server.pool.monitor import Sampler, Watch, sample

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
        assert sampler.add(Watch(os.getpid(), "a", 0.0)).usage is None
    assert sampler._thread is None
    sampler.add(Watch(os.getpid(), "b", 0.0))
    thread = sampler._thread
    assert thread is not None
    sampler.close()
    thread.join(30)
    assert not thread.is_alive()


WORKER = """
import subprocess, sys
grows = "held = bytearray(60_000_000); print(1, flush=True); input()"
program = subprocess.Popen([sys.executable, "-c", grows], stdin=0)
program.wait()
"""


def test_a_program_s_memory_is_told_without_that_of_its_worker():
    command = [sys.executable, "-c", WORKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"1\n"
        whole = sample(Watch(worker.pid, "a", 0.0))
        alone = sample(Watch(worker.pid, "a", 0.0, runs_programs=True))
        worker.communicate(b"\n")
    assert whole is not None
    assert alone is not None
    assert 60_000_000 < alone.rss_bytes < whole.rss_bytes - 5_000_000
    assert (alone.processes, whole.processes) == (1, 2)
