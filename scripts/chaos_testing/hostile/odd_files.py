"""Files that no server may be stopped by: no regular ones, endless ones, and hostile texts."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

_TERABYTE: Final = 1 << 40
_DEEP: Final = 6_000


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, _TERABYTE)


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:  # the name of a socket is short, so it is given from its folder
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(f"/proc/self/fd/{folder}/{path.name}" if os.path.isdir("/proc/self/fd") else str(path))
    finally:
        os.close(folder)


ODD: Final[dict[str, Callable[[Path], object]]] = {
    "fifo": os.mkfifo,
    "socket": _socket,
    "sparse": _sparse,
    "directory": Path.mkdir,
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nothing"),
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "kernel": lambda path: path.symlink_to("/proc/kmsg"),
    "deep": lambda path: path.write_text("-" * _DEEP),
    "header": lambda path: path.write_text("# /// script\n" + "#\n" * 120_000),
    "nested": lambda path: path.write_text("# /// script\n# a = " + "[" * 30_000 + "\n# ///\n"),
    "null": lambda path: path.write_bytes(b"\0" * 1000),
    "bytes": lambda path: path.write_bytes(bytes(range(256))),
}
"""How to make each kind at a path where nothing is."""


def lay_in(folder: Path, suffix: str) -> list[Path]:
    """Make one file of each kind in a folder; return them."""
    paths: list[Path] = []
    for kind, make in ODD.items():
        path = folder / f"{kind}{suffix}"
        if not os.path.lexists(path):
            make(path)
        paths.append(path)
    return paths


def lay_in_home(home: Path, precious: Path) -> int:
    """Make one of each kind in every folder of a home, named as its records are; return how many.

    A link leads to a precious folder, which no sweep may empty.
    """
    folders = [path for path in home.rglob("*") if path.is_dir() and not path.is_symlink()]
    for folder in folders:
        if folder.is_relative_to(home / "scripts"):
            lay_in(folder, ".py")
            continue
        for make in ODD.values():
            make(folder / f"{uuid.uuid4()}.json")
        (folder / str(uuid.uuid4())).symlink_to(precious, target_is_directory=True)
        (folder / f"{uuid.uuid4()}.json").symlink_to(precious / "kept")
    return len(folders) * len(ODD)
