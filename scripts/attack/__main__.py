"""`scripts/chaos`: attacks the product for a while, and checks the promises on what is left."""

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

if TYPE_CHECKING:
    from attack.stage import Stage

_NOTICE_S = 0.2
"""For asyncio to take note of the end of its child processes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack and judge.

    Returns:
        0 where all promises held, 1 where one was broken, 2 where it cannot run, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    if os.name != "posix":
        print("scripts/chaos needs SIGKILL and process groups: run it on Linux or macOS", file=sys.stderr)
        return 2
    from attack.eyes import Eyes
    from attack.machine import sweep
    from attack.stage import Stage

    folder = Path(options.home or tempfile.mkdtemp(prefix="chaos-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"{folder} is not empty; give --home a directory that is, or a new one", file=sys.stderr)
        return 2
    mark, eyes = uuid.uuid4().hex, Eyes(folder)
    stage = Stage(folder, mark, options.seed, options.seconds, options.servers, eyes)
    code = 1
    try:
        code = asyncio.run(_run(stage))
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = 130
        print("scripts/chaos: stopped", file=sys.stderr)
    finally:
        sweep(stage.mark)
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
    parser.add_argument("--seconds", type=_positive, default=60.0, help="how long to attack (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="what all chances come from (default: 1)")
    parser.add_argument("--servers", type=_count, default=4, help="how many servers at once (default: 4)")
    parser.add_argument(
        "--home", metavar="DIR", help="an empty directory for all files (default: a temporary one)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the files also where all promises held")
    return parser


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number of seconds")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, 1 or more")
    return int(text)


async def _run(stage: Stage) -> int:
    from attack.checks import breaches
    from attack.figures import table
    from attack.machine import sweep
    from attack.run import attack

    me = asyncio.current_task()
    assert me is not None  # noqa: S101  this is a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    try:
        evidence = await attack(stage)
    finally:
        await asyncio.to_thread(sweep, stage.mark)
        await asyncio.sleep(_NOTICE_S)
    found = breaches(stage.history, evidence)
    print(table(stage, evidence, found))
    for line in found:
        print(f"BREACH {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
