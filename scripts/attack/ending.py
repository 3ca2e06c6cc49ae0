"""The calm after the attack: one last server sees to it that every job comes to its end."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from attack.asking import command
from attack.evidence import Evidence, orphans
from attack.fleet import LEAVE_S, judge
from attack.history import TERMINAL, History
from attack.stage import Stage
from attack.wire import SERVE, Server, ServerGone

PATIENCE_S: Final = 8.0
"""How long jobs may take to end by themselves before they are cancelled; less after a short attack."""

_END_S: Final = 60.0
_EVERYTHING: Final = 100_000


async def settle(stage: Stage, evidence: Evidence) -> None:
    """List, wait, and cancel what lasts; return when no job is live, or with a breach noted."""
    listed, errors = await command(stage, "list", "--limit", str(_EVERYTHING))
    if listed is None:
        stage.history.gave_up(f"`jobs list` failed: {errors:.300}")
    evidence.orphans = orphans(stage.home)
    server = await Server.start(SERVE, stage.errors("last"), stage.environment())
    stage.history.pids.add(server.pid)
    try:
        await _bring_to_an_end(server, stage.history, min(PATIENCE_S, stage.seconds / 4))
    except (ServerGone, TimeoutError) as error:
        stage.history.gave_up(f"the last server did not answer: {type(error).__name__}")
    server.hang_up()
    ended = asyncio.create_task(server.ended())
    await asyncio.wait({ended}, timeout=LEAVE_S)
    judge(stage, "last", server.pid, ended.result() if ended.done() else None)


async def _bring_to_an_end(server: Server, history: History, patience_s: float) -> None:
    started = time.monotonic()
    while living := await _living(server, history):
        waited_s = time.monotonic() - started
        if waited_s > _END_S:
            for job in living:
                history.gave_up(f"job {job['id']} is {job['status']} still, {_END_S:g} s after the attack")
            return
        if waited_s > patience_s:
            await asyncio.gather(*(_cancel(server, history, job["id"]) for job in living[:8]))
        await asyncio.sleep(0.25)


async def _living(server: Server, history: History) -> list[dict[str, Any]]:
    asked_at = time.monotonic()
    answer = await server.call("py_list_jobs", limit=_EVERYTHING)
    jobs = answer["result"]["structuredContent"]["jobs"]
    for job in jobs:
        history.saw(job, asked_at, "last")
    return [job for job in jobs if job["status"] not in TERMINAL]


async def _cancel(server: Server, history: History, job_id: str) -> None:
    history.cancelling(job_id)
    answer = await server.call("py_cancel_job", job_id=job_id)
    result = answer.get("result", {})
    if result.get("isError", True):
        history.gave_up(f"job {job_id} cannot be cancelled in the end: {answer}"[:500])
    elif result["structuredContent"]["status"] == "cancelled":
        history.cancelled(job_id, "last")
