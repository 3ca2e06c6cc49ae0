"""The standard streams and logs of a worker, which make a fresh process a safe place for foreign code.

fd 0 is the null device; fd 1 and 2 are files of the worker, which the server links into a job's folder when
the job becomes durable. So nothing that a body, a child or a C library writes can reach the client, output
survives every crash, and a flood costs disk instead of memory. A full disk costs the output that is printed
meanwhile, not the job.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from python_mcp_server.atomic import make_directory
from python_mcp_server.processes.inherited import become_subreaper
from python_mcp_server.regular import IN_HOME, LinkInHome, copy_own, open_own, own_file, refuse_links

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_FULL: Final = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)


class _Log(io.FileIO):
    """A descriptor that drops output where the disk is full, and writes later how much was lost."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self._lost_bytes = 0

    def write(self, data: ReadableBuffer, /) -> int:
        """Write or drop data; return the size of the data that was handled."""
        try:
            self.tell_loss()
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in _FULL:
                raise
        size = memoryview(data).nbytes
        self._lost_bytes += size
        return size

    def tell_loss(self) -> None:
        """Write how much was lost, if anything was.

        Raises:
            OSError: There is no room yet.
        """
        if self._lost_bytes:
            super().write(f"\n[{self._lost_bytes} bytes are missing here: the disk was full]\n".encode())
            self._lost_bytes = 0


def open_log_stream(fd: int) -> TextIO:
    """Return a text stream to this descriptor, flushed with every line; its close leaves it open."""
    buffer = io.BufferedWriter(_Log(fd))
    stream: Any = io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)
    stream.mode = "w"
    return stream


def tell_loss(stream: TextIO) -> None:
    """Write at the end of a call how much its stream has lost, if there is room."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if isinstance(raw, _Log):
        raw.tell_loss()


_log: Final = logging.getLogger(__name__)
STREAMS: Final = ("stdout", "stderr")
_PIECE_BYTES: Final = 1 << 20
_LOG_FLAGS: Final = os.O_CREAT | os.O_WRONLY | os.O_APPEND
LOGS_IN_HOME: Final = 2
"""How many names below its home a worker's folder lies: `lanes/<name>`."""


def confine() -> Any:
    """Give this process a null stdin and streams of its own, once its logs are open.

    Returns:
        The C library, for `flush_output`; None where it cannot be reached.
    """
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null == 0:  # the program had none, so the file gets the next number
        os.set_inheritable(0, True)
    else:
        os.close(null)
    open_streams()
    return become_subreaper()


def _open_log(fd: int, path: Path) -> tuple[int, int]:
    """Point the descriptor at the log, and return the identity of that file."""
    log = open_own(str(path), _LOG_FLAGS)
    if log == fd:  # it was closed, so the file gets the next number
        os.set_inheritable(fd, True)
    else:
        os.dup2(log, fd)
        os.close(log)
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def open_streams() -> None:
    """Make `sys.stdout` and `sys.stderr` write to fd 1 and 2, a line at a time."""
    for fd, name in enumerate(STREAMS, start=1):
        stream = open_log_stream(fd)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def early_log(folder: str | Path) -> str:
    """Return the file for what a worker prints before it opens its logs: why its start fails."""
    return os.path.join(folder, STREAMS[-1])


class WorkerLogs:
    """The files behind fd 1 and 2 of this process.

    Attributes:
        paths: Where they lie until a job takes them.
    """

    def __init__(self, folder: str) -> None:
        self.paths = [Path(folder, name) for name in STREAMS]
        self._files = [_open_log(fd, path) for fd, path in enumerate(self.paths, start=1)]

    def refresh(self) -> None:
        """Start a new call with empty logs. They are emptied, or made anew where a job has taken the old ones
        or a body has closed or replaced their descriptors.
        """
        for fd, file in enumerate(self._files, start=1):
            try:
                status = os.fstat(fd)
            except OSError:
                self._reopen(fd)
                continue
            if status.st_nlink != 1 or (status.st_dev, status.st_ino) != file:
                self._reopen(fd)
            elif status.st_size:
                os.ftruncate(fd, 0)
        if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__ or _closed():
            open_streams()

    def _reopen(self, fd: int) -> None:
        path = self.paths[fd - 1]
        make_directory(str(path.parent))  # the home may have been deleted
        path.unlink(missing_ok=True)
        self._files[fd - 1] = _open_log(fd, path)


def _closed() -> bool:
    out, error = sys.__stdout__, sys.__stderr__
    return out is None or error is None or out.closed or error.closed


def link_logs(log_folder: str | Path, job_folder: str | Path) -> None:
    """Put the worker's present logs into a job's folder, where it has no own files with these names: as
    links, or where the file system has no links, as copies, which the next call of this function brings up to
    date.
    """
    if not Path(log_folder).is_dir():
        return  # the worker's folder or the whole home is gone: the home must not come back in part
    refuse_links(str(job_folder), IN_HOME)
    make_directory(str(job_folder))
    for name in STREAMS:
        source, target = Path(log_folder, name), Path(job_folder, name)
        try:
            _put(source, target)
        except FileExistsError:
            _bring_up_to_date(target, source)
        except FileNotFoundError:
            return  # the worker's folder is removed already


def _put(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # another file system, or a file system without links
        copy_own(str(source), str(target))


def _bring_up_to_date(copy: Path, log: Path) -> None:
    """Append the new output of a log to its copy; any other file with this name is left alone."""
    known = copy.lstat()
    if not stat.S_ISREG(known.st_mode) or log.samefile(copy) or log.stat().st_size <= known.st_size:
        return
    with (
        open(log, "rb", opener=own_file) as source,
        open(open_own(str(copy), os.O_RDWR), "r+b") as target,
    ):
        while known := target.read(_PIECE_BYTES):
            if source.read(len(known)) != known:
                return
        shutil.copyfileobj(source, target)


def try_link_logs(log_folder: str | Path, job_folder: str | Path) -> None:
    """Do as `link_logs` does, but only log a failure, because the job matters more than its output."""
    try:
        link_logs(log_folder, job_folder)
    except OSError as error:
        _log.warning("the output in %s is not kept: %s", job_folder, error)


def adopt_logs(log_folder: str | Path, job_folder: str | Path) -> None:
    """Do as `link_logs` does, and remove the worker's folder if the job has these same files: then even a
    killed worker leaves nothing behind. The worker writes through its descriptors as before.

    Raises:
        OSError: The job's folder cannot be written.
    """
    link_logs(log_folder, job_folder)
    pairs = [(Path(log_folder, name), Path(job_folder, name)) for name in STREAMS]
    if all(source.exists() and target.exists() and source.samefile(target) for source, target in pairs):
        remove_logs(str(log_folder))


def remove_logs(log_folder: str) -> None:
    """Remove the worker's folder; files that a job has taken stay with the job."""
    try:
        refuse_links(log_folder, LOGS_IN_HOME)
    except LinkInHome as error:
        _log.warning("the output of a worker stays: %s", error)
        return
    shutil.rmtree(log_folder, ignore_errors=True)


def flush_output(libc: Any) -> None:
    """Flush the buffers of Python and C to the files."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            tell_loss(stream)
        except Exception:  # noqa: BLE001  a body may have closed it, or put anything in its place
            _log.debug("what a body printed may be incomplete", exc_info=True)
    if libc is not None:
        libc.fflush(None)
