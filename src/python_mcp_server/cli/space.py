"""What takes the space of a home, for `doctor`: its parts, the largest jobs, what each bound removes next.

A look takes a bounded time: where there are too many directories, a part of them stands for all.
"""

from __future__ import annotations

import heapq
import os
import random
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from python_mcp_server.cli.clean import disk_bytes
from python_mcp_server.cli.show import size
from python_mcp_server.items import INDEX, ITEMS
from python_mcp_server.jobs.keeping import Bounds, Keeper, Plan
from python_mcp_server.model import MB
from python_mcp_server.runner.disk import disk_bytes as blocks_bytes
from python_mcp_server.store.layout import is_job_id

if TYPE_CHECKING:
    from python_mcp_server.settings import Settings
    from python_mcp_server.store.contract import JobStore

LARGEST: Final = 10
_OUTPUT_S, _PART_S = 2.5, 0.7
_RECORDS_DEPTH: Final = 3
"""How deep below `jobs` the directories are that stand for each other: those of 17 minutes."""


@dataclass(slots=True)
class Space:
    """The disk space of a home.

    Attributes:
        parts: Mapping of a part to its bytes.
        largest: The largest jobs, `(bytes, id)`, in falling order.
        share: How much of the home was looked at, 1 for all; the rest is estimated.
        jobs_share: How much of the files of jobs was looked at.
    """

    parts: dict[str, int] = field(default_factory=dict[str, int])
    largest: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    share: float = 1.0
    jobs_share: float = 1.0

    @property
    def jobs_mb(self) -> float:
        """The space of the records and the files of all jobs."""
        return sum(self.parts[name] for name in ("records", "output", "items")) / MB


def survey(
    settings: Settings, files: Path, place: Path | None, clock: Callable[[], float] = time.monotonic
) -> Space:
    """Look at what takes the space of a home, for some seconds at the most.

    Args:
        settings: The settings.
        files: The home of the store of jobs.
        place: Its directory, or its database.
        clock: The clock, in seconds.
    """
    space, look, home = Space(), _Walk(clock), settings.home
    database = [] if place is None or place.is_dir() else [place]
    space.parts["records"] = look.measure([*database, *_units(files / "jobs", _RECORDS_DEPTH)], _PART_S)
    output, space.parts["items"], space.largest = look.jobs(_units(files / "output", 1))
    space.parts["output"] = output
    for name, path in (
        ("environments", home / "environments"),
        ("scripts", settings.scripts),
        ("logs", settings.logs),
    ):
        space.parts[name] = look.measure(_units(path, 1), _PART_S)
    space.share, space.jobs_share = look.share, look.jobs_share
    return space


class _Walk:
    """A look at directories, in an order of chance, until the time of each part is over."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.share = self.jobs_share = 1.0

    def measure(self, units: list[Path], most_s: float) -> int:
        """Return the bytes of directories and files, estimated where the time is over."""
        sizes = [disk_bytes([path]) for path in self._in_time(units, most_s)]
        return self._scaled(sum(sizes), len(sizes), len(units))

    def jobs(self, shards: list[Path]) -> tuple[int, int, list[tuple[int, str]]]:
        """Return the bytes of the output of all jobs, those of their items, and the largest jobs."""
        output = items = looked = 0
        largest: list[tuple[int, str]] = []
        for shard in self._in_time(shards, _OUTPUT_S):
            looked += 1
            for folder in _units(shard, 1):
                written, emitted = _folder_bytes(folder)
                output += written
                items += emitted
                if is_job_id(folder.name):
                    largest.append((written + emitted, folder.name))
            largest = heapq.nlargest(LARGEST, largest)
        self.jobs_share = looked / len(shards) if shards else 1.0
        scaled = [self._scaled(taken, looked, len(shards)) for taken in (output, items)]
        return scaled[0], scaled[1], largest

    def _in_time(self, units: list[Path], most_s: float) -> Iterator[Path]:
        random.Random(len(units)).shuffle(units)  # noqa: S311  so that a part stands for all
        end = self._clock() + most_s
        for number, path in enumerate(units):
            if number and self._clock() > end:
                return
            yield path

    def _scaled(self, taken: int, looked: int, there: int) -> int:
        if looked == there:
            return taken
        self.share = min(self.share, looked / there)
        return taken * there // looked


def _folder_bytes(folder: Path) -> tuple[int, int]:
    """Return the bytes of what is in a job's folder: without its items, and of these."""
    taken = [0, 0]
    with suppress(OSError):  # removed meanwhile, or of another account
        for entry in os.scandir(folder):
            status = entry.stat(follow_symlinks=False)
            is_directory = stat.S_ISDIR(status.st_mode)
            taken[entry.name in (ITEMS, INDEX)] += (
                disk_bytes([Path(entry.path)]) if is_directory else blocks_bytes(status)
            )
    return taken[0], taken[1]


def _units(directory: Path, depth: int) -> list[Path]:
    """Return what is in a directory, or so many levels below it."""
    found = [directory]
    for _ in range(depth):
        found = [below for path in found for below in _below(path)]
    return found


def _below(path: Path) -> list[Path]:
    with suppress(OSError):  # a file, removed meanwhile, or of another account
        return [Path(entry.path) for entry in os.scandir(path) if not entry.is_symlink()]
    return [path] if path.is_file() else []


def words(space: Space) -> str:
    """Return the parts in words, the largest first."""
    shown = sorted(space.parts.items(), key=lambda part: -part[1])
    text = ", ".join(f"{name} {size(taken)}" for name, taken in shown)
    return text if space.share == 1 else f"{text} (estimated from {space.share:.0%} of the directories)"


def largest_words(space: Space) -> str:
    """Return the largest jobs in words."""
    text = ", ".join(f"{job_id} {size(taken)}" for taken, job_id in space.largest)
    return text if space.jobs_share == 1 else f"{text} (among {space.jobs_share:.0%} of the jobs)"


def bounds(settings: Settings, store: JobStore, space: Space) -> Iterator[str]:
    """Yield what each bound of the home removes next, in words.

    Raises:
        StoreError: The store cannot be read.
    """
    for plan in Keeper(store, Bounds.of(settings)).plans(space.jobs_mb):
        yield f"{plan.text}; {_next(plan)}"


def _next(plan: Plan) -> str:
    if not plan.jobs:
        return "nothing goes now"
    first = plan.jobs[0]
    ended = first.completed_at or first.created_at
    return f"the next job to go is {first.id}, which ended {ended:%Y-%m-%d %H:%M} UTC"
