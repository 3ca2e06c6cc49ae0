"""What the control groups of a container allow this process, where there are any (Linux)."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from python_mcp_server.processes.identity import LINUX

_ROOT: Final = Path("/sys/fs/cgroup")
_UNLIMITED: Final = 1 << 60
"""Version 1 writes a huge number where there is no limit."""


def folder_of(controller: str, root: Path = _ROOT, listing: Path = Path("/proc/self/cgroup")) -> Path | None:
    """Return where the files of a controller lie for this process: its own group's, or in a container
    the root of what can be seen. None where there is none."""
    if not LINUX:
        return None
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        number, names, path = line.split(":", 2)
        unified = number == "0"
        if not unified and controller not in names.split(","):
            continue
        base = root if unified else root / controller
        marker = "cgroup.controllers" if unified else "tasks"
        inside = base.joinpath(*PurePosixPath(path).parts[1:])
        found = next((folder for folder in (inside, base) if (folder / marker).is_file()), None)
        if found is not None:
            return found
    return None


def number_in(folder: Path, name: str) -> int | None:
    """Return the number in a file of a group; None where there is no such file, or no limit."""
    try:
        word = (folder / name).read_text(encoding="ascii").split()[0]
        number = int(word)
    except (OSError, ValueError, IndexError):
        return None
    return number if number < _UNLIMITED else None


def entry_in(folder: Path, name: str, key: str) -> int | None:
    """Return the number behind a key in a file of `key number` lines; None where there is none."""
    try:
        lines = (folder / name).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key} ")), None)
