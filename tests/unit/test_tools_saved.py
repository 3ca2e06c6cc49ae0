"""Saving and listing scripts."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.runner.metadata import parse_header
from python_mcp_server.tools.running import existing_directory, stored
from python_mcp_server.tools.saved import list_scripts, run_saved_script, save_script


def test_a_saved_script_is_private_listed_and_has_its_header(home: Path) -> None:
    saved = save_script("report", '"""First\nparagraph.\n\nSecond."""\nprint(1)\n', ["six"], ">=3.11")
    path = home / "scripts" / "report.py"
    assert saved == {"written": True, "path": str(path), "message": "saved as 'report'"}
    assert [p.stat().st_mode & 0o777 for p in (home, path.parent, path)] == [0o700, 0o700, 0o600]
    assert list_scripts() == {
        "scripts": [
            {
                "name": "report",
                "path": str(path),
                "docstring": "First paragraph.",
                "header": {"requires-python": ">=3.11", "dependencies": ["six"]},
            }
        ]
    }


def test_nothing_saved_is_an_empty_list() -> None:
    assert list_scripts() == {"scripts": []}


def test_an_existing_script_stays_unless_overwriting_is_asked_for(home: Path) -> None:
    path = home / "scripts" / "a.py"
    save_script("a", "x = 1\n")
    refused = save_script("a.py", "x = 2\n")
    assert not refused["written"]
    assert "'a'" in refused["message"]
    assert path.read_text("utf-8") == "x = 1\n"
    assert save_script("a", "x = 3\n", overwrite=True)["written"]
    assert path.read_text("utf-8") == "x = 3\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.py"]


def test_a_directory_in_the_way_is_named(home: Path) -> None:
    (home / "scripts" / "a.py").mkdir(parents=True)
    for overwrite in (False, True):
        with pytest.raises(InvalidInput, match="is a directory; choose another name"):
            save_script("a", "x = 1\n", overwrite=overwrite)


def test_a_file_whose_name_is_not_utf8_is_listed_with_a_problem(home: Path) -> None:
    save_script("good", "x = 1\n")
    with open(os.fsencode(home / "scripts") + b"/caf\xe9.py", "wb") as file:
        file.write(b"x = 1\n")
    good, odd = sorted(list_scripts()["scripts"], key=lambda script: "problem" in script)
    assert (good["name"], "problem" in good) == ("good", False)
    assert odd["name"].encode() == b"caf?"
    assert "not UTF-8" in odd.get("problem", "")


def test_a_disk_that_is_full_is_a_sentence_with_the_path(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(StoreError, match=f"{tmp_path} cannot be written: No space left"), stored(tmp_path):
        raise full
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/elsewhere/file")
    with pytest.raises(PermissionError), stored(tmp_path):
        raise elsewhere


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_script_that_cannot_be_written_is_a_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: object, *_args: object) -> int:
        return os_open("/dev/full", os.O_WRONLY)

    os_open = os.open
    monkeypatch.setattr("python_mcp_server.tools.saved.os.open", full)
    with pytest.raises(StoreError, match=str(home / "scripts")):
        save_script("a", "x = 1\n")


def test_of_many_who_save_one_name_at_once_one_wins(home: Path) -> None:
    written: list[bool] = []
    barrier = threading.Barrier(8)

    def save(number: int) -> None:
        barrier.wait()
        written.append(save_script("a", f"x = {number}\n")["written"])

    threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [False] * 7 + [True]
    assert len(list((home / "scripts").iterdir())) == 1


@pytest.mark.parametrize(
    "name",
    ["", ".py", "..", "../a", "a/b", "a\\b", ".hidden", "/etc/x", "CON", "nul.py", "com1.x", "a\0b", "a\n",
     "a..b", " a", "a ", "-a", "a:b", "x" * 300],
)  # fmt: skip
def test_a_name_that_could_leave_the_directory_is_refused_by_value(home: Path, name: str) -> None:
    for act in (lambda: save_script(name, "x = 1\n"), lambda: run_saved_script(name)):
        with pytest.raises(InvalidInput) as refused:
            act()
        assert f"script_name {name!r}" in str(refused.value)
    assert not home.exists()


def test_a_script_with_a_wrong_dependency_is_not_saved(home: Path) -> None:
    with pytest.raises(InvalidInput, match="'no such thing'"):
        save_script("a", "x = 1\n", ["no such thing"])
    assert not home.exists()


def test_a_script_that_cannot_be_compiled_is_saved_with_a_warning_and_listed_with_it() -> None:
    assert "invalid syntax" in save_script("a", "x = = 1\n")["message"]
    assert "invalid syntax" in list_scripts()["scripts"][0].get("problem", "")


def test_the_header_of_the_source_is_merged_with_what_is_given() -> None:
    source = "# /// script\n# dependencies = ['six']\n# ///\nx = 1\n"
    path = save_script("a", source, ["rich"])["path"]
    header = parse_header(Path(path).read_text("utf-8"))
    assert header is not None
    assert header.dependencies == ("six", "rich")


def test_an_unknown_script_is_refused_with_those_that_are_there() -> None:
    save_script("known", "x = 1\n")
    with pytest.raises(InvalidInput, match="'unknown' is saved; there are known"):
        run_saved_script("unknown")


def test_an_empty_directory_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="directory is ''"):
        existing_directory("")
