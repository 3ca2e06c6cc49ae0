"""What a result says of pictures, and which of them are sent."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from python_mcp_server.runner.pictures import Picture, longest_side
from python_mcp_server.settings import Settings
from python_mcp_server.tools.call import add_pictures
from tests.helpers.fake_matplotlib import PNG, PNG_END


def told(found: list[Picture], **settings: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    add_pictures(cast("Any", result), found, Settings(**settings))
    return result


def picture(folder: Path, name: str, size: int = 30, kind: str = "image/png", **more: Any) -> Picture:
    path = folder / name
    path.write_bytes(PNG + name.encode().ljust(size - len(PNG + PNG_END)) + PNG_END)
    return Picture(path, kind, size, **more)


def attached(result: dict[str, Any]) -> list[str]:
    return [Path(each["path"]).name for each in result["pictures"] if each["attached"]]


def test_no_picture_is_not_mentioned() -> None:
    assert told([]) == {}


def test_the_first_few_are_sent_as_far_as_there_is_room_and_all_are_named(tmp_path: Path) -> None:
    sizes = {"a": 100, "b": 900, "c": 300, "d": 30, "e": 30}
    found = [picture(tmp_path, name, size) for name, size in sizes.items()]
    result = told(found, max_pictures=3, max_picture_bytes=950)
    assert attached(result) == ["a", "c", "d"]
    assert result["pictures"][1] == {
        "path": str(tmp_path / "b"), "mime_type": "image/png", "size_bytes": 900, "attached": False,
    }  # fmt: skip
    assert len(result["pictures"]) == 5
    assert attached(told(found, max_pictures=0)) == []


def test_of_a_large_figure_its_smaller_copy_is_sent(tmp_path: Path) -> None:
    small = picture(tmp_path, "small", 50).path
    result = told([picture(tmp_path, "large", 5000, preview=small)], max_picture_bytes=100)
    assert attached(result) == ["large"]
    assert result["pictures"][0]["preview"] == str(small)


def test_what_clients_do_not_show_is_named_only(tmp_path: Path) -> None:
    assert attached(told([picture(tmp_path, "a.svg", kind="image/svg+xml")])) == []


def test_a_picture_with_a_side_that_no_client_takes_is_named_only(tmp_path: Path) -> None:
    found: list[Picture] = []
    for name, width, height in (("wide", 8_001, 10), ("high", 10, 8_001), ("fits", 8_000, 8_000)):
        sides = width.to_bytes(4) + height.to_bytes(4)
        path = tmp_path / name
        path.write_bytes(PNG + (13).to_bytes(4) + b"IHDR" + sides + PNG_END)
        found.append(Picture(path, "image/png", path.stat().st_size))
    assert attached(told(found)) == ["fits"]


def of_jpeg(width: int, height: int) -> bytes:
    head = b"\xff\xd8" + b"\xff\xe0\x00\x08JFIF\0\0" + b"\xff\xff\xdb\x00\x04\xff\xc0" + b"\xff\xc4\x00\x03\0"
    return head + b"\xff\xc2\x00\x0b\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x01\0\0\0\xff\xd9"


def of_gif(width: int, height: int) -> bytes:
    return b"GIF89a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + b"\0\0\0;"


def of_webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + len(body).to_bytes(4, "little") + body
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk


def of_extended_webp(width: int, height: int) -> bytes:
    return of_webp(b"VP8X", bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"))


def of_lossless_webp(width: int, height: int) -> bytes:
    return of_webp(b"VP8L", b"\x2f" + (width - 1 | height - 1 << 14).to_bytes(4, "little"))


def of_lossy_webp(width: int, height: int) -> bytes:
    sides = (width | 1 << 14).to_bytes(2, "little") + (height | 2 << 14).to_bytes(2, "little")
    return of_webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + sides)


@pytest.mark.parametrize("made", [of_jpeg, of_gif, of_extended_webp, of_lossless_webp, of_lossy_webp])
def test_the_sides_of_every_format_are_looked_at(made: Callable[[int, int], bytes]) -> None:
    for sides in ((640, 480), (8_001, 10), (10, 9_000)):
        assert longest_side(made(*sides)) == max(sides)
    for cut in range(len(made(8_001, 10))):
        assert longest_side(made(8_001, 10)[:cut]) <= 1 << 16  # a file that ends early is no error


def test_a_figure_that_was_shown_and_saved_is_listed_once(tmp_path: Path) -> None:
    first = picture(tmp_path, "a")
    again = tmp_path / "again"
    again.write_bytes(first.path.read_bytes())
    assert len(told([first, Picture(again, "image/png", 30)])["pictures"]) == 1


def test_missing_partial_or_unnameable_pictures_are_listed_but_not_sent(tmp_path: Path) -> None:
    gone, half = picture(tmp_path, "gone"), picture(tmp_path, "half")
    gone.path.unlink()
    os.truncate(half.path, 20)
    odd = picture(tmp_path, "odd")
    unnamed = Picture(odd.path.rename(tmp_path / os.fsdecode(b"\xff.png")), "image/png", 30)
    result = told([gone, half, unnamed, picture(tmp_path, "whole", preview=gone.path)])
    assert attached(result) == ["whole"]
    assert (len(result["pictures"]), "preview" in result["pictures"][3]) == (4, False)


def test_of_very_many_pictures_the_rest_is_counted(tmp_path: Path) -> None:
    result = told([picture(tmp_path, str(number)) for number in range(25)])
    assert (len(result["pictures"]), result["pictures_left_out"]) == (20, 5)
