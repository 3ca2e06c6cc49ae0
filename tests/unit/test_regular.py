"""What is no regular file is refused at once, with a sentence, wherever a file is read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from python_mcp_server.atomic import read_file, remove_tree
from python_mcp_server.errors import InvalidInput
from python_mcp_server.processes.host import is_shortage
from python_mcp_server.regular import NotRegular, open_regular, read_regular
from python_mcp_server.runner.textfile import read_bytes
from tests.helpers.programs import python

MOST = 1 << 20


def bind_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as own:  # the name of a socket is short
            own.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "a named pipe, no regular file"),
    "a socket": (bind_socket, "a socket, no regular file"),
    "a sparse file": (make_sparse, "larger than"),
    "a directory": (Path.mkdir, "Is a directory"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    "a link to itself": (lambda path: path.symlink_to(path), "symbolic link"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_is_refused_with_what_it_is(tmp_path: Path, kind: str) -> None:
    make, sentence = ODD[kind]
    make(path := tmp_path / "odd")
    with pytest.raises(InvalidInput, match=f"script 'odd' cannot be read: .*{sentence}"):
        read_bytes(path, "script 'odd'")
    with pytest.raises(OSError, match=sentence):
        read_regular(str(path), MOST)


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_in_the_home_is_not_read(tmp_path: Path, kind: str) -> None:
    make, _ = ODD[kind]
    make(path := tmp_path / "odd")
    with pytest.raises(OSError, match=r"regular|larger|directory") as caught:
        read_file(str(path))
    assert isinstance(caught.value, NotRegular | IsADirectoryError)


def test_a_link_is_followed_for_callers_and_not_in_the_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (link := tmp_path / "link").symlink_to("file")
    assert read_regular(str(link), MOST) == b"text"
    with pytest.raises(NotRegular, match="symbolic link"):
        open_regular(str(link), follow=False)


def test_a_file_that_tells_no_size_is_read_up_to_the_bound() -> None:
    if not os.path.exists("/proc/self/maps"):
        return  # only Linux has such files
    assert read_regular("/proc/self/maps", MOST)
    with pytest.raises(NotRegular, match="larger than 1 KiB"):
        read_regular("/proc/self/maps", 1024)


def test_a_link_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (precious := tmp_path / "precious").mkdir()
    (precious / "kept").touch()
    (link := tmp_path / "link").symlink_to(precious)
    (pipe := tmp_path / "pipe").touch()
    remove_tree(str(link))
    remove_tree(str(pipe))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious"]
    assert (precious / "kept").exists()


def test_a_file_that_another_program_has_leased_is_read(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    if not hasattr(fcntl, "F_SETLEASE"):
        return  # only Linux has leases
    (path := tmp_path / "file").write_bytes(b"text")
    program = (
        "import fcntl, os, signal, sys, time\n"
        "file = os.open(sys.argv[1], os.O_RDWR)\n"
        "signal.signal(signal.SIGIO, lambda *_: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK))\n"
        "fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
        "print('leased', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with python("-c", program, str(path)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "leased"
        assert read_regular(str(path), MOST) == b"text"
        holder.communicate(timeout=60)


def test_a_file_that_is_too_large_is_no_shortage_of_the_machine(tmp_path: Path) -> None:
    make_sparse(path := tmp_path / "sparse")
    with pytest.raises(NotRegular) as caught:
        read_regular(str(path), MOST)
    assert not is_shortage(caught.value)  # a job would wait for ever
