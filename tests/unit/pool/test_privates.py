"""The names private to other projects that the pool uses: that each is there, and what it is needed for."""

from __future__ import annotations

import ast
import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from loky import process_executor
from loky.backend.queues import Queue

from python_mcp_server import pool
from python_mcp_server.pool.process import WorkerProcess
from python_mcp_server.pool.start import (
    RAW,
    UpQueue,
    WorkerContext,
    WorkerSession,
    refused_processes,
    variables_of,
)
from tests.helpers import run_python
from tests.helpers.waiting import eventually

FOLDER: Final = Path(pool.__file__).parent
DOCUMENTED: Final = {"_exit", "_current_frames", "_unregister_task", "_thread"}
"""Underscored, and yet public: the documentation of Python has them."""


def popen(tmp_path: Path) -> None:
    """Without `_Popen`, loky would start a worker its own way: flush closed streams, and start trackers."""
    made: list[Any] = []

    class Session(WorkerSession):
        @staticmethod
        def _Popen(process_obj: Any) -> Any:  # noqa: N802
            made.append(process_obj)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Session(target=print).start()
    assert made


def inheriting(tmp_path: Path) -> None:
    """Without `_inheriting`, a main module without a guard would start a process that loads it, and so on."""
    with refused_processes(), pytest.raises(RuntimeError, match="process"):
        multiprocessing.get_context("spawn").Process(target=print).start()
    with refused_processes(), pytest.raises(RuntimeError, match="__main__"):
        WorkerSession(target=print).start()


def reader(tmp_path: Path) -> None:
    """Without `_reader`, the loop could not watch the way up, and a worker would hold its other end open."""
    queue: UpQueue = WorkerContext().SimpleQueue()
    queue.put("said")
    assert queue.reader.poll(60)
    queue.close()


def writer(tmp_path: Path) -> None:
    """Without `_writer`, each message would be pickled, and a full pipe would stop the body."""
    queue: UpQueue = WorkerContext().SimpleQueue()
    os.set_blocking(queue.writer.fileno(), False)
    os.write(queue.writer.fileno(), b"said")
    assert os.read(queue.reader.fileno(), 10) == b"said"
    queue.close()


def semlock(tmp_path: Path) -> None:
    """Without `_semlock`, a queue that loky writes to could not say whether it is full."""
    queue = Queue(1, ctx=WorkerContext())
    assert not queue.full()
    queue._sem.acquire(True, None)
    assert queue.full()
    assert not queue._sem.acquire(False, None)
    queue._sem.release()
    assert not queue.full()
    queue.close()


def data(tmp_path: Path) -> None:
    """Without `_data`, each call would decode every variable to see whether one has changed."""
    assert variables_of(os.environ) is variables_of(os.environ)
    os.environ["OF_A_TEST"] = "x"
    assert variables_of(os.environ)[os.environ.encodekey("OF_A_TEST")] == os.environ.encodevalue("x")  # type: ignore[attr-defined]
    del os.environ["OF_A_TEST"]


def raw_signal(tmp_path: Path) -> None:
    """Without `_signal`, a look at eleven handlers would take 30 us of each call."""
    assert RAW.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGINT)
    assert RAW.getsignal(signal.SIGUSR1) in (0, 1) or callable(RAW.getsignal(signal.SIGUSR1))


def processes(tmp_path: Path) -> None:
    """Without `_processes`, loky would kill or join the worker of a kept job when its executor goes."""
    worker = WorkerProcess(tmp_path / "log")
    try:
        assert list(worker._loky._processes) == [worker.pid]
    finally:
        worker.orphan()
    assert not worker._loky._processes


def threads_wakeups(tmp_path: Path) -> None:
    """Without `_threads_wakeups`, the end of a forked child would take a lock that nobody gives back."""
    known: Any = process_executor._threads_wakeups
    before = set(known)  # holds them: the threads of other workers may end meanwhile
    worker = WorkerProcess(tmp_path / "log")
    try:
        assert set(known) - before
    finally:
        worker.orphan()


def register_atexit(tmp_path: Path) -> None:
    """Without `_register_atexit`, the end of a program would wait for kept jobs: `atexit` is too late."""
    code = "import threading, atexit; atexit.register(print, 2); threading._register_atexit(print, 1)"
    assert run_python("-c", code).stdout == "1\n2\n"


NEEDED: Final[dict[str, tuple[str, Callable[[Path], None]]]] = {
    "_Popen": ("start.py", popen),
    "_inheriting": ("start.py", inheriting),
    "_reader": ("start.py", reader),
    "_writer": ("start.py", writer),
    "_semlock": ("start.py", semlock),
    "_data": ("start.py", data),
    "_signal": ("start.py", raw_signal),
    "_processes": ("process.py", processes),
    "_threads_wakeups": ("process.py", threads_wakeups),
    "_register_atexit": ("process.py", register_atexit),
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_private_name_is_there_and_does_what_it_is_needed_for(name: str, tmp_path: Path):
    (tmp_path / "log").mkdir()
    NEEDED[name][1](tmp_path)


def test_no_other_private_name_is_used_and_none_elsewhere():
    found = {(path.name, name) for path in FOLDER.rglob("*.py") for name in private_names(path)}
    assert found == {(place, name) for name, (place, _) in NEEDED.items()}


def private_names(path: Path) -> set[str]:
    """Names with an underscore that a module uses, imports or overrides, and does not define itself."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    defined = {
        node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    defined |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store) and is_self(node.value)}
    used = {node.attr for node in attributes}
    used |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    used |= {str(node.value) for node in nodes if isinstance(node, ast.Constant) and node.value == "_signal"}
    used = {name for name in used if name.startswith("_") and not name.endswith("__")}
    return (used - defined - DOCUMENTED) | ({"_Popen", "_semlock"} & defined)


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def test_asyncio_has_what_its_documentation_says_for_makers_of_tasks():
    async def main() -> bool:
        task = asyncio.current_task()
        assert task is not None
        asyncio.tasks._unregister_task(task)
        return task in asyncio.all_tasks()

    assert asyncio.run(main()) is False


def test_the_worker_of_an_orphaned_process_leaves(tmp_path: Path):
    (tmp_path / "log").mkdir()
    worker = WorkerProcess(tmp_path / "log")
    worker.orphan()
    eventually(lambda: worker.exit_code(0.1) is not None)
    assert threading.main_thread().is_alive()
