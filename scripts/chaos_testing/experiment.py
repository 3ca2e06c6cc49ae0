"""One run: start the servers, run all actors beside them, end everything, and read what is left."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from chaos_testing.clients import Client
from chaos_testing.drain import drain_jobs
from chaos_testing.environment import Environment
from chaos_testing.final_state import FinalState, collect, processes_left
from chaos_testing.monitor import RecordMonitor
from chaos_testing.process_table import semaphores
from chaos_testing.queue_rules import QueuePauser
from chaos_testing.random_kill import RandomKiller
from chaos_testing.shutdown import Shutdown
from chaos_testing.stdio_server import ServerGone
from chaos_testing.supervisors import ProgramSlot, ServerSlot
from chaos_testing.suspend import Suspender
from chaos_testing.targeted_cancel import TargetedCanceller


async def run_experiment(environment: Environment) -> FinalState:
    """Run for the time of the environment; return what is left."""
    before = semaphores()
    await QueuePauser(environment).prepare()
    bystander = await _bystander(environment)
    slots = [ServerSlot(environment, number) for number in range(environment.servers)]
    async with asyncio.TaskGroup() as servers:
        for slot in slots:
            servers.create_task(slot.run())
        await _all_answer(slots)
        async with asyncio.TaskGroup() as actors:
            for actor in _actors(environment, slots):
                actors.create_task(actor)
            _log(f"testing {environment.servers} servers for {environment.seconds:g} s ...")
            await asyncio.sleep(environment.seconds)
            environment.finished.set()
            _log("waiting for the last answers ...")
        await Shutdown(environment, slots, "shutdown").run()
        environment.clients_done.set()
        _log("waiting until the servers have left ...")
    final_state = FinalState()
    _log("waiting until the remaining jobs have ended ...")
    await drain_jobs(environment, final_state)
    _log("checking what is left ...")
    if bystander.returncode is None:
        bystander.kill()
    else:
        final_state.bystanders = [
            f"pid {bystander.pid}, which is unrelated, ended with {bystander.returncode}"
        ]
    final_state.processes = await processes_left(environment.mark)
    for pid in environment.crashes_by_pid():
        environment.history.note_kill(pid)
    collect(environment, final_state, before)
    return final_state


async def _bystander(environment: Environment) -> asyncio.subprocess.Process:
    """Start an unrelated process. Records that `cancel_race` writes claim that their worker had its pid."""
    words = ("-c", "import time; time.sleep(86400)")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=asyncio.subprocess.DEVNULL, env=environment.variables()
    )
    environment.bystanders.append(process.pid)
    return process


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def _all_answer(slots: list[ServerSlot]) -> None:
    """Wait until each server has answered or crashed: the time of the run starts then."""
    for slot in slots:
        server = await slot.wait_for_server()
        if server is not None:
            with suppress(ServerGone, TimeoutError):  # `check_exit` judges a server that ends early
                await server.call("py_list_jobs")


def _actors(environment: Environment, slots: list[ServerSlot]) -> list[Coroutine[Any, Any, None]]:
    """Return all that acts on the servers and ends before they do."""
    clients = [Client(environment, slots, f"client-{number}").run() for number in range(environment.servers)]
    cancellers = [TargetedCanceller(environment, slots, f"canceller-{number}").run() for number in range(2)]
    pauser = QueuePauser(environment)
    others = [
        Suspender(environment, slots, "suspender"),
        RecordMonitor(environment),
        RandomKiller(environment),
        pauser,
    ]
    managers = [
        ProgramSlot(environment, number, "manager").run()
        for number in range(max(1, environment.servers // 2))
    ]
    queues = [ProgramSlot(environment, number, "queue").run() for number in range(2)]
    stores = [ProgramSlot(environment, number, "store").run() for number in range(2)]
    return [*clients, *cancellers, *managers, *queues, *stores, *(other.run() for other in others)]
