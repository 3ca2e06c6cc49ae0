"""Pictures in the results of tools: all of them by their paths, the first few to be sent as images.

The worker decides which are sent; whoever answers the client reads the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from python_mcp_server.runner.pictures import Picture, content_of, longest_side
from python_mcp_server.settings import Settings
from python_mcp_server.tools.results import ScriptResult, ShownPicture

_LISTED: Final = 20
_MOST_PIXELS: Final = 8_000
"""On a side; the API of Claude refuses a conversation that holds a larger image, and all that follows."""
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
        if left > 0 and (data := _content(picture, told, left_bytes)):
            digest = hashlib.sha256(data).digest()
            if digest in seen:
                continue
            seen.add(digest)
            told["attached"] = True
            left, left_bytes = left - 1, left_bytes - len(data)
        listed.append(told)
    if listed:
        result["pictures"] = listed
    if left_out:
        result["pictures_left_out"] = left_out


def _content(picture: Picture, told: ShownPicture, most: int) -> bytes:
    """Return what is to be sent, if anything; of a large figure the smaller copy, which is named then."""
    if picture.mime_type not in _SENDABLE or not _is_unicode(told["path"]):
        return b""
    if picture.preview is not None and (data := content_of(picture.preview, most)):
        told["preview"] = str(picture.preview)
        return data
    data = content_of(picture.path, most) if picture.size_bytes <= most else b""
    return data if longest_side(data) <= _MOST_PIXELS else b""


def _is_unicode(path: str) -> bool:
    """Tell whether a path comes through JSON as it is, so that whoever answers finds the file."""
    return path.encode("utf-8", errors="ignore").decode() == path
