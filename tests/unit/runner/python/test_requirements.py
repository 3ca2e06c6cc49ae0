"""When an environment is no longer what a requirements file says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.python.requirements import FilePackages, local_path, stamp


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A requirements file that includes others, relative to themselves."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "more.txt").write_text("--constraint=../limits.txt\nb\n", "utf-8")
    (tmp_path / "limits.txt").write_bytes("-r requirements.txt\r\n-r base.txt\r\n".encode("utf-16"))
    (tmp_path / "base.txt").write_text("c\n", "utf-8")
    file = tmp_path / "requirements.txt"
    file.write_bytes(b'\xef\xbb\xbfa==1 \\\r\n  --hash=sha256:00  # why\r\n-r \\\n "sub/more.txt" # more\n')
    return file


@pytest.mark.parametrize("name", ["requirements.txt", "sub/more.txt", "limits.txt", "base.txt"])
def test_a_change_in_a_file_or_in_one_that_it_includes_is_seen(listed: Path, name: str) -> None:
    before = FilePackages.read(listed)
    assert FilePackages.read(listed) == before
    with (listed.parent / name).open("ab") as file:
        file.write(b"\n\n")
    assert FilePackages.read(listed).facts != before.facts


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        FilePackages.read(tmp_path / "gone.txt")
    assert str(refused.value) == (
        f"{tmp_path / 'gone.txt'} cannot be read: No such file or directory; "
        "correct it, or run a script without it by use_uv=false"
    )


def test_an_included_file_that_is_missing_is_seen_when_it_comes(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("-c later.txt\n", "utf-8")
    before = FilePackages.read(file)
    (tmp_path / "later.txt").write_text("a<2\n", "utf-8")
    assert FilePackages.read(file).facts != before.facts


def test_two_places_have_environments_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "requirements.txt").write_text("six\n", "utf-8")
    a, b = (FilePackages.read(tmp_path / name / "requirements.txt") for name in ("a", "b"))
    assert a.facts != b.facts


@pytest.mark.parametrize(
    ("requirement", "path"),
    [
        ("six>=1.5,<2 ; python_version > '3'", None),
        ("name @ https://example.org/x.whl", None),
        ("git+ssh://git@example.org/x.git", None),
        (".", "."),
        ("./lib[extra] ; python_version > '3'", "lib"),
        ("../lib", "../lib"),
        ("libs/own", "libs/own"),
        ("x-1.0-py3-none-any.whl", "x-1.0-py3-none-any.whl"),
        ("name @ ./lib", "lib"),
        ("name[a,b]@file:///else/where%20x#egg=name", "/else/where x"),
        ("file:lib", "lib"),
    ],
)
def test_a_package_on_this_machine_is_told_from_others(
    requirement: str, path: str | None, tmp_path: Path
) -> None:
    assert local_path(requirement, tmp_path) == (None if path is None else tmp_path / path)


def test_directories_are_installed_again_unless_they_are_editable(tmp_path: Path) -> None:
    for name in ("lib", "live", "limit"):
        (tmp_path / name).mkdir()
    (tmp_path / "limits.txt").write_text("limit @ ./limit\n", "utf-8")
    file = tmp_path / "requirements.txt"
    file.write_text("six\n-c limits.txt\n-e ./live\n./lib --hash=sha256:0\n./gone.whl\n", "utf-8")
    assert FilePackages.read(file).directories == ("./lib",)


def test_of_a_directory_counts_what_a_package_is_built_from(tmp_path: Path) -> None:
    package = tmp_path / "own"
    for folder in (package / "data", tmp_path / "build", tmp_path / ".git", tmp_path / "env"):
        folder.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    seen = {stamp(tmp_path)}
    for name in ("out.csv", "build/x.py", ".git/x.py", "env/x.py", "__pycache__"):
        (tmp_path / name).touch()
        seen.add(stamp(tmp_path))
    assert len(seen) == 1
    for name in ("own/data/page.html", "module.py", "setup.cfg", "requirements.txt"):
        (tmp_path / name).touch()
        seen.add(stamp(tmp_path))
    assert len(seen) == 5


def test_of_an_editable_package_counts_what_describes_it(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    before = stamp(tmp_path, editable=True)
    (tmp_path / "module.py").touch()
    assert stamp(tmp_path, editable=True) == before
    os.utime(tmp_path / "pyproject.toml", (1, 1))
    assert stamp(tmp_path, editable=True) != before


@pytest.mark.parametrize("size", [0, 400_000])
def test_more_included_files_than_a_project_has_are_refused(tmp_path: Path, size: int) -> None:
    count = 2_000 if size == 0 else 3
    file = tmp_path / "requirements.txt"
    file.write_text("".join(f"-r part{number}.txt\n" for number in range(count)))
    for number in range(count if size else 0):
        (tmp_path / f"part{number}.txt").write_bytes(b"#" * size)
    with pytest.raises(InvalidInput, match="includes too much: it may be 1000 files of 1 MiB together"):
        FilePackages.read(file)
