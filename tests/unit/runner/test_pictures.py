"""Pictures that a script leaves in its directory, and the environment that lets it show figures."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from python_mcp_server.runner import pictures
from python_mcp_server.runner.pictures import Picture, content_of, kind_of, saved_in, shown_in, with_backend
from tests.helpers.fake_matplotlib import PNG, PNG_END

JPEG = b"\xff\xd8\xff\xe0"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'


def write(path: Path, data: bytes = PNG, age_s: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    written = time.time() - age_s
    os.utime(path, (written, written))
    return path


def now_ns() -> int:
    return time.time_ns()


def test_new_pictures_are_found_two_levels_deep_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_LOOK_S", 60.0)
    since = now_ns() - 60_000_000_000
    expected = [
        write(tmp_path / "c.png", age_s=30),
        write(tmp_path / "a" / "b" / "x.JPG", JPEG, age_s=20),
        write(tmp_path / "v.svg", SVG, age_s=10),
    ]
    write(tmp_path / "old.png", age_s=90)
    write(tmp_path / "a" / "b" / "c" / "deep.png")
    write(tmp_path / "text.png", b"no picture")
    write(tmp_path / "notes.txt")
    for passed_over in (".cache", "__pycache__", "node_modules", "env"):
        write(tmp_path / passed_over / "x.png")
    write(tmp_path / "env" / "pyvenv.cfg", b"")
    (tmp_path / "link.png").symlink_to(tmp_path / "c.png")
    found = saved_in(tmp_path, since)
    assert [picture.path for picture in found] == expected
    assert [picture.mime_type for picture in found] == ["image/png", "image/jpeg", "image/svg+xml"]
    assert found[0].size_bytes == len(PNG)


def test_a_time_that_the_file_system_cut_to_seconds_counts_as_since(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    second_ns = now_ns() // 1_000_000_000 * 1_000_000_000
    os.utime(path, ns=(second_ns, second_ns))
    assert saved_in(tmp_path, second_ns + 900_000_000)
    assert not saved_in(tmp_path, second_ns + 2_100_000_000)


def test_the_look_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        write(tmp_path / f"{number}.png")
    below = write(tmp_path / "a" / "b.png")
    monkeypatch.setattr(pictures, "_LOOK_S", 60.0)
    assert below in [picture.path for picture in saved_in(tmp_path, 0)]
    monkeypatch.setattr(pictures, "_LOOK_S", -1.0)
    assert len(saved_in(tmp_path, 0)) == 20
    monkeypatch.setattr(pictures, "_MOST_ENTRIES", 7)
    assert len(saved_in(tmp_path, 0)) <= 7
    assert saved_in(tmp_path / "gone", 0) == []


def test_figures_come_in_the_order_in_which_they_were_shown(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        write(tmp_path / f"figure-{number}.png")
    small = write(tmp_path / "figure-9-small.png")
    write(tmp_path / "figure-2.png", b"")  # its saving failed
    assert shown_in(tmp_path) == [
        Picture(tmp_path / "figure-1.png", "image/png", 8),
        Picture(tmp_path / "figure-9.png", "image/png", 8, small),
        Picture(tmp_path / "figure-10.png", "image/png", 8),
    ]
    assert shown_in(tmp_path / "gone") == []


def test_what_else_a_script_leaves_where_figures_go_is_passed_over(tmp_path: Path) -> None:
    first = write(tmp_path / "figure-1.png")
    for name in ("figure-x1.png", "figure-\u00b25.png", "figure-.png", "figure-07.png", "xfigure-1.png"):
        write(tmp_path / name)
    (tmp_path / "figure-1-small.png").mkdir()
    os.mkfifo(tmp_path / "figure-3.png")
    assert shown_in(tmp_path) == [Picture(first, "image/png", 8)]


@pytest.mark.parametrize(
    "whole",
    [PNG + b"x" + PNG_END, JPEG + b"x\xff\xd9", b"GIF89a..;", b"RIFF\x08\0\0\0WEBPVP8 "],
)
def test_a_pictures_content_is_all_of_it_or_nothing(tmp_path: Path, whole: bytes) -> None:
    path = write(tmp_path / "a", whole)
    assert content_of(path, len(whole)) == whole
    assert content_of(path, len(whole) - 1) == b""
    assert content_of(write(path, whole + b"\n"), 100) == whole + b"\n"
    assert content_of(write(path, whole[:-1]), 100) == b""
    assert content_of(tmp_path / "gone", 100) == b""


@pytest.mark.parametrize(
    ("head", "kind"),
    [(PNG, "image/png"), (JPEG, "image/jpeg"), (b"GIF89a..", "image/gif"), (SVG, "image/svg+xml"),
     (b"RIFF....WEBPVP8 ", "image/webp"), (b"RIFF....WAVE", None), (b"", None), (b"text", None)],
)  # fmt: skip
def test_the_kind_of_a_picture_is_read_from_its_first_bytes(head: bytes, kind: str | None) -> None:
    assert kind_of(head) == kind


def test_the_backend_comes_last_in_the_path_and_yields_to_a_given_one(
    tmp_path: Path,
) -> None:
    env = with_backend({"PYTHONPATH": "mine", "MPLBACKEND": "Qt5Agg"}, {}, tmp_path, tmp_path)
    mine, ours = env["PYTHONPATH"].split(os.pathsep)
    assert mine == "mine"
    assert env["MPLBACKEND"] == "module://python_mcp_pictures"
    assert (Path(ours) / "python_mcp_pictures.py").is_file()
    given = {"MPLBACKEND": "Agg"}
    assert with_backend(given, given, tmp_path, tmp_path) == given
