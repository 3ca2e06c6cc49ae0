"""Saving and listing scripts."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from python_mcp_server.errors import InvalidInput, StoreError
from python_mcp_server.runner.python.pep723 import parse_header
from python_mcp_server.tools.call import stored
from python_mcp_server.tools.saved import list_scripts, remove_history, run_saved_script, save_script
from python_mcp_server.tools.scripts import existing_directory, existing_script, one_of


def texts(history: Path) -> list[str]:
    """What the versions of a script are, oldest first."""
    return [path.read_text("utf-8") for path in sorted(history.iterdir(), key=lambda path: int(path.stem))]


def test_a_saved_script_is_private_listed_and_has_its_header(home: Path) -> None:
    saved = save_script("report", '"""First\nparagraph.\n\nSecond."""\nprint(1)\n', ["six"], ">=3.11")
    path = home / "scripts" / "report.py"
    assert saved == {"written": True, "path": str(path), "message": "saved as 'report'", "version": 1}
    assert [p.stat().st_mode & 0o777 for p in (home, path.parent, path)] == [0o700, 0o700, 0o600]
    assert list_scripts() == {
        "scripts": [
            {
                "name": "report",
                "path": str(path),
                "docstring": "First paragraph.",
                "header": {"requires-python": ">=3.11", "dependencies": ["six"]},
                "version": 1,
                "versions": [1],
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
    assert sorted(p.name for p in path.parent.iterdir()) == [".versions", "a.py"]


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


def test_a_script_that_cannot_be_written_is_a_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("python_mcp_server.atomic.os.write", full)
    with pytest.raises(StoreError, match=str(home / "scripts")):
        save_script("a", "x = 1\n")


def test_a_save_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("python_mcp_server.atomic.os.link", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_script("a", "x = 1\n", directory=str(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_of_many_concurrent_saves_of_one_name_one_wins(home: Path) -> None:
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
    assert texts(home / "scripts" / ".versions" / "a") == [(home / "scripts" / "a.py").read_text("utf-8")]


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


def test_a_script_with_a_syntax_error_is_saved_and_listed_with_a_warning() -> None:
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


@pytest.mark.parametrize("source", ["", " \n"])
def test_an_empty_script_is_not_saved(source: str) -> None:
    with pytest.raises(InvalidInput, match=r"^source is empty; give the code of the script$"):
        save_script("empty", source)


@pytest.mark.parametrize(
    ("given", "taken"),
    [(("a.py", None), ("a.py", None)), (("a.py", " "), ("a.py", None)), (("", "x"), (None, "x"))],
)
def test_an_empty_path_or_content_beside_the_other_counts_as_not_given(
    given: tuple[str | None, str | None], taken: tuple[str | None, str | None]
) -> None:
    assert one_of(*given) == taken


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((None, None), "exactly one of script_path and script_content is needed; neither was given"),
        (("a.py", "x"), "exactly one of .* is needed; both were given \\(script_path 'a.py'\\)"),
        ((None, " \n"), "script_content is empty; give code as script_content, or a file as script_path"),
        (("", None), "script_path is empty; give code as script_content, or a file as script_path"),
    ],
)
def test_a_script_that_is_empty_or_not_one_is_refused(
    given: tuple[str | None, str | None], sentence: str
) -> None:
    with pytest.raises(InvalidInput, match=f"^{sentence}$"):
        one_of(*given)


def test_an_empty_directory_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="directory is ''"):
        existing_directory("")


def test_a_path_that_no_file_can_have_is_refused_as_one_that_is_missing(tmp_path: Path) -> None:
    for path in ("x" * 5000, "~nobody-of-this-name/x"):
        with pytest.raises(InvalidInput, match="is no directory"):
            existing_directory(path)
        with pytest.raises(InvalidInput, match="is no file"):
            existing_script(path, tmp_path)


def test_a_byte_order_mark_or_encoding_comment_changes_no_text(
    home: Path,
) -> None:
    saved = save_script("a", "\ufeff# coding: latin-1\nprint('\u00e9')\n")
    assert saved["message"] == "saved as 'a'"
    path = home / "scripts" / "a.py"
    assert path.read_bytes() == "# coding: utf-8\nprint('\u00e9')\n".encode()
    path.write_text("\ufeff# /// script\n# dependencies = []\n# ///\n", "utf-8")
    listed = list_scripts()["scripts"][0]
    assert (listed.get("problem"), listed["header"]) == (None, {"requires-python": None, "dependencies": []})


def test_what_is_replaced_stays_as_a_version_also_what_was_edited_by_hand(home: Path) -> None:
    path = home / "scripts" / "a.py"
    numbers = [save_script("a", f"x = {n}\n", overwrite=True).get("version") for n in (1, 2)]
    path.write_text("x = 'edited'\n", "utf-8")
    assert "version" not in list_scripts()["scripts"][0]
    numbers.append(save_script("a", "x = 3\n", overwrite=True).get("version"))
    assert numbers == [1, 2, 4]
    assert texts(path.parent / ".versions" / "a") == ["x = 1\n", "x = 2\n", "x = 'edited'\n", "x = 3\n"]
    listed = list_scripts()["scripts"][0]
    assert (listed.get("version"), listed.get("versions")) == (4, [1, 2, 3, 4])
    modes = {p.stat().st_mode & 0o777 for p in (path.parent / ".versions").rglob("*.py")}
    assert modes == {0o600}


def test_a_script_without_a_history_becomes_its_first_version(home: Path) -> None:
    save_script("a", "x = 1\n")
    shutil.rmtree(home / "scripts" / ".versions")
    assert save_script("a", "x = 2\n", overwrite=True).get("version") == 2
    assert texts(home / "scripts" / ".versions" / "a") == ["x = 1\n", "x = 2\n"]


def test_saving_a_known_text_again_makes_no_new_version() -> None:
    for source, version in (("x = 1\n", 1), ("x = 2\n", 2), ("x = 2\n", 2), ("x = 1\n", 1)):
        assert save_script("a", source, overwrite=True).get("version") == version
    assert list_scripts()["scripts"][0].get("versions") == [1, 2]


def test_the_history_is_bounded_and_numbers_are_never_used_again() -> None:
    for number in range(23):
        save_script("a", f"x = {number}\n", overwrite=True)
    assert list_scripts()["scripts"][0].get("versions") == list(range(4, 24))


def test_no_concurrent_replacement_of_a_script_is_lost(home: Path) -> None:
    save_script("a", "x = 'first'\n")
    sources = [f"x = {number}\n" for number in range(8)]
    barrier = threading.Barrier(len(sources))

    def save(source: str) -> None:
        barrier.wait()
        assert save_script("a", source, overwrite=True)["written"]

    threads = [threading.Thread(target=save, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = texts(home / "scripts" / ".versions" / "a")
    assert set(kept) == {"x = 'first'\n", *sources}
    assert (home / "scripts" / "a.py").read_text("utf-8") in sources


def test_an_earlier_version_runs_as_if_it_were_the_script() -> None:
    save_script("neighbour", "OFFSET = 10\n")
    for number in (1, 2):
        save_script("a", f"import neighbour; print(neighbour.OFFSET + {number})\n", overwrite=True)
    assert [run_saved_script("a", version=v)["stdout"] for v in (None, 1)] == ["12\n", "11\n"]
    with pytest.raises(InvalidInput, match="'a' has no version 3; there are 1, 2"):
        run_saved_script("a", version=3)


def test_where_files_cannot_be_linked_they_are_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert save_script("a", "x = 1\n")["written"]
    assert not save_script("a", "x = 2\n")["written"]
    assert (home / "scripts" / "a.py").read_text("utf-8") == "x = 1\n"


def test_a_project_has_scripts_of_its_own_which_run_in_it(tmp_path: Path, home: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / ".env").write_text("WHO=project\n", "utf-8")
    source = "import os; print(os.getcwd(), os.environ['WHO'])\n"
    saved = save_script("where", source, directory=str(project))
    path = project / "scripts" / "where.py"
    assert saved["path"] == str(path)
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert (project / "scripts" / ".versions" / ".gitignore").read_text("utf-8") == "*\n"
    assert run_saved_script("where", directory=str(project))["stdout"] == f"{project} project\n"
    assert [s["name"] for s in list_scripts(str(project))["scripts"]] == ["where"]
    assert list_scripts()["scripts"] == []
    with pytest.raises(InvalidInput, match="directory '/none' is no directory"):
        save_script("a", "x = 1\n", directory="/none")


def test_the_place_of_saved_scripts_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_MCP_SCRIPTS_DIR", str(tmp_path / "mine"))
    assert save_script("a", "x = 1\n")["path"] == str(tmp_path / "mine" / "a.py")


def test_text_that_is_no_unicode_is_refused(home: Path) -> None:
    with pytest.raises(InvalidInput, match="half of a character, at position 5"):
        save_script("a", "x = '\ud800'\n")
    assert not home.exists()


def current_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def test_versions_that_are_removed_while_their_script_is_saved_stay(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("first", "second"):
        save_script("x", f"# {text}", overwrite=True)
    script, history = home / "scripts" / "x.py", home / "scripts" / ".versions" / "x"
    script.unlink()
    rename = Path.rename

    def save_and_rename(path: Path, target: Path) -> Path:
        if path == history:
            script.write_text("# saved", "utf-8")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", save_and_rename)
        remove_history(history)
    assert [(history / f"{number}.py").read_text("utf-8") for number in (1, 2)] == ["# first", "# second"]
    assert os.listdir(history.parent) == ["x"]
    remove_history(history)
    assert history.exists()
    script.unlink()
    remove_history(history)
    assert os.listdir(history.parent) == []
