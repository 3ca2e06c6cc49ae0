"""Removes environments that nothing has used for long. The time of an environment's directory is that of
its last use.

`python-mcp-server clean` shows and removes them; after the script of a call that made a new environment, a
thread removes those that were not used for `UNUSED_S`, so that a home does not grow with every set of
packages that was ever asked for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from python_mcp_server.atomic import remove_tree

UNUSED_S: Final = 30 * 86_400.0
"""Guessed: a monthly report keeps its environment."""

_log: Final = logging.getLogger(__name__)
_LEAST_S: Final = 60.0
"""Guessed: within that time a call that has found its environment has also started a process in it."""
_LEAVING: Final = ".unused"
"""The end of the name of an environment that is being removed; a killed process may leave one."""


def mark_used(venv: Path) -> None:
    """Set the time of the last use to now; an environment that does not exist is no error."""
    try:
        os.utime(venv)
    except FileNotFoundError:
        return
    except OSError as error:  # on a disk that may only be read, nothing is removed either
        _log.debug("The use of %s is not noted: %s", venv, error)


def unused(home: Path, older_than_s: float) -> list[Path]:
    """Return the environments of a home that were not used for so many seconds, but for a minute at least,
    and where no process runs.
    """
    older_than_s = max(older_than_s, _LEAST_S)
    found = [path for path in _environments(home) if _is_old(path, older_than_s)]
    running = _running(home / "environments") if found else set[str]()
    return sorted(path for path in found if path.name not in running)


def ages(home: Path) -> Iterator[tuple[float, Path]]:
    """Yield each environment of a home, after the seconds since its last use."""
    for path in _environments(home):
        with suppress(FileNotFoundError):  # removed meanwhile
            yield time.time() - path.stat().st_mtime, path


def remove_unused(home: Path, older_than_s: float) -> list[Path]:
    """Remove what `unused` returns, but for those that are used meanwhile; return those that are gone."""
    older_than_s = max(older_than_s, _LEAST_S)
    return [path for path in unused(home, older_than_s) if _removed(path, older_than_s)]


def remove_unused_aside(home: Path) -> None:
    """Remove in a thread what was not used for `UNUSED_S`. No call waits for that; where the process ends
    first, a later call removes the rest.
    """

    def remove() -> None:
        try:
            remove_unused(home, UNUSED_S)
        except OSError as error:
            _log.debug("The unused environments of %s stay: %s", home, error)

    try:
        threading.Thread(target=remove, name="unused environments", daemon=True).start()
    except RuntimeError as error:
        _log.debug("The unused environments of %s stay, because no thread can be started: %s", home, error)


def _environments(home: Path) -> Iterator[Path]:
    try:
        entries = [
            entry for entry in os.scandir(home / "environments") if entry.is_dir(follow_symlinks=False)
        ]
    except FileNotFoundError:
        return
    yield from (Path(entry.path) for entry in entries)


def _is_old(path: Path, older_than_s: float) -> bool:
    try:
        return path.suffix == _LEAVING or time.time() - path.stat().st_mtime >= older_than_s
    except FileNotFoundError:
        return False


def _running(folder: Path) -> set[str]:
    """Return the names of the environments whose interpreter runs a process of this account."""
    import psutil  # takes 20 ms, and seldom is anything old

    names: set[str] = set()
    real = Path(os.path.realpath(folder))
    for process in psutil.process_iter(["cmdline"]):
        for word in (process.info["cmdline"] or ())[:1]:
            if folder.name in Path(word).parts:
                place = Path(os.path.realpath(os.path.dirname(word)))  # the interpreter itself is a link
                if real in place.parents:
                    names.add(place.relative_to(real).parts[0])
    return names


def _removed(path: Path, older_than_s: float) -> bool:
    from filelock import FileLock, Timeout

    venv = path.with_suffix("")
    try:
        with FileLock(f"{venv}.lock", timeout=0, mode=0o600):
            return _remove(venv, path, older_than_s)
    except (Timeout, OSError) as error:
        _log.warning("The environment %s stays, although nothing has used it for long: %s", path, error)
        return False


def _remove(venv: Path, path: Path, older_than_s: float) -> bool:
    leaving = venv.with_suffix(_LEAVING)
    if path == venv:
        remove_tree(str(leaving))
        venv.rename(leaving)  # first, because a call that finds it from now on makes it anew
        if time.time() - leaving.stat().st_mtime < older_than_s:  # a call found it a moment before
            leaving.rename(venv)
            return False
    remove_tree(str(leaving))
    return True
