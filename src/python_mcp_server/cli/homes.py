"""What can be said of a home directory by looking at it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

LITTLE_BYTES: Final = 1_000_000_000
TOO_LITTLE_BYTES: Final = 50_000_000
_NETWORK: Final = re.compile(
    "9p|af(pf)?s|beegfs|ceph|cifs|davfs|glusterfs|gpfs|lustre|nfs4?|smb[23]|smbfs"
    "|fuse[.](ceph|davfs2|gcsfuse|glusterfs|rclone|s3fs|sshfs)",
    re.IGNORECASE,
)


def nearest(home: Path) -> Path:
    """Return the home, or the nearest directory above it that exists."""
    return next((path for path in (home, *home.parents) if path.is_dir()), Path(home.anchor))


def free_bytes(home: Path) -> int:
    """Return how much can still be written."""
    return shutil.disk_usage(nearest(home)).free


def open_to_others(home: Path) -> bool:
    """Whether somebody else than the owner may enter."""
    return sys.platform != "win32" and bool(home.stat().st_mode & 0o077)


def file_system(home: Path) -> str:
    """Return the kind of file system, such as "ext4"; empty where it cannot be told."""
    import psutil

    place = os.path.realpath(nearest(home))
    best, kind = "", ""
    for partition in psutil.disk_partitions(all=True):
        mount = partition.mountpoint
        holds = place == mount or place.startswith(mount.rstrip("/\\") + os.sep)
        if holds and len(mount) >= len(best):
            best, kind = mount, partition.fstype
    return kind


def is_network(kind: str) -> bool:
    """Whether this kind of file system is one of other machines."""
    return _NETWORK.fullmatch(kind) is not None


def can_be_made(home: Path) -> bool:
    """Whether the user may make this directory, which is not there."""
    above = next(path for path in home.parents if path.exists())
    return above.is_dir() and os.access(above, os.W_OK | os.X_OK)
