"""Where a file of the home is written, what is no regular file is refused, and a link leads nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from python_mcp_server import regular
from python_mcp_server.errors import StoreError
from python_mcp_server.regular import NotRegular, open_own, open_regular
from python_mcp_server.runner import inline
from python_mcp_server.runner.child import Session
from python_mcp_server.runner.output import append_line, open_stream
from python_mcp_server.runner.python import environments
from python_mcp_server.runner.python.pep723 import Header
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.store.locks import Locks
from python_mcp_server.tools.batch.journal import locked_idle
from tests.unit.test_regular import bind_socket

pytestmark = pytest.mark.skipif(os.name != "posix", reason="only POSIX has such files")

KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a socket": bind_socket,
    "a directory": Path.mkdir,
    "a link to a file": lambda path: path.symlink_to(path.parent.parent / "precious"),
    "a link to nothing": lambda path: path.symlink_to(path.parent.parent / "made"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
}


def _lock(folder: Path) -> Path:
    with Locks(str(folder), str(folder), 1).hold("lock"):
        return folder / "lock"


def _journal(folder: Path) -> Path:
    with open_stream(folder / "items") as descriptor:
        os.ftruncate(descriptor, 0)
    return folder / "items"


def _batch_lock(folder: Path) -> Path:
    with locked_idle(folder, "j"):
        return folder / "batch.lock"


def _environment_lock(folder: Path) -> Path:
    uv = Uv(Session(folder, folder, "j", {}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environments, "_digest", lambda *_: "../digest")
        patch.setattr(environments, "_make", lambda *_: environments.Environment(folder, (), "3"))
        environments.environment_for(uv, environments.HeaderPackages(Header()), None)
    return folder / "digest.lock"


PLACES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a lock": ("lock", _lock),
    "a journal or an output": ("items", _journal),
    "the lock of a batch": ("batch.lock", _batch_lock),
    "the lock of an environment": ("digest.lock", _environment_lock),
    "the end of a stream": ("stderr", lambda folder: append_line(folder / "stderr", b"the end")),
    "a script of a job": (inline.SCRIPT_NAME, lambda folder: inline.write_script(folder, "x = 1")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_an_odd_file_in_the_home_is_not_written(tmp_path: Path, place: str, kind: str) -> None:
    (home := tmp_path / "home").mkdir()
    (precious := tmp_path / "precious").write_bytes(b"kept" * 50)
    name, write = PLACES[place]
    KINDS[kind](home / name)
    with pytest.raises((NotRegular, IsADirectoryError, StoreError), match=r"regular|directory"):
        write(home)
    assert precious.read_bytes() == b"kept" * 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "precious"]


def test_no_environment_is_made_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_digest", lambda *_: "digest")
    (precious := tmp_path / "elsewhere").mkdir()
    (precious / "file").write_text("kept")
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "digest").symlink_to(precious)
    uv = Uv(Session(tmp_path, tmp_path, "j", {}))
    with pytest.raises(StoreError, match="digest is a symbolic link, which is not followed"):
        environments.environment_for(uv, environments.HeaderPackages(Header()), None)
    assert (precious / "file").read_text() == "kept"


def test_a_file_to_write_is_private_and_blocks(tmp_path: Path) -> None:
    descriptor = open_own(str(tmp_path / "file"), os.O_WRONLY | os.O_CREAT)
    try:
        assert os.get_blocking(descriptor)
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600
    finally:
        os.close(descriptor)


def test_a_link_is_not_followed_where_the_system_has_no_such_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regular, "_NO_FOLLOW", 0)
    (tmp_path / "file").write_bytes(b"kept")
    (link := tmp_path / "link").symlink_to("file")
    with pytest.raises(NotRegular, match="symbolic link"):
        open_regular(str(link), follow=False)
    with pytest.raises(NotRegular, match="symbolic link"):
        open_own(str(link), os.O_WRONLY)
