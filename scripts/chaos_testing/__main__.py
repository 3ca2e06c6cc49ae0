"""`scripts/chaos`: kills servers, workers and scripts for a while, then checks the promises."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import redis_process
from argument_types import count_from, positive

if TYPE_CHECKING:
    from chaos_testing.environment import Environment

_NOTICE_S = 0.2
"""Time for asyncio to notice the end of its child processes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment and print its report.

    Returns:
        0 if all promises held, 1 if one was broken, 2 if it cannot run, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    if os.name != "posix":
        print("scripts/chaos needs SIGKILL and process groups: run it on Linux or macOS", file=sys.stderr)
        return 2
    from chaos_testing.environment import Environment
    from chaos_testing.observer import StoreObserver
    from chaos_testing.process_table import kill_marked
    from python_mcp_server.store.opening import StorePlace, parse_place

    if options.store == "redis" and redis_process.PROGRAM is None:
        print(f"scripts/chaos --store redis needs a server: {redis_process.MISSING}", file=sys.stderr)
        return 2
    folder = Path(options.home or tempfile.mkdtemp(prefix="chaos-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"{folder} is not empty; give --home a directory that is, or a new one", file=sys.stderr)
        return 2
    mark, home = uuid.uuid4().hex, folder / "home"
    place = StorePlace(options.store, home / "jobs.db" if options.store == "sqlite" else home)
    server = redis_process.RedisProcess(appendonly="yes") if options.store == "redis" else None
    if server is not None:
        server.start()
        place = parse_place(server.url(), "the store", home)
    observer = StoreObserver(folder, place)
    environment = Environment(folder, mark, options.seed, options.seconds, options.servers, observer, place)
    code = 1
    try:
        code = asyncio.run(_run(environment, hostile=options.hostile))
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = 130
        print("scripts/chaos: stopped", file=sys.stderr)
    finally:
        kill_marked(environment.mark)
        if server is not None:
            server.__exit__()
        if code in (0, 130) and not options.keep:
            shutil.rmtree(folder)
        else:
            print(f"everything of this run is in {folder}")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Runs several servers, clients and library processes over one home, kills them, their\n"
        "workers and their scripts at random instants and at random steps of the store, and then checks\n"
        "the promises of docs/reliability.md on what is left. Prints its figures; a breach is a line,\n"
        "and makes it exit with 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=positive, default=60.0, help="how long to run (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of all random choices (default: 1)")
    parser.add_argument(
        "--servers", type=count_from(1), default=4, help="how many servers run at once (default: 4)"
    )
    parser.add_argument(
        "--store",
        choices=("file", "sqlite", "redis"),
        default="file",
        help="which store they share (default: file); redis: on a server of its own",
    )
    parser.add_argument(
        "--home", metavar="DIR", help="an empty directory for all files (default: a temporary one)"
    )
    parser.add_argument(
        "--hostile",
        action="store_true",
        help="kill nothing: attack two servers over HTTP, by strangers, by a client of another principal\n"
        "and by odd files, beside a client that works in peace",
    )
    parser.add_argument("--keep", action="store_true", help="keep the files even if all promises held")
    return parser


async def _run(environment: Environment, *, hostile: bool) -> int:
    from chaos_testing.process_table import kill_marked

    me = asyncio.current_task()
    assert me is not None  # noqa: S101  this is a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    try:
        table, found = await (_hostile(environment) if hostile else _kills(environment))
    finally:
        await asyncio.to_thread(kill_marked, environment.mark)
        await asyncio.sleep(_NOTICE_S)
    print(table)
    for line in found:
        print(f"BREACH {line}")
    return 1 if found else 0


async def _kills(environment: Environment) -> tuple[str, list[str]]:
    from chaos_testing.experiment import run_experiment
    from chaos_testing.promises import breaches
    from chaos_testing.report import table

    final_state = await run_experiment(environment)
    found = breaches(environment.history, final_state)
    return table(environment, final_state, found), found


async def _hostile(environment: Environment) -> tuple[str, list[str]]:
    from chaos_testing.hostile.experiment import run_hostile

    findings = await run_hostile(environment)
    return findings.table(), findings.breaches


if __name__ == "__main__":
    sys.exit(main())
