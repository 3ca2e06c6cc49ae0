"""Blocking calls where the system gives no thread: what is refused does not run later."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from python_mcp_server.pool.steady import in_background, in_thread, to_thread
from tests.helpers import run


@pytest.fixture
def threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1)


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_a_call_that_found_no_thread_is_refused_and_never_runs(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
):
    ran: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as short:
            refuse(short)
            with pytest.raises(RuntimeError, match="new thread"):
                to_thread(loop, threads, ran.append, "refused")
            in_background(loop, threads, ran.append, "refused too")
        await to_thread(loop, threads, ran.append, "later")  # a thread is there now, and empties the queue

    run(main())
    threads.shutdown()
    assert ran == ["later"]


def test_what_must_be_done_is_done_once_also_without_a_thread(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
):
    ran: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as short:
            refuse(short)
            await in_thread(loop, threads, ran.append, "here and now")
        await in_thread(loop, threads, ran.append, "in a thread")

    run(main())
    threads.shutdown()
    assert ran == ["here and now", "in a thread"]


def test_a_failure_in_a_thread_is_that_of_the_call(threads: ThreadPoolExecutor):
    def fail() -> None:
        raise KeyError("x")

    async def main() -> None:
        with pytest.raises(KeyError):
            await to_thread(asyncio.get_running_loop(), threads, fail)

    run(main())
    threads.shutdown()
