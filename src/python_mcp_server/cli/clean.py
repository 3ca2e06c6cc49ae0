"""`clean`: shows what lies in the home, and removes what nothing needs any more.

Jobs stay, because only their user knows which results are still wanted: `jobs prune` removes those.
"""

from __future__ import annotations

import math
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from python_mcp_server.cli.options import Number, json_and_home, print_json, tell_missing_store
from python_mcp_server.model import MB
from python_mcp_server.settings import Settings
from python_mcp_server.store.opening import FILE, StorePlace

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3_600.0
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the home.

    Attributes:
        name: What it is.
        path: Where it lies.
        removable: The files and directories in it that nothing needs any more.
        reason: Why nothing needs these.
        remove: Removes those of the removable ones that still may go: the user thinks about the question for
            any time.
    """

    name: str
    path: Path
    removable: list[Path]
    reason: str
    remove: Callable[[], object]


@click.command()
@click.option("--older-than", "days", type=Number("days", 0), default=30.0, show_default=True,
              metavar="DAYS", help="Only what was not used for so long.")  # fmt: skip
@click.option("--environments-mb", type=Number("MB", 0), metavar="MB",
              help="Also the environments used longest ago, until the rest takes no more.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_and_home
def clean(days: float, environments_mb: float | None, *, yes: bool, as_json: bool) -> None:
    """Show what the home holds, and remove what nothing needs.

    Environments that were not used for some time are made again when they are needed; one that was used in
    the last minute stays. Jobs and saved scripts stay. Without --yes it asks first, and in a pipe it removes
    nothing.
    """
    settings = Settings.from_environ()
    tell_missing_store(StorePlace(FILE, settings.home))
    parts = home_parts(settings, days * _DAY_S, environments_mb)
    sizes = [(disk_bytes([part.path]), disk_bytes(part.removable, freed=True)) for part in parts]
    found = any(part.removable for part in parts)
    if not as_json:
        _show(parts, sizes)
    removes = found and (yes or (not as_json and _agreed()))
    freed = sum(freed for _, freed in sizes)
    if removes:
        for part in parts:
            part.remove()
        freed -= sum(disk_bytes(part.removable, freed=True) for part in parts)
    if as_json:
        print_json({"removed": removes, "parts": [_facts(*row) for row in zip(parts, sizes, strict=True)]})
    else:
        click.echo(_outcome(freed, found=found, removed=removes))


def home_parts(settings: Settings, older_than_s: float, environments_mb: float | None = None) -> list[Part]:
    """Return the parts of a home, with what was not used for so many seconds, and the environments beyond a
    size that were used longest ago.
    """
    from python_mcp_server.runner.python.unused import ages, remove_unused, unused
    from python_mcp_server.tools.saved import histories_without_script, remove_history

    home = settings.home
    unused_s = older_than_s
    if environments_mb is not None:
        unused_s = min(older_than_s, _age_beyond(ages(home), environments_mb * MB))
    stale = unused(home, unused_s)
    logs = list(_old(settings.logs.glob("server.log.*"), older_than_s))
    histories = list(_old(histories_without_script(settings.scripts), older_than_s))
    damaged = list(_old((home / "jobs" / "damaged").glob("*"), older_than_s))
    return [
        Part("environments", home / "environments", stale, _unused_words(unused_s),
             lambda: remove_unused(home, unused_s)),
        Part("records", home / "jobs", damaged, "damaged", lambda: _remove(damaged, older_than_s)),
        Part("output of jobs", home / "output", [], "", lambda: None),
        Part("saved scripts", settings.scripts, histories, "versions without a script",
             lambda: _remove(histories, older_than_s, remove_history)),
        Part("logs", settings.logs, logs, "rotated away", lambda: _remove(logs, older_than_s)),
    ]  # fmt: skip


def _unused_words(seconds: float) -> str:
    if seconds < _MINUTE_S:  # one that was used in the last minute stays
        return "not in use"
    if seconds < _DAY_S:
        return f"not used for {seconds / _HOUR_S:.3g} hours"
    return f"not used for {seconds / _DAY_S:.3g} days"


def _age_beyond(ages: Iterable[tuple[float, Path]], most_bytes: float) -> float:
    """Return the age of the youngest environment with which it and the younger ones take more than this;
    infinity where all together take no more.
    """
    taken = 0
    for age_s, path in sorted(ages):
        taken += disk_bytes([path])
        if taken > most_bytes:
            return age_s
    return math.inf


def disk_bytes(paths: Iterable[Path], *, freed: bool = False) -> int:
    """Return the bytes that files, and directories with all in them, take on the disk.

    Args:
        paths: The files and directories; those that are missing take nothing.
        freed: Whether to leave out files that have further names elsewhere: uv links those of environments to
            its cache, where they stay.
    """
    from python_mcp_server.runner.disk import disk_bytes as blocks_bytes

    found: dict[tuple[int, int], os.stat_result] = {}
    names: Counter[tuple[int, int]] = Counter()
    for status in (status for path in paths for status in _statuses(path)):
        key = status.st_dev, status.st_ino
        found[key] = status
        names[key] += 1
    return sum(
        blocks_bytes(status)
        for key, status in found.items()
        if not freed or stat.S_ISDIR(status.st_mode) or names[key] >= status.st_nlink
    )


def _statuses(path: Path) -> Iterator[os.stat_result]:
    """Yield the status of a file, or of a directory and all in it; links are not followed."""
    places = [str(path)]
    while places:
        place = places.pop()
        with suppress(OSError):  # it goes while it is looked at, or belongs to another account
            status = os.lstat(place)
            yield status
            if stat.S_ISDIR(status.st_mode):
                places.extend(entry.path for entry in os.scandir(place))


def _old(paths: Iterable[Path], older_than_s: float) -> Iterator[Path]:
    for path in paths:
        with suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime >= older_than_s:
                yield path


def _remove(
    paths: Iterable[Path], older_than_s: float, remove: Callable[[Path], object] | None = None
) -> None:
    """Remove those that are still so old: a log may have been rotated meanwhile."""
    from python_mcp_server.atomic import remove_tree, translate_os_errors

    for path in _old(paths, older_than_s):
        with translate_os_errors(str(path.parent), f"remove {path.name}"):
            remove_tree(str(path)) if remove is None else remove(path)


def _show(parts: list[Part], sizes: list[tuple[int, int]]) -> None:
    from python_mcp_server.cli.show import size

    width = max(len(part.name) for part in parts)
    for part, (total, freed) in zip(parts, sizes, strict=True):
        words = f"  {len(part.removable)} {part.reason}: {size(freed)}" if part.removable else ""
        click.echo(f"{part.name:{width}}  {size(total):>11}{words}")
    click.echo("'python-mcp-server jobs prune' removes old jobs and their output.")


def _agreed() -> bool:
    return sys.stdin.isatty() and click.confirm("Remove what nothing needs?")


def _outcome(freed: int, *, found: bool, removed: bool) -> str:
    from python_mcp_server.cli.show import size

    if not found:
        return "Nothing needs to be removed."
    return f"{size(freed)} freed." if removed else "Nothing was removed; --yes removes it."


def _facts(part: Part, sizes: tuple[int, int]) -> dict[str, object]:
    total, freed = sizes
    return {
        "name": part.name,
        "path": str(part.path),
        "bytes": total,
        "frees_bytes": freed,
        "removable": [str(path) for path in part.removable],
    }
