"""Pictures in the results of tools: all are listed by path, and the first few are sent as images.

The worker decides which pictures are sent; the process that answers the client reads the files.
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
"""The longest side of a sent image: the API of Claude refuses a conversation with a larger one."""
_SENDABLE: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def add_pictures(result: ScriptResult, found: Sequence[Picture], settings: Settings) -> None:
    """Add pictures to a result. Two attached pictures with the same bytes are listed once.

    Args:
        result: The result.
        found: The pictures, the most important first.
        settings: The limits on pictures that are sent.
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
    """Return the bytes to send, if any: of a large figure those of the smaller copy, whose path is added."""
    if picture.mime_type not in _SENDABLE or not _is_unicode(told["path"]):
        return b""
    if picture.preview is not None and (data := content_of(picture.preview, most)):
        told["preview"] = str(picture.preview)
        return data
    data = content_of(picture.path, most) if picture.size_bytes <= most else b""
    return data if longest_side(data) <= _MOST_PIXELS else b""


def _is_unicode(path: str) -> bool:
    """Whether JSON can carry the path, so that the process that answers finds the file."""
    return path.encode("utf-8", errors="ignore").decode() == path
