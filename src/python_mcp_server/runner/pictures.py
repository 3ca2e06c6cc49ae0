"""Pictures of a script: figures that it shows, by a backend of matplotlib that we name, and files it saves.

A script that does not import matplotlib pays one more directory in its path.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BACKEND: Final = "module://python_mcp_pictures"
_BACKEND_FOLDER: Final = Path(__file__).with_name("matplotlib_backend")
_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
_DEPTH: Final = 2
"""Levels of directories below the working directory that are looked into."""
_MOST_ENTRIES: Final = 5_000
_LOOK_S: Final = 1.0
"""How long it may go on below the working directory itself: disks may be slow, and machines busy."""
_PASSED_OVER: Final = frozenset({"node_modules", "site-packages", "venv"})
_COARSE_NS: Final = 2_000_000_000
"""Some file systems keep whole seconds, or every other."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file with a picture.

    Attributes:
        path: Where it lies.
        mime_type: What it is, by its first bytes.
        size_bytes: How large it is.
        preview: A smaller copy, where there is one.
    """

    path: Path
    mime_type: str
    size_bytes: int
    preview: Path | None = None


def with_backend(
    env: Mapping[str, str], given: Mapping[str, str], folder: Path, working_directory: Path
) -> dict[str, str]:
    """Return a child's environment in which matplotlib saves the figures that are shown into `folder`.

    A backend that the caller chose stays.

    Args:
        env: The environment.
        given: What the caller set.
        folder: Where figures go; made by the first.
        working_directory: Where pictures that the script saves itself are looked for.
    """
    if "MPLBACKEND" in given:
        return dict(env)
    path = env.get("PYTHONPATH")
    return {
        **env,
        "MPLBACKEND": _BACKEND,
        "PYTHONPATH": f"{path}{os.pathsep}{_BACKEND_FOLDER}" if path else str(_BACKEND_FOLDER),
        "PYTHON_MCP_FIGURES": str(folder),
        "PYTHON_MCP_FIGURES_FROM": str(working_directory),
    }


def shown_in(folder: Path) -> list[Picture]:
    """Return the figures that the backend saved, in the order in which they were shown."""
    paths = sorted(folder.glob("figure-*[0-9].png"), key=lambda path: int(path.stem.rpartition("-")[2]))
    pictures: list[Picture] = []
    for path in paths:
        small = path.with_name(f"{path.stem}-small.png")
        if (picture := _picture(path, small if small.exists() else None)) is not None:
            pictures.append(picture)
    return pictures


def saved_in(directory: Path, since_ns: int) -> list[Picture]:
    """Return the pictures that were written since then in a directory and below, oldest first.

    The look is bounded in depth, in entries and in time; hidden directories are passed over.
    """
    since: list[tuple[int, Path]] = []
    for entry in _entries(directory):
        if entry.name.lower().endswith(_SUFFIXES):
            try:
                written_ns = entry.stat(follow_symlinks=False).st_mtime_ns
            except FileNotFoundError:
                continue
            coarse = written_ns % 1_000_000_000 == 0
            if written_ns + (_COARSE_NS if coarse else 0) >= since_ns:
                since.append((written_ns, Path(entry.path)))
    return [picture for _, path in sorted(since) if (picture := _picture(path)) is not None]


def _entries(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the files of a directory, level by level, as long as the look may last."""
    until, left = time.monotonic() + _LOOK_S, _MOST_ENTRIES
    level = [str(directory)]
    for depth in range(_DEPTH + 1):
        below: list[str] = []
        for folder in level:
            if depth and time.monotonic() > until:
                return
            for entry in _listed(folder):
                left -= 1
                if left < 0:
                    return
                if entry.is_file(follow_symlinks=False):
                    yield entry
                elif depth < _DEPTH and _is_looked_into(entry):
                    below.append(entry.path)
        level = below


def _listed(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return  # gone, or not ours to read: nothing of the script's lies there


def _is_looked_into(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith((".", "__")) or entry.name in _PASSED_OVER:
        return False
    return entry.is_dir(follow_symlinks=False) and not os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))


def _picture(path: Path, preview: Path | None = None) -> Picture | None:
    """Return what a file is, or None where it is no picture, or gone."""
    try:
        with path.open("rb") as file:
            kind = kind_of(file.read(512))
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return None
    return None if kind is None else Picture(path, kind, size, preview)


def kind_of(head: bytes) -> str | None:
    """Return the MIME type of a picture that begins with these bytes; None where it is none."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return "image/svg+xml" if b"<svg" in head else None
