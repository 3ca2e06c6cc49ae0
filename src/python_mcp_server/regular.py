"""Opens files that others name, or may have put into the home: regular files only, and never with a wait.

A named pipe without a writer would hold its reader for ever, a device has no end, a sparse file fills the
memory, and a symbolic link in the home leads out of it. Any module may import this one. Paths are text here,
because `Path` would cost more than the system calls.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from typing import Final

from python_mcp_server.errors import StoreError

_NO_WAIT: Final[int] = getattr(os, "O_NONBLOCK", 0)
_FLAGS: Final[int] = (
    getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | _NO_WAIT | getattr(os, "O_NOCTTY", 0)
)
_NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_JUNCTION: Final[int] = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
_BLOCK: Final = 1 << 16
_LINKS: Final = frozenset({errno.ELOOP, getattr(errno, "EMLINK", errno.ELOOP)})
_KINDS: Final = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a symbolic link",
}


IN_HOME: Final = 3
"""How many names below its home the folder of a job lies: `output/<shard>/<id>`."""


class NotRegular(OSError):
    """Raised for anything but a regular file, and for one above the bound; `strerror` says which."""


class LinkInHome(StoreError, OSError):
    """Raised for a symbolic link in the place of a directory of the home."""


def refuse_links(path: str, depth: int) -> None:
    """Refuse a path of the home of which one of the last names is a symbolic link: it may lead elsewhere.

    Only this account writes into a home, so such a link is an accident, and a look before the use is enough.

    Args:
        path: A directory.
        depth: How many names are looked at, from the last one on.

    Raises:
        LinkInHome: The text names the link.
    """
    for _ in range(depth):
        if is_link(path):
            raise LinkInHome(f"{path} is a symbolic link, which is not followed; put a directory there")
        path = os.path.dirname(path)


def is_link(path: str) -> bool:
    """Whether this is a symbolic link, or on Windows a junction."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) == _JUNCTION


def open_regular(path: str, *, follow: bool = True) -> int:
    """Open a regular file to read, and return its descriptor.

    Args:
        path: The file.
        follow: Whether a symbolic link is followed. No file of the home is a symbolic link.

    Raises:
        NotRegular: It is no regular file.
        OSError: It cannot be opened.
    """
    if follow and not stat.S_ISREG(mode := os.stat(path).st_mode):  # to open a device may do something
        raise _refusal(mode, path)
    return _open(path, os.O_RDONLY, follow=follow)


def open_own(path: str, flags: int, *, follow: bool = False) -> int:
    """Open a regular file of the home to write, mode 0600 where it is made, and return its descriptor.

    Args:
        path: The file.
        flags: Those of `os.open`, without `O_TRUNC`, which would come before the look at what it is.
        follow: Whether a symbolic link is followed.

    Raises:
        NotRegular: It is no regular file.
        OSError: It cannot be opened.
    """
    descriptor = _open(path, flags, follow=follow)
    if _NO_WAIT:
        os.set_blocking(descriptor, True)  # programs get it as their output
    return descriptor


def make_own(path: str) -> None:
    """Make a file of the home where it is missing, for a library that opens it by its path.

    Raises:
        NotRegular: It is there, and no regular file.
        OSError: It cannot be opened.
    """
    os.close(open_own(path, os.O_RDWR | os.O_CREAT))


def _open(path: str, flags: int, *, follow: bool) -> int:
    flags |= _FLAGS if follow else _FLAGS | _NO_FOLLOW
    if not follow and not _NO_FOLLOW and is_link(path):  # on Windows
        raise _refusal(stat.S_IFLNK, path)
    try:
        descriptor = os.open(path, flags, 0o600)
    except BlockingIOError:  # another program has a lease on it, which it gives up when asked to
        if not stat.S_ISREG(os.stat(path, follow_symlinks=follow).st_mode):
            raise
        descriptor = os.open(path, flags & ~_NO_WAIT, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO or (not follow and error.errno in _LINKS):  # a pipe or socket; a link
            raise _refusal(os.stat(path, follow_symlinks=follow).st_mode, path) from None
        raise
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _refusal(mode, path)
    return descriptor


def copy_own(source: str, target: str) -> None:
    """Copy a file of the home to another one, which must not exist.

    Raises:
        NotRegular: The source is no regular file.
        OSError: The file cannot be copied.
    """
    import shutil  # costs 5 ms, and a worker seldom copies anything

    with (
        open(source, "rb", opener=own_file) as read,
        open(open_own(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as written,
    ):
        shutil.copyfileobj(read, written)


def own_file(path: str, _flags: int) -> int:
    """Open a file of the home, as the `opener` of the built-in `open`; a link is not followed."""
    return open_regular(path, follow=False)


def read_regular(path: str, most_bytes: int, *, follow: bool = True) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        NotRegular: It is no regular file, or holds more than that.
        OSError: It cannot be read.
    """
    descriptor = open_regular(path, follow=follow)
    try:
        if os.fstat(descriptor).st_size > most_bytes:
            raise too_large(most_bytes, path)
        parts: list[bytes] = []
        size = 0
        while part := os.read(descriptor, _BLOCK):
            size += len(part)
            if size > most_bytes:  # it grows, or is one of the kernel's, which tell no size
                raise too_large(most_bytes, path)
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def read_given(path: str, most_bytes: int, wait_s: float) -> bytes:
    """Return the bytes of a regular file, or what a program writes into a pipe, such as `<(pass show token)`.

    Args:
        path: The file or the pipe.
        most_bytes: The most that it may hold.
        wait_s: How long the program may take to write all and to close the pipe.

    Raises:
        NotRegular: It is something else, or holds more, or takes longer.
        OSError: It cannot be read.
    """
    if not _NO_WAIT or not stat.S_ISFIFO(os.stat(path).st_mode):
        return read_regular(path, most_bytes)
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        return _read_pipe(descriptor, path, most_bytes, time.monotonic() + wait_s)
    finally:
        os.close(descriptor)


def _read_pipe(descriptor: int, path: str, most_bytes: int, deadline: float) -> bytes:
    data = b""
    while len(data) <= most_bytes:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise NotRegular(errno.ETIMEDOUT, "nothing closes the pipe in time", path)
        piece = os.read(descriptor, _BLOCK)
        if not piece:
            return data
        data += piece
    raise too_large(most_bytes, path)


def _refusal(mode: int, path: str) -> OSError:
    if stat.S_ISDIR(mode):
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return NotRegular(errno.EINVAL, f"it is {kind}, no regular file", path)


def too_large(most_bytes: int, path: str) -> NotRegular:
    """Return the error of a file above its bound."""
    return NotRegular(errno.EINVAL, f"it is larger than {_in_mib(most_bytes)}", path)


def _in_mib(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
