"""Files and directories that other processes make and remove at the same time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from python_mcp_server.atomic import make_directory, write_file


def test_a_file_is_written_although_its_directory_comes_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tries, make = list[str](), os.mkdir

    def made_and_removed_by_another(path: str, mode: int) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise FileExistsError(path)
        make(path, mode)

    monkeypatch.setattr(os, "mkdir", made_and_removed_by_another)
    write_file(str(tmp_path / "queue" / "entry"), b"x")
    assert (tmp_path / "queue" / "entry").read_bytes() == b"x"


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path):
    (tmp_path / "queue").touch()
    with pytest.raises(NotADirectoryError, match="queue"):
        make_directory(str(tmp_path / "queue"))
