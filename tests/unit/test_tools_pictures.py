"""What a result says of pictures, and which of them are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from python_mcp_server.runner.pictures import Picture
from python_mcp_server.settings import Settings
from python_mcp_server.tools.pictures import add_pictures


def told(found: list[Picture], **settings: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    add_pictures(cast("Any", result), found, Settings(**settings))
    return result


def picture(folder: Path, name: str, size: int = 10, kind: str = "image/png", **more: Any) -> Picture:
    path = folder / name
    path.write_bytes((name.encode() + bytes(size))[:size])
    return Picture(path, kind, size, **more)


def attached(result: dict[str, Any]) -> list[str]:
    return [Path(each["path"]).name for each in result["pictures"] if each["attached"]]


def test_no_picture_is_not_mentioned() -> None:
    assert told([]) == {}


def test_the_first_few_are_sent_as_far_as_there_is_room_and_all_are_named(tmp_path: Path) -> None:
    sizes = {"a": 100, "b": 900, "c": 300, "d": 10, "e": 10}
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


def test_a_figure_that_was_shown_and_saved_is_listed_once(tmp_path: Path) -> None:
    first = picture(tmp_path, "a")
    again = tmp_path / "again"
    again.write_bytes(first.path.read_bytes())
    assert len(told([first, Picture(again, "image/png", 10)])["pictures"]) == 1


def test_of_very_many_pictures_the_rest_is_counted(tmp_path: Path) -> None:
    result = told([picture(tmp_path, str(number)) for number in range(25)])
    assert (len(result["pictures"]), result["pictures_left_out"]) == (20, 5)
