"""Pictures of a script: figures that it shows, by a backend of matplotlib that we name, and files it saves.

A script that does not import matplotlib pays one more directory in its path. Images are checked without
Pillow: its `verify` checks less for JPEG and GIF, and it would bring decoders into a worker that reads
files of any origin.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from python_mcp_server.regular import open_regular

_BACKEND: Final = "module://python_mcp_pictures"
_BACKEND_FOLDER: Final = Path(__file__).with_name("matplotlib_backend")
_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
_FIGURE: Final = re.compile(r"figure-([1-9][0-9]*)\.png")
_DEPTH: Final = 2
"""Levels of directories below the working directory that are looked into."""
_MOST_ENTRIES: Final = 5_000
_LOOK_S: Final = 1.0
"""How long it may go on below the working directory itself: disks may be slow, and machines busy."""
_ENDS: Final = {"image/png": b"IEND\xaeB`\x82", "image/jpeg": b"\xff\xd9", "image/gif": b";"}
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG after which its height and width stand."""
_FILL: Final = b"\0\r\n"
"""Bytes that some programs leave behind the end of a picture."""
_PASSED_OVER: Final = frozenset({"node_modules", "site-packages", "venv"})
_COARSE_NS: Final = 2_000_000_000
"""Some file systems keep whole seconds, or every other."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file with a picture."""

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
        folder: The folder for figures; the first figure makes it.
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
    names = [entry.name for entry in _listed(str(folder))]
    numbers = sorted(int(match[1]) for name in names if (match := _FIGURE.fullmatch(name)))
    pictures: list[Picture] = []
    for number in numbers:
        small = folder / f"figure-{number}-small.png"
        preview = small if _picture(small) is not None else None
        if (picture := _picture(folder / f"figure-{number}.png", preview)) is not None:
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
            except OSError:
                continue  # gone, or not readable by this user
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
        return  # gone, or not readable by this user: the script has no file there


def _is_looked_into(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith((".", "__")) or entry.name in _PASSED_OVER:
        return False
    return entry.is_dir(follow_symlinks=False) and not os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))


def _picture(path: Path, preview: Path | None = None) -> Picture | None:
    """Return the picture in a file, or None where the file is not a picture, or is gone."""
    head, size = _read(path, 512)
    kind = kind_of(head)
    return None if kind is None else Picture(path, kind, size, preview)


def content_of(path: str | Path, most: int) -> bytes:
    """Return a picture's bytes; nothing where it is gone, incomplete, larger than `most`, or no picture."""
    data, size = _read(path, most)
    kind = kind_of(data)
    return data if kind is not None and len(data) == size and _is_whole(kind, data) else b""


def _read(path: str | Path, most: int) -> tuple[bytes, int]:
    """Return the first bytes of a file, and its size; nothing where it is gone or not a regular file."""
    try:
        with open(open_regular(os.fspath(path)), "rb") as file:
            return file.read(most), os.fstat(file.fileno()).st_size
    except OSError:
        return b"", 0


def kind_of(head: bytes) -> str | None:
    """Return the MIME type of a picture that begins with these bytes; None where they are not a picture."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return "image/svg+xml" if b"<svg" in head else None


def longest_side(data: bytes) -> int:
    """Return the longer side of a picture in pixels; 0 where its head does not say."""
    kind = kind_of(data)
    if kind == "image/png" and data[12:16] == b"IHDR":
        return max(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    if kind == "image/gif":
        return max(int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little"))
    if kind == "image/jpeg":
        return _longest_side_of_jpeg(data)
    if kind == "image/webp" and data[12:16] == b"VP8X":
        return 1 + max(int.from_bytes(data[24:27], "little"), int.from_bytes(data[27:30], "little"))
    if kind == "image/webp" and data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + max(bits & 0x3FFF, bits >> 14 & 0x3FFF)
    if kind == "image/webp":
        sides = (int.from_bytes(data[at : at + 2], "little") for at in (26, 28))
        return max(side & 0x3FFF for side in sides)
    return 0


def _longest_side_of_jpeg(data: bytes) -> int:
    """Return the longer side from the segment of a JPEG that begins the frame; 0 without one."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 9 <= len(data):
        marker = data[at + 1]
        if marker in _FRAMES:
            return max(int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9]))
        filled = data.startswith(b"\xff\xff", at)
        at += 1 if filled else 2 + int.from_bytes(data[at + 2 : at + 4])
    return 0


def _is_whole(kind: str, data: bytes) -> bool:
    """Whether the end of a picture is there: a script may have been killed while it wrote the picture."""
    if kind == "image/webp":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return data[-512:].rstrip(_FILL).endswith(_ENDS.get(kind, b""))
