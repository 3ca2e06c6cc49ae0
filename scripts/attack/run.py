"""One run: everybody acts, the killer kills, and then it is quiet."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from attack.clients import Client
from attack.ending import settle
from attack.evidence import Evidence, collect, processes_left
from attack.fleet import Programs, Slot
from attack.killer import Killer
from attack.machine import semaphores
from attack.parting import Parting
from attack.slumber import Slumber
from attack.sniper import Sniper
from attack.stage import Stage
from attack.watcher import Watcher
from attack.wire import ServerGone


async def attack(stage: Stage) -> Evidence:
    """Attack for the time of the stage; return what is left."""
    before = semaphores()
    bystander = await _bystander(stage)
    slots = [Slot(stage, number) for number in range(stage.servers)]
    async with asyncio.TaskGroup() as hosts:
        for slot in slots:
            hosts.create_task(slot.run())
        await _all_answer(slots)
        async with asyncio.TaskGroup() as guests:
            for actor in _guests(stage, slots):
                guests.create_task(actor)
            _say(f"attacking {stage.servers} servers for {stage.seconds:g} s ...")
            await asyncio.sleep(stage.seconds)
            stage.over.set()
            _say("waiting for the last answers ...")
        await Parting(stage, slots, "parting").run()
        stage.quiet.set()
        _say("waiting until the servers have left ...")
    evidence = Evidence()
    _say("bringing the jobs that are left to their end ...")
    await settle(stage, evidence)
    _say("looking at what is left ...")
    if bystander.returncode is None:
        bystander.kill()
    else:
        evidence.bystanders = [f"pid {bystander.pid}, a stranger, ended with {bystander.returncode}"]
    evidence.processes = await processes_left(stage.mark)
    for pid in stage.steps_died_at():
        stage.history.strike(pid)
    collect(stage, evidence, before)
    return evidence


async def _bystander(stage: Stage) -> asyncio.subprocess.Process:
    """Start a stranger, whose pid others had before: so say the records that `program.py` writes."""
    quiet = asyncio.subprocess.DEVNULL
    words = ("-c", "import time; time.sleep(86400)")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=quiet, env=stage.environment()
    )
    stage.bystanders.append(process.pid)
    return process


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _all_answer(slots: list[Slot]) -> None:
    """Wait until each server has answered, or was killed by itself: the time of the attack starts then."""
    for slot in slots:
        server = await slot.present()
        if server is not None:
            with suppress(ServerGone, TimeoutError):  # who dies early is judged where it ends
                await server.call("py_list_jobs")


def _guests(stage: Stage, slots: list[Slot]) -> list[Coroutine[Any, Any, None]]:
    """Return those who act and leave before the servers do."""
    clients = [Client(stage, slots, f"client-{number}").run() for number in range(stage.servers)]
    snipers = [Sniper(stage, slots, f"sniper-{number}").run() for number in range(2)]
    others = [Slumber(stage, slots, "slumber"), Watcher(stage), Killer(stage)]
    managers = [Programs(stage, number, "manager").run() for number in range(max(1, stage.servers // 2))]
    stores = [Programs(stage, number, "store").run() for number in range(2)]
    return [*clients, *snipers, *managers, *stores, *(other.run() for other in others)]
