"""Packages that lie on this machine: where they are, and what changes when they do."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_REQUIREMENT: Final = re.compile(
    r"(?P<name>[\w.-]+\s*(\[[^\]]*\])?\s*@\s*)?(?P<target>.*?)(\[[^\]]*\])?\Z", re.DOTALL
)
_TAIL: Final = re.compile(r"\s+(;|--|#).*", re.DOTALL)
_ARCHIVES: Final = (".whl", ".tar.gz", ".zip")
_DESCRIPTIONS: Final = ("pyproject.toml", "setup.py", "setup.cfg")
_SOURCES: Final = re.compile(
    r".*\.(py|pyi|pyx|pxd|c|cc|cpp|cxx|h|hpp|rs|f|f90|toml|cfg|in)|requirements.*\.txt"
)
_BUILT: Final = frozenset({"build", "dist", "node_modules"})


def local_path(requirement: str, folder: Path) -> Path | None:
    """Return where the package of a requirement lies, or None where it comes from elsewhere.

    Args:
        requirement: A line of a requirements file, or a requirement in the form of PEP 508.
        folder: Where relative paths start.
    """
    parts = _REQUIREMENT.match(_TAIL.sub("", requirement).strip())
    if parts is None:
        return None
    named, target = parts["name"] is not None, parts["target"]
    if target.startswith("file:"):
        from urllib.request import url2pathname  # with the modules for HTTP, it costs a worker 30 ms

        return folder / url2pathname(target.removeprefix("file:").removeprefix("//").partition("#")[0])
    if "://" in target:
        return None
    if named or target.startswith(".") or target.endswith(_ARCHIVES) or {"/", os.sep} & set(target):
        return folder / os.path.expanduser(target)
    return None


def stamp(path: Path, *, editable: bool = False) -> str:
    """Return what changes when a package changes, so that it is built again.

    Of a directory that is what a package is built from: not what builds, editors or runs leave there. Of
    one that is installed as editable, only what describes it: the rest is read where it lies.
    """
    files = [path / name for name in _DESCRIPTIONS] if editable else _sources(path)
    digest = hashlib.sha256()
    for file in files:
        try:
            facts = file.stat()
        except (OSError, ValueError):
            continue  # it went away, or never was: uv says so if it is needed
        digest.update(f"{file}\0{facts.st_mtime_ns}\0{facts.st_size}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _sources(path: Path) -> Iterator[Path]:
    """Return an archive itself; of a directory the files of its packages, and other sources."""
    if not os.path.isdir(path):
        yield path
        return
    packages: set[str] = set()
    for folder, folders, files in os.walk(path):
        if "__init__.py" in files or os.path.dirname(folder) in packages:
            packages.add(folder)
        folders[:] = sorted(name for name in folders if not _passed_over(folder, name))
        for name in sorted(files):
            if folder in packages or _SOURCES.fullmatch(name):
                yield Path(folder, name)


def _passed_over(folder: str, name: str) -> bool:
    return (
        name.startswith(".")
        or name == "__pycache__"
        or name.endswith(".egg-info")
        or (name in _BUILT and not os.path.exists(os.path.join(folder, name, "__init__.py")))
        or os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
    )
