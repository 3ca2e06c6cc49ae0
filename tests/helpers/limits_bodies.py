"""Bodies that exceed their limits, and a server that starts one and is then killed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from python_mcp_server.context import current_job
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.jobs.request import Request
from python_mcp_server.limits import Limits
from tests.helpers import bodies
from tests.helpers.sessions import session_nice
from tests.helpers.waiting import eventually

STEP_BYTES = 20_000_000


def grow(gate: str = "", steps: int = 30) -> int:
    """Print that it runs, and allocate memory step by step. With a `gate` wait for that file before, and keep
    the memory until killed.
    """
    print("begun", flush=True)
    if gate:
        eventually(Path(gate).exists, deadline_s=bodies.LIFETIME_S)
    blocks = [bytearray(STEP_BYTES) for _ in range(steps)]
    if gate:
        time.sleep(bodies.LIFETIME_S)
    return sum(map(len, blocks))


def grow_deaf() -> int:
    """Allocate memory in one loop of C code, during which no other thread of the process runs."""
    return len(list(range(40_000_000)))


def jump() -> int:
    """Allocate far more memory at once than the machine has."""
    return len(bytearray(5_000_000_000))


def grow_unmapped() -> int:
    """Write into memory that belongs to no process."""
    file = os.memfd_create("held")
    return sum(os.write(file, bytes(STEP_BYTES)) for _ in range(30))


def share_memory(blocks: int) -> None:
    """Share one block of memory with three children, which read all of it and wait for each other."""
    from multiprocessing import get_context, shared_memory

    shared = shared_memory.SharedMemory(create=True, size=blocks * STEP_BYTES)
    try:
        assert shared.buf is not None
        shared.buf[:] = bytes(shared.size)
        context = get_context("fork")
        barrier = context.Barrier(3)
        children = [context.Process(target=_read_shared, args=(shared.name, barrier)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0, 0]
    finally:
        shared.close()
        shared.unlink()


def _read_shared(name: str, barrier: Any) -> None:
    from multiprocessing import shared_memory

    shared = shared_memory.SharedMemory(name=name)
    assert shared.buf is not None
    assert sum(shared.buf[::4096]) == 0
    barrier.wait()
    time.sleep(0.5)  # for some looks
    shared.close()


def grow_in_children() -> int:
    """Allocate memory in several child processes, each of them small."""
    import subprocess

    code = f"block = bytearray({STEP_BYTES}); print(len(block), flush=True); import time; time.sleep(60)"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(8)]
    return sum(child.wait() for child in children)


def burn(gate: str = "") -> None:
    """Print that it runs, wait for the file `gate`, and use a whole core until killed."""
    print("begun", flush=True)
    if gate:
        eventually(Path(gate).exists, deadline_s=bodies.LIFETIME_S)
    until = time.monotonic() + bodies.LIFETIME_S
    while time.monotonic() < until:
        pass


def flood(gate: str = "") -> None:
    """Print that it runs, wait for the file `gate`, and print until killed."""
    print("begun", flush=True)
    if gate:
        eventually(Path(gate).exists, deadline_s=bodies.LIFETIME_S)
    until = time.monotonic() + bodies.LIFETIME_S
    while time.monotonic() < until:
        print("x" * 1000)


def flood_by_child() -> None:
    """Start a program that writes to this process's stdout until killed."""
    import subprocess

    subprocess.run(("yes", "x" * 1000), check=True)


def fill_folder() -> None:
    """Write file after file into the job's own folder until killed."""
    job = current_job()
    assert job is not None
    job.folder.mkdir(parents=True, exist_ok=True)
    for number in range(STEP_BYTES):
        (job.folder / f"{number}").write_bytes(bytes(1_000_000))


def keep_bytes(count: int, begin: str, end: str) -> None:
    """Write so many bytes into the job's folder once the first file exists, and wait for the second."""
    job = current_job()
    assert job is not None
    eventually(Path(begin).exists, deadline_s=bodies.LIFETIME_S)
    (Path(job.folder) / "kept").write_bytes(b"x" * count)
    eventually(Path(end).exists, deadline_s=bodies.LIFETIME_S)


def print_bytes(count: int) -> None:
    """Print so many bytes."""
    print("x" * count)


def print_slowly(megabytes: int) -> None:
    """Print so much, in pieces that let others look in between."""
    for _ in range(megabytes):
        print("x" * 999_999)
        time.sleep(0.002)


def doze(notes: str) -> None:
    """Sleep; note whether it could clean up."""
    try:
        time.sleep(bodies.LIFETIME_S)
    finally:
        bodies.note(notes, "cleaned up")


async def doze_async() -> None:
    """Wait on the loop."""
    await asyncio.sleep(bodies.LIFETIME_S)


def whereabouts() -> dict[str, Any]:
    """Return the priority, cores and limits of the worker."""
    import resource

    return {
        "pid": os.getpid(),
        "cpus": len(os.sched_getaffinity(0)),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "session_nice": session_nice(),
        "threads": os.environ["OMP_NUM_THREADS"],
        "data": resource.getrlimit(resource.RLIMIT_DATA)[0],
    }


def serve(name: str, limits: str, *args: str) -> None:
    """Start one body in the background, print its id as `survival.serve` does, and wait to be killed."""
    asyncio.run(_serve(name, Limits(**json.loads(limits)), args))


async def _serve(name: str, limits: Limits, args: tuple[str, ...]) -> None:
    job = await JobManager().submit_request(Request(globals()[name], args, limits=limits))
    print(json.dumps({"ids": [job.id], "idle": 0}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
