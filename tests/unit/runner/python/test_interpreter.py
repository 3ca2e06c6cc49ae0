"""Which Python, which time limit, which uv: what is decided before anything starts."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput, ToolchainError
from python_mcp_server.runner.child import Session, deadline_after
from python_mcp_server.runner.command import Interpreter, interpreter_in_directory
from python_mcp_server.runner.python import uv as uv_module
from python_mcp_server.runner.python.interpreter import check_request, is_own, own_version
from python_mcp_server.runner.python.project import Project, find_project

SHORT = f"{sys.version_info[0]}.{sys.version_info[1]}"


def interpreter(directory: Path, *, use_uv: bool = True) -> Interpreter:
    uv = uv_module.Uv(Session(directory, directory / "home", "a-job", {}))
    return interpreter_in_directory(uv, directory, None, use_uv=use_uv, python_version=None)


@pytest.mark.parametrize("request_", ["3", SHORT, own_version(), f">={SHORT}", f"=={SHORT}.*"])
def test_this_interpreter_serves_a_request_that_it_meets(request_: str) -> None:
    check_request(request_)
    assert is_own(request_)


@pytest.mark.parametrize("request_", ["3.1", "2.7", f"<{SHORT}", "pypy3.10", f"{own_version()}1"])
def test_this_interpreter_does_not_serve_another_version(request_: str) -> None:
    check_request(request_)
    assert not is_own(request_)


NO_VERSIONS: list[Any] = [
    *("", "three", "-3.12", "3.12 ; rm", ">=three", "../python", 3.12),
    *("99", "1.5", "4.0", "3.1234", "312.1", "3.\u0661", "cpython-99", ">=4", "==99.*", ">=3.8,>10"),
]


@pytest.mark.parametrize("wrong", NO_VERSIONS)
def test_what_is_no_version_is_refused_by_value(wrong: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_request(wrong)
    assert repr(wrong) in str(refused.value)


@pytest.mark.parametrize(
    "request_", ["2", "27", "313t", "3.14.0rc1", "cpython@3.12", "graalpy", "<4", "!=5", ">=3,<99"]
)
def test_what_may_be_a_version_is_not_refused(request_: str) -> None:
    check_request(request_)


@pytest.mark.parametrize("wrong", [-1, -0.5, math.nan, "5", None, True])
def test_an_invalid_time_limit_is_refused_by_value(wrong: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        deadline_after(wrong)
    assert f"timeout_seconds is {wrong!r}" in str(refused.value)


def test_a_time_limit_of_zero_is_no_limit() -> None:
    assert deadline_after(0) is None
    assert deadline_after(math.inf) is None
    limit = deadline_after(100)
    assert limit is not None
    assert limit > time.monotonic()


def test_a_missing_uv_is_a_sentence_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match="pip install uv"):
        uv_module.find_uv()


def test_uv_on_the_path_serves_where_its_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o700)
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert uv_module.find_uv() == str(program)


def test_an_error_of_uv_becomes_one_line() -> None:
    stderr = """warning: Failed to inspect something
  cause: of no interest
error: No solution found when resolving dependencies
  cause: Because nothing was found in the
         registry, we can conclude that your requirements are unsatisfiable.
"""
    assert uv_module.sentence(stderr) == "nothing was found in the registry."


def test_the_markers_below_an_error_of_uv_are_left_out() -> None:
    stderr = """error: Couldn't parse requirement in `r.txt` at position 0
  cause: Expected `@`, found `i`
         this is wrong
              ^^
"""
    assert uv_module.sentence(stderr) == (
        "Couldn't parse requirement in `r.txt` at position 0; Expected `@`, found `i` this is wrong"
    )


def test_a_refusal_of_uv_never_is_an_empty_sentence() -> None:
    assert uv_module.sentence("") == "uv ended without saying why"


def test_a_plain_directory_belongs_to_no_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\n", "utf-8")
    assert find_project(tmp_path) is None


def test_a_project_is_found_up_to_the_root_of_its_repository(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname='p'\nrequires-python='>=3.9'\n", "utf-8")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find_project(inner) is None
    (tmp_path / ".git").mkdir()
    project = find_project(inner)
    assert project is not None
    assert (project.root, project.managed, project.requires_python) == (tmp_path, True, ">=3.9")
    (inner / ".git").mkdir()
    assert find_project(inner) is None


def test_the_nearest_folder_with_a_python_project_decides(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]\nname='p'\n", "utf-8")
    inner = tmp_path / "tool" / "inner"
    inner.mkdir(parents=True)
    listed = tmp_path / "tool" / "requirements.txt"
    listed.touch()
    assert find_project(inner) == Project(tmp_path / "tool", requirements=listed)
    assert find_project(tmp_path) == Project(tmp_path, managed=True)


def test_requirements_come_after_projects_and_environments(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("version = 3.1.0\n", "utf-8")
    beside = interpreter(tmp_path)
    assert (beside.detail, beside.words) == (f"the environment {tmp_path / '.venv'}", beside.detail)
    (tmp_path / "pyproject.toml").write_text("[tool.uv]\nmanaged = false\n[project]\nname='p'\n", "utf-8")
    assert interpreter(tmp_path).detail == beside.detail
    (tmp_path / "pyproject.toml").write_text("[project]\nname='p'\n", "utf-8")
    found = find_project(tmp_path)
    assert found is not None
    assert (found.managed, found.requirements) == (True, None)


def test_without_uv_requirements_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("no-such-package\n", "utf-8")
    assert interpreter(tmp_path, use_uv=False).strategy == "system-python"


def test_a_directory_of_that_name_is_no_list_of_requirements(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "requirements.txt").symlink_to("nowhere")
    assert find_project(tmp_path) is None
    assert find_project(tmp_path / "sub") is None


PROJECT = b'[project]\nname = "p"\nrequires-python = ">=3.9"\n'
BROKEN: list[tuple[bytes, str]] = [
    (b"[project\n", "Expected ']' at the end of a table declaration (at line 1, column 9)"),
    (PROJECT + b"# caf\xe9\n", "line 4 is not UTF-8"),
    (PROJECT.decode().encode("utf-16") + b"\x00", "line 4 is not UTF-16"),
    (b"[project]\r\n<<<<<<< HEAD\r\nname='p'\r\n", "line 2 is left of a merge ('<<<<<<< HEAD')"),
    (PROJECT + b"\0", "Invalid statement (at line 4, column 1)"),
    (b"a = " + b"[" * 100_000, "maximum recursion depth exceeded"),
    (b"a = 1" + b"0" * 5000, "Exceeds the limit (4300 digits)"),
    (b"#" * ((1 << 20) + 1), "it is larger than 1 MiB"),
]


@pytest.mark.parametrize(("data", "why"), BROKEN, ids=[why for _, why in BROKEN])
def test_a_broken_project_is_refused_and_ignored_without_uv(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "pyproject.toml").write_bytes(data)
    with pytest.raises(InvalidInput) as refused:
        interpreter(tmp_path / "sub")
    start = f"{tmp_path / 'pyproject.toml'} cannot be read: {why}"
    assert str(refused.value).startswith(start)
    assert str(refused.value).endswith("; correct it, or run a script without it by use_uv=false")
    assert "\n" not in str(refused.value)
    without = interpreter(tmp_path / "sub", use_uv=False)
    assert without.detail.endswith("(use_uv is false, and what a pyproject.toml asks for cannot be read)")


@pytest.mark.skipif(sys.platform != "linux", reason="a file that cannot be read by anybody is in /proc")
def test_a_project_that_the_system_cannot_read_is_refused_by_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").symlink_to("/proc/self/mem")
    with pytest.raises(InvalidInput, match=r"pyproject\.toml cannot be read: Input/output error; correct it"):
        find_project(tmp_path)
    assert interpreter(tmp_path, use_uv=False).strategy == "system-python"


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf" + PROJECT, PROJECT.replace(b"\n", b"\r\n")])
def test_a_project_with_a_mark_or_windows_line_ends_is_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(data)
    found = find_project(tmp_path)
    assert found is not None
    assert (found.managed, found.requires_python) == (True, ">=3.9")


def test_a_directory_named_like_a_project_file_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").mkdir()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "pyvenv.cfg").write_bytes(b"home = /caf\xe9\nversion = 3.1.0\n")
    found = interpreter(tmp_path)
    assert (found.detail, found.version) == (f"the environment {tmp_path / '.venv'}", "3.1.0")
