"""Where saved scripts lie, and how they are written: at once or not at all, with a history of versions.

scripts/report.py                 what runs; it may be edited by hand
scripts/.versions/report/3.py     what was saved, by number; the newest is what runs, unless it was edited

No lock is needed: a version takes its number by being the first to have it, and what a save replaces is
a version already. So nothing that was saved is lost to another who saves in the same instant.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.session import make_private
from python_mcp_server.settings import Settings
from python_mcp_server.tools.running import stored
from python_mcp_server.tools.sources import existing_directory

_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])\Z", re.IGNORECASE)
_NAME_BYTES: Final = 200
_HISTORY: Final = ".versions"
_KEPT: Final = 20
"""Versions of one script; guessed: more than anybody goes back."""


@dataclass(frozen=True, slots=True)
class Place:
    """A directory of saved scripts.

    Attributes:
        folder: Where they lie.
        directory: Where they run.
        private: Whether only this user may read them; a project's scripts are as its other files.
    """

    folder: Path
    directory: Path
    private: bool

    def file(self, script_name: str) -> Path:
        """Return the file of a name that cannot leave the folder.

        Raises:
            InvalidInput: The name is no plain file name.
        """
        stem = script_name.removesuffix(".py")
        wrong = (
            not stem.strip()
            or stem.startswith((".", "-", " "))
            or stem.endswith((".", " "))
            or ".." in script_name
            or _FORBIDDEN.search(stem)
            or _RESERVED.match(stem.partition(".")[0])
            or len(stem.encode("utf-8", errors="replace")) > _NAME_BYTES
        )
        if wrong:
            raise InvalidInput(
                f"script_name {script_name!r} is no plain file name; "
                "write one such as 'report', no directories"
            )
        return self.folder / f"{stem}.py"

    def files(self) -> list[Path]:
        """Return the scripts, by name."""
        found = self.folder.glob("*.py")
        return sorted(path for path in found if not path.name.startswith(".") and path.is_file())

    def save(self, path: Path, text: str, *, overwrite: bool) -> int | None:
        """Write a script and return the number of its version; None where there is one that must stay.

        Raises:
            InvalidInput: The text is no Unicode.
            StoreError: It cannot be written; nothing has changed then.
        """
        data = _encoded(text)
        with stored(self.folder):
            (make_private if self.private else _make)(self.folder)
            if self._write(path, data):
                return self._keep(path, data)
            if not overwrite:
                return None
            self._keep(path, path.read_bytes())  # it was edited by hand, or saved before there was a history
            number = self._keep(path, data)
            self._write(path, data, replace=True)
            for old in versions(path)[:-_KEPT]:
                if old != number:
                    version_file(path, old).unlink(missing_ok=True)
            return number

    def _keep(self, path: Path, data: bytes) -> int:
        """Return the number of the version with this text; a new one unless there is one."""
        present = present_version(path, data)
        if present is not None:
            return present
        known = versions(path)
        history = path.parent / _HISTORY
        if not history.exists() and not self.private:
            _make(history)
            self._write(history / ".gitignore", b"*\n")
        (make_private if self.private else _make)(history / path.stem)
        return next(
            number
            for number in count(known[-1] + 1 if known else 1)
            if self._write(version_file(path, number), data)
        )

    def _write(self, path: Path, data: bytes, *, replace: bool = False) -> bool:
        """Write a file at once or not at all; return False where there is one that must stay."""
        partial = path.with_name(f".{os.getpid()}-{os.urandom(8).hex()}.partial")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(partial, flags, 0o600 if self.private else 0o666)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
            if replace:
                partial.replace(path)
            else:
                _place(partial, path, data)
        except FileExistsError:
            return False
        finally:
            partial.unlink(missing_ok=True)
        return True


def place_of(directory: str | None) -> Place:
    """Return where scripts are saved: of a project in its `scripts`, else where the setting says.

    Raises:
        InvalidInput: There is no such directory.
    """
    if directory is not None:
        project = existing_directory(directory)
        return Place(project / "scripts", project, private=False)
    folder = Settings.from_environ().scripts
    return Place(folder, folder, private=True)


def versions(path: Path) -> list[int]:
    """Return the numbers of a script's versions, oldest first."""
    names = (path.parent / _HISTORY / path.stem).glob("*.py")
    return sorted(int(name.stem) for name in names if name.stem.isdecimal())


def version_file(path: Path, number: int) -> Path:
    """Return the file of a version."""
    return path.parent / _HISTORY / path.stem / f"{number}.py"


def present_version(path: Path, data: bytes) -> int | None:
    """Return the number of the version that a script is; None where it was edited by hand."""
    for number in reversed(versions(path)):
        try:
            if version_file(path, number).read_bytes() == data:
                return number
        except FileNotFoundError:
            continue  # it was too old, and another has just saved
    return None


def _place(partial: Path, path: Path, data: bytes) -> None:
    """Give a file its name, unless there is one of that name, even one that came this instant."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # this file system has no links
        with path.open("xb") as file:
            file.write(data)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"source holds {text[error.start]!r}, half of a character, at position {error.start}; "
            "send whole Unicode"
        ) from None
