"""`clean` shows what lies in the home, and removes only what nothing needs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from python_mcp_server.atomic import remove_tree
from python_mcp_server.cli import clean as module
from python_mcp_server.cli import main
from python_mcp_server.cli.clean import disk_bytes
from python_mcp_server.tools.saved import save_script

YEARS = 10**8


@pytest.fixture
def full(home: Path) -> Path:
    """A home with one old thing of each kind, and one of each that is needed."""
    for name in (
        "environments/old/bin/python",
        "environments/new/bin/python",
        "jobs/damaged/x.json",
        "logs/server.log",
        "logs/server.log.1",
        "scripts/here.py",
        "scripts/.versions/here/1.py",
        "scripts/.versions/gone/1.py",
        "output/ab/job/stdout",
    ):
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x" * 10_000, "utf-8")
    for name in ("environments/old", "jobs/damaged/x.json", "logs/server.log.1", "logs/server.log"):
        os.utime(home / name, (YEARS, YEARS))
    os.utime(home / "scripts/.versions/gone", (YEARS, YEARS))
    return home


def clean(*words: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["clean", *words])
    assert end.value.code == 0


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def test_nothing_is_removed_where_nobody_is_asked(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(full)
    clean()
    shown = capsys.readouterr().out
    assert "1 not used for 30 days: 0.0 MB" in shown
    assert shown.endswith("Nothing was removed; --yes removes it.\n")
    clean("--json")
    told = json.loads(capsys.readouterr().out)
    assert told["removed"] is False
    assert [len(part["removable"]) for part in told["parts"]] == [1, 1, 0, 1, 1]
    assert files(full) == before


def test_what_nothing_needs_goes_and_the_rest_stays(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean("--yes")
    assert "freed." in capsys.readouterr().out
    assert files(full) - {"environments/old.lock"} == {
        "environments/new/bin/python",
        "logs/server.log",
        "scripts/here.py",
        "scripts/.versions/here/1.py",
        "output/ab/job/stdout",
    }
    clean("--yes")
    assert capsys.readouterr().out.endswith("Nothing needs to be removed.\n")


def test_what_is_used_again_while_the_question_waits_stays(
    full: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("jobs/damaged/x.json", "environments/old"):
        (full / name).rename(full / "elsewhere")
        remove_tree(str(full / "elsewhere"))

    def agree_after_a_while() -> bool:
        save_script("gone", "print(1)")
        (full / "logs/server.log.1").write_text("rotated just now", "utf-8")
        return True

    monkeypatch.setattr(module, "_agreed", agree_after_a_while)
    clean()
    assert capsys.readouterr().out.endswith("\n0.0 MB freed.\n")
    assert {"scripts/.versions/gone/1.py", "scripts/.versions/gone/2.py", "logs/server.log.1"} < files(full)


@pytest.mark.parametrize(
    ("days", "words"),
    [("0", "not in use"), ("0.125", "not used for 3 hours"), ("30", "not used for 30 days")],
)
def test_the_time_without_use_reads_as_people_write_it(
    full: Path, capsys: pytest.CaptureFixture[str], days: str, words: str
) -> None:
    clean("--older-than", days)
    assert f" {words}: " in capsys.readouterr().out


def test_environments_beyond_a_size_go_those_used_longest_ago_first(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for hours, name in enumerate("abcd", 1):
        venv = home / "environments" / name
        venv.mkdir(parents=True)
        (venv / "big").write_bytes(bytes(1_000_000))
        then = time.time() - hours * 3600
        os.utime(venv, (then, then))
    clean("--yes", "--environments-mb", "100")
    assert capsys.readouterr().out.endswith("Nothing needs to be removed.\n")
    clean("--yes", "--environments-mb", "2.5")
    assert {path.name for path in (home / "environments").iterdir() if path.is_dir()} == {"a", "b"}
    clean("--yes", "--environments-mb", "0")
    assert not [path for path in (home / "environments").iterdir() if path.is_dir()]


def test_a_home_that_does_not_exist_is_clean(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean("--yes", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (told["removed"], {part["bytes"] for part in told["parts"]}) == (False, {0})
    assert not home.exists()


def test_a_file_with_a_name_elsewhere_is_not_counted_as_freed(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(bytes(100_000))
    venv = tmp_path / "venv"
    venv.mkdir()
    empty = disk_bytes([venv])
    os.link(tmp_path / "cache", venv / "a")
    os.link(tmp_path / "cache", venv / "b")
    assert disk_bytes([venv]) - empty == disk_bytes([tmp_path / "cache"]) > 0
    assert disk_bytes([venv], freed=True) == empty
    (tmp_path / "cache").unlink()
    assert disk_bytes([venv], freed=True) == disk_bytes([venv])
    (venv / "away").symlink_to(tmp_path)
    assert disk_bytes([venv, tmp_path / "missing"]) < 2 * disk_bytes([venv / "a"]) + empty
