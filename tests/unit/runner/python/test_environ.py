"""The environment variables of a child."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.python.environ import child_environment, given_variables


def test_the_file_is_read_and_env_vars_win_over_it(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("A=1\nB='two words'\n# no\nexport C=3\nEMPTY=\nBARE\n", "utf-8")
    given = given_variables({"A": "given"}, "my.env", tmp_path)
    assert given == {"A": "given", "B": "two words", "C": "3", "EMPTY": ""}


def test_the_fallback_is_read_only_without_an_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=fallback\n", "utf-8")
    (tmp_path / "my.env").write_text("B=file\n", "utf-8")
    assert given_variables(None, None, tmp_path, tmp_path / ".env") == {"A": "fallback"}
    assert given_variables(None, "my.env", tmp_path, tmp_path / ".env") == {"B": "file"}
    assert given_variables(None, None, tmp_path, tmp_path / "absent") == {}


def test_a_missing_env_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"env_file 'absent\.env'"):
        given_variables(None, "absent.env", tmp_path)


def test_an_env_file_that_is_no_text_is_refused_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_bytes(b"SECRET=\xff\xfe")
    with pytest.raises(InvalidInput, match=r"my\.env"):
        given_variables(None, "my.env", tmp_path)


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfA=1\nB=2\n", "\ufeffA=1\r\nB=2".encode("utf-16-le"), b"A=1\rB=2\r"]
)
def test_an_env_file_is_read_with_its_mark_and_line_ends(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.env").write_bytes(data)
    assert given_variables(None, "a.env", tmp_path) == {"A": "1", "B": "2"}


def test_only_lf_cr_and_both_end_a_line_of_an_env_file(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A='one\u2028two'\nB=three\x85four\x0cfive\n", "utf-8")
    assert given_variables(None, "a.env", tmp_path) == {"A": "one\u2028two", "B": "three\x85four\x0cfive"}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"A=1\n<<<<<<< mine\nTOKEN=12345\n=======\n", "line 2 is left of a merge ('<<<<<<< mine')"),
        (b"A=1\nTOKEN=12345\xff\n", "line 2 is not UTF-8"),
    ],
)
def test_an_env_file_that_is_damaged_is_refused_by_its_line(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "a.env").write_bytes(data)
    with pytest.raises(InvalidInput) as refused:
        given_variables(None, "a.env", tmp_path)
    assert str(refused.value) == f"env_file {str(tmp_path / 'a.env')!r} cannot be read: {why}"


def test_a_nul_in_an_env_file_is_refused_without_its_value(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_bytes(b"TOKEN=hush\x00hush\n")
    with pytest.raises(InvalidInput, match="NUL character, at 'TOKEN'") as refused:
        given_variables(None, "my.env", tmp_path)
    assert "hush" not in str(refused.value)


def test_a_name_that_no_file_can_have_is_refused_as_one_that_is_missing(tmp_path: Path) -> None:
    for name in ("x" * 5000, "~nobody-of-this-name/x"):
        with pytest.raises(InvalidInput, match="does not exist as a file"):
            given_variables(None, name, tmp_path)


@pytest.mark.parametrize("name", ["", "A=B", "A\0B", 3])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        given_variables({name: "value"}, None, tmp_path)
    assert repr(name.partition("=")[0] if name == "A=B" else name) in str(refused.value)


@pytest.mark.parametrize("value", [12345, None, "12345\0"])
def test_a_wrong_value_is_refused_without_being_shown(tmp_path: Path, value: Any) -> None:
    with pytest.raises(InvalidInput, match="TOKEN") as refused:
        given_variables({"TOKEN": value}, None, tmp_path)
    assert "12345" not in str(refused.value)


def test_private_variables_stay_here_and_the_job_id_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_MCP_MAX_WORKERS", "3")
    monkeypatch.setenv("LOKY_MAX_DEPTH", "3")
    env = child_environment({}, "the-job", own=True)
    assert env["PYTHON_MCP_JOB_ID"] == "the-job"
    assert not [
        name for name in env if name.startswith(("LOKY_", "PYTHON_MCP_")) and name != "PYTHON_MCP_JOB_ID"
    ]


def test_another_interpreter_does_not_see_our_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "/ours")
    assert "/ours" not in child_environment({}, "j", own=False).values()
    assert child_environment({}, "j", own=True)["PYTHONPATH"] == "/ours"
    assert child_environment({"PYTHONPATH": "/theirs"}, "j", own=False)["PYTHONPATH"] == "/theirs"
    env = child_environment({"PATH": "/theirs"}, "j", own=False, venv=tmp_path)
    assert env["VIRTUAL_ENV"] == str(tmp_path)
    assert env["PATH"] == f"{tmp_path}/bin:/theirs"


def test_output_is_live_and_utf8_unless_the_caller_says_otherwise() -> None:
    env = child_environment({}, "j", own=True)
    assert (env["PYTHONUNBUFFERED"], env["PYTHONIOENCODING"]) == ("1", "utf-8")
    assert child_environment({"PYTHONUNBUFFERED": ""}, "j", own=True)["PYTHONUNBUFFERED"] == ""


def test_a_reference_in_an_env_file_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("A=1\nB=${A}$A\n")
    assert given_variables(None, "my.env", tmp_path) == {"A": "1", "B": "1$A"}


def test_an_env_file_of_more_lines_than_a_program_reads_is_refused(tmp_path: Path) -> None:
    most = "".join(f"V{number}=$x\n" for number in range(10_000))
    (tmp_path / "my.env").write_text(most)
    assert len(given_variables(None, "my.env", tmp_path)) == 10_000
    (tmp_path / "my.env").write_text(most + "ONE=more")
    with pytest.raises(InvalidInput) as refused:
        given_variables(None, "my.env", tmp_path)
    assert str(refused.value) == (
        f"env_file {str(tmp_path / 'my.env')!r} has 10001 lines; it may have up to 10000"
    )
