"""Pictures in the results of tools: all of them by their paths, the first few to be sent as images.

The worker decides which are sent; whoever answers the client reads the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from python_mcp_server.runner.pictures import Picture
from python_mcp_server.settings import Settings
from python_mcp_server.tools.results import ScriptResult, ShownPicture

_LISTED: Final = 20
_SENDABLE: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def add_pictures(result: ScriptResult, found: Sequence[Picture], settings: Settings) -> None:
    """Let a result tell of these pictures, where there are any.

    One that was found twice with the same bytes is listed once.

    Args:
        result: The result.
        found: The pictures, the most important first.
        settings: How many are sent, and how much.
    """
    left, left_bytes = settings.max_pictures, settings.max_picture_bytes
    seen: set[bytes] = set()
    listed: list[ShownPicture] = []
    left_out = 0
    for picture in found:
        if len(listed) == _LISTED:
            left_out += 1
            continue
        told = ShownPicture(
            path=str(picture.path),
            mime_type=picture.mime_type,
            size_bytes=picture.size_bytes,
            attached=False,
        )
        size = _sent_bytes(picture, told)
        if left > 0 and size <= left_bytes and picture.mime_type in _SENDABLE:
            digest = _digest(Path(told.get("preview", told["path"])))
            if digest in seen:
                continue
            seen.add(digest)
            told["attached"] = True
            left, left_bytes = left - 1, left_bytes - size
        listed.append(told)
    if listed:
        result["pictures"] = listed
    if left_out:
        result["pictures_left_out"] = left_out


def _sent_bytes(picture: Picture, told: ShownPicture) -> int:
    """Return how much would be sent; of a large figure it is the smaller copy, which is named then."""
    if picture.preview is None:
        return picture.size_bytes
    told["preview"] = str(picture.preview)
    return picture.preview.stat().st_size


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
