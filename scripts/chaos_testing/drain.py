"""After the run, one more server waits until every job has ended."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from chaos_testing.actor import run_cli
from chaos_testing.environment import Environment
from chaos_testing.final_state import FinalState, index_differences, orphans
from chaos_testing.history import TERMINAL, History
from chaos_testing.stdio_server import SERVE, Server, ServerGone
from chaos_testing.supervisors import LEAVE_S, check_exit, start_program

_PATIENCE_S: Final = 8.0
"""How long jobs may take to end by themselves before they are cancelled; less after a short run."""

_END_S: Final = 60.0
_EVERYTHING: Final = 100_000
_MOST_LISTED: Final = 1_000
"""Of an answer of the server."""
_LIVING: Final = ("pending", "running", "input_required")


async def drain_jobs(environment: Environment, final_state: FinalState) -> None:
    """List, wait, and cancel long jobs; return when no job is live, or with a breach noted."""
    listed, errors = await run_cli(environment, "list", "--limit", str(_EVERYTHING))
    if listed is None:
        environment.history.add_breach(f"`jobs list` failed: {errors:.300}")
    final_state.orphans = orphans(environment.place)
    final_state.index += index_differences(environment.observer.store)
    server = await Server.start(SERVE, environment.errors("last"), environment.variables())
    environment.history.pids.add(server.pid)
    program = await start_program(environment, "drain", ("drain", 0, environment.starts, 0))
    try:
        await _wait_or_cancel(server, environment.history, min(_PATIENCE_S, environment.seconds / 4))
    except (ServerGone, TimeoutError) as error:
        environment.history.add_breach(f"the last server did not answer: {type(error).__name__}")
    if program.stdin is not None:
        program.stdin.close()
    server.close_stdin()
    ended = asyncio.create_task(server.ended())
    await asyncio.wait({ended}, timeout=LEAVE_S)
    check_exit(environment, "last", server.pid, ended.result() if ended.done() else None)
    environment.history.pids.add(program.pid)
    waiting = asyncio.create_task(program.wait())
    await asyncio.wait({waiting}, timeout=LEAVE_S)
    check_exit(environment, "drain", program.pid, waiting.result() if waiting.done() else None)


async def _wait_or_cancel(server: Server, history: History, patience_s: float) -> None:
    started = time.monotonic()
    while living := await _living(server, history):
        waited_s = time.monotonic() - started
        if waited_s > _END_S:
            for job in living:
                history.add_breach(f"job {job['id']} is still {job['status']} {_END_S:g} s after the run")
            return
        if waited_s > patience_s:
            stuck = [job for job in living if not _ends_by_itself(job)]
            await asyncio.gather(*(_cancel(server, history, job["id"]) for job in stuck[:8]))
        await asyncio.sleep(0.25)


def _ends_by_itself(job: dict[str, Any]) -> bool:
    """Whether this is a queued job that needs nothing but a server."""
    return job["label"].startswith("q-") and not job["label"].startswith("q-far ")


async def _living(server: Server, history: History) -> list[dict[str, Any]]:
    asked_at = time.monotonic()
    jobs: dict[str, dict[str, Any]] = {}
    for status in (None, *_LIVING):
        answer = await server.call("py_list_jobs", limit=_MOST_LISTED, status_filter=status)
        jobs |= {job["id"]: job for job in answer["result"]["structuredContent"]["jobs"]}
    for job in jobs.values():
        history.saw(job, asked_at, "last")
    return [job for job in jobs.values() if job["status"] not in TERMINAL]


async def _cancel(server: Server, history: History, job_id: str) -> None:
    history.cancelling(job_id)
    answer = await server.call("py_cancel_job", job_id=job_id)
    result = answer.get("result", {})
    if result.get("isError", True):
        history.add_breach(f"job {job_id} cannot be cancelled in the end: {answer}"[:500])
    elif result["structuredContent"]["status"] == "cancelled":
        history.cancelled(job_id, "last")
