"""How the id of a job becomes the name of a file, so that no id leaves its directory and names sort
by time. Used by the stores only.

A key is what files are named by and what listings are sorted by. An id made by `new_job_id` starts
with its time and is its own key. Any other plain id (of an older list, of a user) gets the time of
its creation in front: `<9 characters of time>~<id>`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from zlib import crc32

from python_mcp_server.model import base32

if TYPE_CHECKING:
    from datetime import datetime

TIME_CHARS: Final = 9
_SHARDS: Final = 1024
_OWN: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{34}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
_TIMED: Final = re.compile(r"[0-9a-hjkmnp-tv-z]{9}~" + _PLAIN.pattern)


def is_own(job_id: str) -> bool:
    """Whether this id has the shape that `new_job_id` gives."""
    return _OWN.fullmatch(job_id) is not None


def is_plain(job_id: str) -> bool:
    """Whether this id may name a file: 1 to 100 of `A-Z a-z 0-9 . _ -`, no dot at either end."""
    return _PLAIN.fullmatch(job_id) is not None


def is_key(name: str) -> bool:
    """Whether this is the key of some job."""
    return is_own(name) or _TIMED.fullmatch(name) is not None


def time_part(created_at: datetime) -> str:
    """Return the front of a key: the time in ms, as `new_job_id` writes it."""
    return base32(max(0, int(created_at.timestamp() * 1000)), TIME_CHARS)


def key_of(job_id: str, created_at: datetime) -> str:
    """Return the key of a job."""
    return job_id if is_own(job_id) else f"{time_part(created_at)}~{job_id}"


def id_of(key: str) -> str:
    """Return the id that a key was made from."""
    return key[TIME_CHARS + 1 :] if key[TIME_CHARS : TIME_CHARS + 1] == "~" else key


def shard(job_id: str) -> str:
    """Return one of 1024 names, the same for the same id for ever; any text will do as an id."""
    return f"{crc32(job_id.encode('utf-8', 'surrogatepass')) % _SHARDS:03x}"
