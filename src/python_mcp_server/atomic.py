"""Writes, reads and removes private files: a file is replaced as a whole, and errors are sentences.

Any module may import this one. Paths are text here, because `Path` would cost more than the system calls of a
read or write.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from python_mcp_server.errors import StoreError
from python_mcp_server.regular import read_regular

_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY
_MOST_BYTES: Final = 256 << 20
"""The largest file that is read as a whole; guessed: far more than any record or result holds."""
_WINDOWS: Final = sys.platform == "win32"
_FULL: Final = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
_MANY_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EEXIST})
_TRIES: Final = 20
"""Guessed. Tries of a replace on Windows, 5 ms apart, which fails while another process reads the file; and
tries of a write whose directory is removed each time.
"""

Value = TypeVar("Value")


def write_file(
    path: str,
    data: bytes,
    *,
    temporary_in: str = "",
    fsync: bool = False,
    private: bool = True,
    replace: bool = True,
) -> None:
    """Write `data` to `path` atomically; missing directories above it are made.

    Args:
        path: The file.
        data: All of its contents.
        temporary_in: The directory of the temporary file, on the same file system; that of the file where
            empty. The store has one directory for all records, so that the files of killed writers are found
            without a walk.
        fsync: Whether the file must survive a loss of power.
        private: Whether only this user may read it, whatever the umask.
        replace: Whether a file that is there already is replaced.

    Raises:
        FileExistsError: The file exists already and is not to be replaced.
        OSError: The file could not be written; the former file is untouched.
    """
    temporary_in = temporary_in or os.path.dirname(path)
    for attempt in range(_TRIES):
        try:
            if attempt:
                make_directory(temporary_in, fsync=fsync)
                make_directory(os.path.dirname(path), fsync=fsync)
            _write_once(path, data, temporary_in, fsync=fsync, private=private, replace=replace)
        except FileNotFoundError:  # also while they are made: a prune removes those that are empty
            if attempt == _TRIES - 1:
                raise
        else:
            return


def _write_once(
    path: str, data: bytes, temporary_in: str, *, fsync: bool, private: bool, replace: bool
) -> None:
    temporary = f"{temporary_in}/{os.getpid()}-{os.urandom(8).hex()}.tmp"
    descriptor = os.open(temporary, _NEW, 0o600 if private else 0o666)
    try:
        try:
            if private and not _WINDOWS:
                os.fchmod(descriptor, 0o600)
            _fill(descriptor, data, fsync)
        finally:
            os.close(descriptor)
        # To swap the two names is faster under load, but a loss of power could leave an empty file.
        put = os.replace if replace else _put_new
        retry_on_windows_sharing(lambda: put(temporary, path))
    except BaseException:  # also a Ctrl-C: the directory may be the user's, which no other process cleans up
        with suppress(OSError):  # the first error is the one to report
            os.unlink(temporary)
        raise
    if fsync:
        sync_directory(os.path.dirname(path))


def _fill(descriptor: int, data: bytes, fsync: bool) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    if fsync:
        _sync(descriptor)


def _put_new(temporary: str, path: str) -> None:
    """Give a file its name, unless the name is taken, even if another process takes it at this moment."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.close(os.open(path, _NEW))
        os.replace(temporary, path)
    else:
        os.unlink(temporary)


def _sync(descriptor: int) -> None:
    """Flush the file to the disk itself: on macOS `fsync` leaves the data in the disk's own cache."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def retry_on_windows_sharing(action: Callable[[], Value]) -> Value:
    """Repeat the call while Windows refuses it because another process has the file open."""
    if not _WINDOWS:
        return action()
    for _ in range(_TRIES - 1):
        try:
            return action()
        except PermissionError:
            time.sleep(0.005)
    return action()


def read_file(path: str) -> bytes | None:
    """Return the content of the file, or None if the file does not exist.

    Raises:
        NotRegular: What is there is no regular file, or too large.
        OSError: The file exists and cannot be read.
    """
    try:
        return retry_on_windows_sharing(lambda: read_regular(path, _MOST_BYTES, follow=False))
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove_file(path: str) -> bool:
    """Remove the file; return whether it existed."""
    try:
        retry_on_windows_sharing(lambda: os.unlink(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def remove_tree(path: str) -> None:
    """Remove a directory with all in it, files that are added meanwhile included, and directories that may
    only be read. A directory that does not exist, or is removed meanwhile, is no error. A symbolic link or a
    file is removed itself.
    """
    if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
        remove_file(path)
        return
    import shutil  # costs 5 ms, and a worker seldom removes anything

    forbidden = False
    for _ in range(_TRIES - 1):
        try:
            shutil.rmtree(path)
        except RecursionError:
            _flatten(path)
        except PermissionError:
            if forbidden:
                raise
            forbidden = True
            _make_removable(path)
        except OSError as error:
            if error.errno == errno.EMFILE:
                _flatten(path)
            elif error.errno not in {errno.ENOENT, errno.ENOTEMPTY}:
                raise
        if not os.path.lexists(path):
            return
    shutil.rmtree(path)


def _make_removable(path: str) -> None:
    """Let this account remove what is in a directory: some programs make what they write read-only, and a
    directory that may not be written keeps its files. On Windows a read-only file stays, too.
    """
    directories = [path]
    for directory in directories:  # grows while it is walked
        with suppress(FileNotFoundError):  # it was removed meanwhile
            os.chmod(directory, stat.S_IRWXU)
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.path)
                    elif _WINDOWS:
                        os.chmod(entry.path, stat.S_IWRITE)


def _flatten(path: str) -> None:
    """Move all directories below a directory directly into it, because `shutil.rmtree` needs a frame and a
    descriptor for each level: it fails at a depth of about 1,000.
    """
    directories = [path]
    for directory in directories:  # grows while it is walked
        with suppress(FileNotFoundError):  # it was removed meanwhile
            with os.scandir(directory) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            for place in below:
                above = place if directory == path else f"{path}/{os.urandom(8).hex()}"
                os.rename(place, above)
                directories.append(above)


def make_directory(path: str, *, fsync: bool = False) -> None:
    """Make the directory and those above it, mode 0700 whatever the umask.

    Raises:
        FileNotFoundError: Another process has removed it at this instant.
        OSError: It cannot be made.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above != path:
        make_directory(above, fsync=fsync)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(path).st_mode):  # the error of one that is gone again lets callers retry
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        return
    os.chmod(path, 0o700)
    if fsync:
        sync_directory(above)


def sync_directory(path: str) -> None:
    """Make the names in a directory survive a loss of power, where the system supports that."""
    if _WINDOWS:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def translate_os_errors(home: str, doing: str) -> Generator[None]:
    """Turn an `OSError` of the block into a `StoreError` of one sentence.

    Raises:
        StoreError: The block met an error of the system; the text names the path and what to do.
    """
    try:
        yield
    except StoreError:
        raise  # `StoreLocked` is a `TimeoutError`, and so an `OSError` too
    except OSError as error:
        raise StoreError(_sentence(error, home, doing)) from error


def _sentence(error: OSError, home: str, doing: str) -> str:
    path = error.filename or home
    if error.errno in _FULL:
        advice = f"free space on the disk of {home}, or set PYTHON_MCP_HOME to a directory with room"
    elif error.errno in _FORBIDDEN:
        advice = f"make {home} writable for this user, or set PYTHON_MCP_HOME to a directory that is"
    elif error.errno in _MISSING:
        advice = (
            f"make sure that {home} is a directory that is not removed, or set PYTHON_MCP_HOME to another"
        )
    elif error.errno in _MANY_FILES:
        advice = "raise the limit of open files (`ulimit -n`), or let fewer jobs run at once"
    elif error.errno in (errno.ENOSYS, errno.ENOLCK):
        advice = (
            f"its file system has no locks, so set PYTHON_MCP_HOME to a local directory instead of {home}"
        )
    else:
        advice = f"check the disk of {home}"
    return f"Could not {doing}: {error.strerror or error} at {path}; {advice}"
