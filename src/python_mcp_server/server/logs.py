"""Where the server's log goes: stderr, and a rotating file that the servers of one home share.

Called before the SDK's server is made: its constructor sets up logging of its own where there is
none, for terminals of 80 columns.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from contextvars import ContextVar
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, cast

from python_mcp_server.context import current_job
from python_mcp_server.settings import Settings

LOG_JOB: Final[ContextVar[str | None]] = ContextVar("python_mcp_log_job", default=None)
"""The job that this task works for, where there is one."""

_FILE_BYTES: Final = 5_000_000
_FILES: Final = 3
_FORMAT: Final = "%(asctime)s %(levelname)s [%(process)d] %(name)s:%(job)s %(message)s"


def configure_logging(settings: Settings) -> None:
    """Send this process's log to stderr and to `server.log` under the home.

    Without `debug` the notes of the SDK and of uvicorn on what goes well are left out. Where the file
    cannot be written, stderr alone has the log, and says so.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    problem = None
    try:
        handlers.append(_SharedFileHandler(settings.logs / "server.log"))
    except OSError as exc:
        problem = exc
    for handler in handlers:
        handler.addFilter(_name_job)
    logging.basicConfig(
        level=logging.DEBUG if settings.debug else logging.INFO, format=_FORMAT, handlers=handlers, force=True
    )
    if not settings.debug:
        for name in ("mcp", "httpx", "asyncio", "uvicorn.access", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("sse_starlette").setLevel(logging.INFO)  # below, it logs all that is answered
    if problem is not None:
        log = logging.getLogger(__name__)
        log.warning("%s cannot be written (%s); the log is on stderr", settings.logs, problem)


def _name_job(record: logging.LogRecord) -> bool:
    job_id = getattr(record, "job_id", None) or LOG_JOB.get()
    if job_id is None and (job := current_job()) is not None:
        job_id = job.id
    record.job = f" job {job_id}:" if job_id else ""
    return True


class _SharedFileHandler(RotatingFileHandler):
    """A rotating file, mode 0600, that follows when another process has rotated it away."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        super().__init__(
            path, maxBytes=_FILE_BYTES, backupCount=_FILES, encoding="utf-8", errors="backslashreplace"
        )
        self._told = False

    def _open(self) -> TextIOWrapper:
        path, mode = self.baseFilename, self.mode
        file = open(path, mode, encoding=self.encoding, errors=self.errors, opener=_private)  # noqa: SIM115
        return cast("TextIOWrapper", file)

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802
        """Whether this record would not fit; first of all, look that the file is still the one."""
        if self.stream is not None and not _is_at(self.stream, self.baseFilename):
            stream, self.stream = self.stream, None  # type: ignore[assignment]
            stream.close()
            self.stream = self._open()
        return bool(super().shouldRollover(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Say once that the file cannot be written, instead of a stack for each record."""
        if not self._told:
            self._told = True
            _say(f"{self.baseFilename} cannot be written ({sys.exc_info()[1]}); the log is on stderr")


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # stderr is full or gone too
        sys.stderr.write(f"{text}\n")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _is_at(stream: TextIOWrapper, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except OSError:
        return False
