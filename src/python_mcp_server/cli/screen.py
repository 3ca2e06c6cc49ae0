"""A job's output on the caller's own stdout and stderr, byte by byte, and a line of progress below."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO, Final

from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from python_mcp_server.cli.show import console, elapsed_s, plain, progress_words, span, usage_words
from python_mcp_server.model import Job

_PIECE_BYTES: Final = 1 << 20
_PIECES_AT_ONCE: Final = 16
"""So that a flood of output does not keep the caller from looking at the job."""


class Copy:
    """Copies a file that grows to a stream, from an offset on.

    Attributes:
        offset: How far it is, in bytes.
        out: Where to.
    """

    def __init__(self, path: Path, out: BinaryIO, offset: int = 0) -> None:
        self.offset = offset
        self.out = out
        self._path = path

    def read(self, limit: int = _PIECE_BYTES) -> bytes:
        """Return what comes next, up to a piece; nothing where there is nothing yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self.offset)
                return file.read(limit)
        except FileNotFoundError:
            return b""

    def write(self, data: bytes) -> None:
        """Write a piece, at once."""
        self.out.write(data)
        self.out.flush()
        self.offset += len(data)


class Screen:
    """Where a job's output goes while it runs.

    Args:
        folder: The job's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._copies = (
            Copy(folder / "stdout", sys.stdout.buffer),
            Copy(folder / "stderr", sys.stderr.buffer),
        )
        self._console = console(stderr=True)
        self._shown = ""
        self._at_line_start = True

    @property
    def watched(self) -> bool:
        """Whether somebody looks: stderr is a terminal."""
        return self._console.is_terminal

    def pump(self, *, everything: bool = False) -> None:
        """Copy what is new; blocks while nobody reads what was copied."""
        for copy in self._copies:
            pieces = 0
            while (data := copy.read()) and (everything or pieces < _PIECES_AT_ONCE):
                self.clear()
                copy.write(data)
                pieces += 1
                if copy.out.isatty():
                    self._at_line_start = data.endswith(b"\n")

    def show(self, job: Job) -> None:
        """Draw the line of progress; not behind an unfinished line of output."""
        if not (self.watched and self._at_line_start):
            return
        words = [job.status.value, span(elapsed_s(job))]
        words += [usage_words(job.usage)] if job.usage else []
        words += [progress_words(job.progress)] if job.progress else []
        words += [job.message] if job.message else []
        told = plain(" · ".join(words))
        if told == self._shown:
            return
        self.clear()
        line = Text(told, style="dim")
        line.truncate(max(1, self._console.width - 1), overflow="ellipsis")
        self._console.print(line, end="")
        self._shown = told

    def clear(self) -> None:
        """Take the line of progress away."""
        if self._shown:
            erase = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))
            self._console.control(erase)
            self._shown = ""

    def say(self, sentence: str) -> None:
        """Write a line for whoever looks, and for nobody else."""
        if self.watched:
            self.clear()
            start = "" if self._at_line_start else "\n"
            self._console.print(Text(f"{start}{sentence}", style="dim"))
            self._at_line_start = True
