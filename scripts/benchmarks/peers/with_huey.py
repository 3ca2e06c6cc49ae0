"""A queue of huey in a SQLite file. As a program (`FILE WORKERS`) it runs the queue's worker processes."""

from __future__ import annotations

import sys
from typing import Any, Final

from huey import SqliteHuey  # pyright: ignore[reportMissingImports]  (as pebble)

from benchmarks.bodies import repeat

POLL_S: Final = 0.001


def queue_in(file: str) -> Any:
    """Return the task that returns its text, in the queue of this file."""
    return SqliteHuey("bench", filename=file).task()(repeat)


def main(file: str, workers: str) -> None:
    """Run the queue until SIGTERM."""
    asked = {"initial_delay": POLL_S, "max_delay": POLL_S, "backoff": 1.0, "periodic": False}
    queue_in(file).huey.create_consumer(workers=int(workers), worker_type="process", **asked).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
