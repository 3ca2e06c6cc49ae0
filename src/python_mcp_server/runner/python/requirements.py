"""The packages of a `requirements.txt`, with the files that it includes and the packages on this machine.

uv reads the files; they are read here only to know when an environment no longer matches them. Then another
one is made, because a running script may still use the former.
https://pip.pypa.io/en/stable/reference/requirements-file-format/
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.runner.textfile import MOST_BYTES, WAY_OUT, decode, read_bytes, split_lines

_NAME: Final = re.compile(r"[\w.-]+\s*(?:\[[^\]]*\]\s*)?@\s*")
_TAIL: Final = re.compile(r"(?<!\s)\s+(;|--|#).*", re.DOTALL)  # not from each blank of many
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
    text = _TAIL.sub("", requirement.strip())
    named = _NAME.match(text)
    target = _without_extras(text[named.end() :] if named else text)
    if target.startswith("file:"):
        from urllib.request import url2pathname  # with the modules for HTTP, it costs a worker 30 ms

        return folder / url2pathname(target.removeprefix("file:").removeprefix("//").partition("#")[0])
    if "://" in target:
        return None
    if named or target.startswith(".") or target.endswith(_ARCHIVES) or {"/", os.sep} & set(target):
        return folder / os.path.expanduser(target)
    return None


def _without_extras(target: str) -> str:
    start = target.find("[", target.rfind("]", 0, -1) + 1) if target.endswith("]") else -1
    return target if start < 0 else target[:start]


def stamp(path: Path, *, editable: bool = False) -> str:
    """Return a stamp that changes when a package changes, so that it is built again.

    The stamp of a directory covers the files that a package is built from, not files that builds, editors or
    runs leave there. For an editable package it covers only the files that describe the package: the rest is
    read in place.
    """
    files = [path / name for name in _DESCRIPTIONS] if editable else _sources(path)
    digest = hashlib.sha256()
    for file in files:
        try:
            facts = file.stat()
        except (OSError, ValueError):
            continue  # it is gone, or never existed: uv reports that if it is needed
        digest.update(f"{file}\0{facts.st_mtime_ns}\0{facts.st_size}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _sources(path: Path) -> Iterator[Path]:
    """Return an archive itself; for a directory, the files of its packages and other sources."""
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


_INCLUDE: Final = re.compile(r"(?P<option>-r|--requirement|-c|--constraint)[=\s]\s*(?P<file>.+)")
_EDITABLE: Final = re.compile(r"(?:-e|--editable)[=\s]\s*(?P<requirement>.+)")
_CONTINUED: Final = re.compile(r"\\(?:\r\n?|\n)")
_COMMENT: Final = re.compile(r"(?:\A|\s)#.*")
_OPTIONS: Final = re.compile(r"\s--.*")
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_MOST_FILES: Final = 1_000
"""Guessed: more than any project includes."""


@dataclass(frozen=True, slots=True)
class FilePackages:
    """The packages of a requirements file.

    Attributes:
        file: The file.
        facts: Its path, the text of the file and of those that it includes, and a stamp that changes when a
            package on this machine changes.
        directories: The requirements for packages that are directories on this machine.
    """

    file: Path
    facts: tuple[str, ...]
    directories: tuple[str, ...]

    @classmethod
    def read(cls, file: Path) -> FilePackages:
        """Read a file and those that it includes.

        Raises:
            InvalidInput: A file cannot be read. uv itself refuses a missing one.
        """
        try:
            parts = _with_included(_Part(file, read_bytes(file, str(file), MOST_BYTES), constrains=False))
        except InvalidInput as error:
            raise InvalidInput(f"{error}; {WAY_OUT}") from None
        local = [package for part in parts for package in part.local(file.parent)]
        facts = (str(file), *(part.digest for part in parts), *(package.fact for package in local))
        return cls(file, facts, tuple(package.requirement for package in local if package.built_anew))

    @property
    def name(self) -> str:
        """The file."""
        return f"the packages of {self.file}"

    @property
    def way_out(self) -> str:
        """Say how to run without the file."""
        return f"; {WAY_OUT}"

    @property
    def task(self) -> str:
        """The file's name."""
        return f"installing the packages of {self.file.name}"

    def check(self) -> None:
        """Refuse nothing, because uv says what is wrong with a file, and where."""

    def install(self, uv: Uv, python: str) -> bool:
        """Install the packages. Directories are named once more, because uv builds anew the packages that are
        named here.

        https://docs.astral.sh/uv/concepts/cache/#dependency-caching
        """
        wanted = ("--requirements", str(self.file), "--", *self.directories)
        uv("pip", "install", "--python", python, *wanted, cwd=self.file.parent)
        return True


@dataclass(frozen=True, slots=True)
class _Local:
    """A package that lies on this machine.

    Attributes:
        requirement: The requirement as in the file.
        path: Where it lies.
        editable: Whether the package is used in place.
        constrains: Whether the line only says where the package comes from, if it is needed.
    """

    requirement: str
    path: Path
    editable: bool
    constrains: bool

    @property
    def fact(self) -> str:
        return f"{self.requirement} {stamp(self.path, editable=self.editable)}"

    @property
    def built_anew(self) -> bool:
        return not self.editable and not self.constrains and os.path.isdir(self.path)


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the files."""

    path: Path
    data: bytes
    constrains: bool

    @property
    def digest(self) -> str:
        return f"{self.path} {hashlib.sha256(self.data).hexdigest()}"

    def included(self) -> Iterator[tuple[Path, bool]]:
        """Yield the files that this file names, relative to it, and whether they only constrain."""
        for line in self._lines():
            if (include := _INCLUDE.match(line)) is not None:
                path = Path(os.path.normpath(self.path.parent / include["file"].strip("\"'")))
                yield path, self.constrains or include["option"] in {"-c", "--constraint"}

    def local(self, folder: Path) -> Iterator[_Local]:
        """Yield the packages that lie on this machine, relative to the folder of the first file."""
        for line in self._lines():
            editable = _EDITABLE.match(line)
            if line.startswith("-") and editable is None:
                continue
            requirement = editable["requirement"] if editable else _OPTIONS.sub("", line)
            path = local_path(requirement.replace("${PROJECT_ROOT}", str(folder)), folder)
            if path is not None:
                yield _Local(requirement, path, editable is not None, self.constrains)

    def _lines(self) -> Iterator[str]:
        for line in split_lines(_CONTINUED.sub(" ", decode(self.data, "replace"))):
            if text := _COMMENT.sub("", line).strip():
                yield _VARIABLE.sub(lambda name: os.environ.get(name[1], name[0]), text)


def _with_included(first: _Part) -> list[_Part]:
    parts = {(first.path, first.constrains): first}
    queue, size = [first], len(first.data)
    for part in queue:  # grows while it is walked
        for path, constrains in part.included():
            if (path, constrains) in parts:
                continue
            data = read_bytes(path, str(path), MOST_BYTES) if os.path.isfile(path) else b""
            size += len(data)
            if len(parts) == _MOST_FILES or size > MOST_BYTES:
                raise InvalidInput(
                    f"{first.path} includes too much: it may be {_MOST_FILES} files "
                    f"of {MOST_BYTES >> 20} MiB together"
                )
            queue.append(parts.setdefault((path, constrains), _Part(path, data, constrains)))
    return queue
