"""Memory in open files: which files count, from when on, and for how much."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("looks into /proc", allow_module_level=True)

from python_mcp_server.processes import usage
from python_mcp_server.runner import memory_files
from python_mcp_server.runner.memory_files import MemoryFiles
from tests.helpers import python

MB = 1_000_000
ME = [os.getpid()]


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_memfd_counts_once_over_all_its_descriptors_and_processes():
    meter = MemoryFiles(())
    before = meter.look_at(ME)
    file = os.memfd_create("held")
    os.write(file, bytes(5 * MB))
    copy = os.dup(file)
    with python("-c", "input()", pass_fds=(file,)) as child:
        assert 5 * MB <= meter.look_at([*ME, child.pid]) - before < 5.1 * MB
        os.close(file)
        os.close(copy)
        assert 5 * MB <= meter.look_at([*ME, child.pid]) - before < 5.1 * MB, "the child still holds it"
        child.communicate("\n")
    assert meter.look_at(ME) == before


def test_a_file_with_a_name_counts_by_what_is_added(tmpfs: Path):
    (tmpfs / "old").write_bytes(bytes(5 * MB))
    meter = MemoryFiles(())
    with (tmpfs / "old").open("r+b", buffering=0) as file:
        before = meter.look_at(ME)
        file.seek(0, os.SEEK_END)
        file.write(bytes(3 * MB))
        assert 3 * MB <= meter.look_at(ME) - before < 3.1 * MB
        (tmpfs / "old").unlink()
        assert 3 * MB <= meter.look_at(ME) - before < 3.1 * MB
    assert meter.look_at(ME) == before


def test_a_removed_file_counts_whole_and_output_not_at_all(tmpfs: Path):
    linked = tmpfs.parent / f"{tmpfs.name}-link"
    linked.symlink_to(tmpfs)
    try:
        meter = MemoryFiles((str(linked / "job"),))
        before = meter.look_at(ME)
        (tmpfs / "job").mkdir()
        with (tmpfs / "job" / "stdout").open("wb", buffering=0) as own:
            own.write(bytes(5 * MB))
            (tmpfs / "job" / "stdout").unlink()
            with tempfile.TemporaryFile(dir=tmpfs, buffering=0) as file:
                file.write(bytes(2 * MB))
                assert 2 * MB <= meter.look_at(ME) - before < 2.1 * MB
    finally:
        linked.unlink()


def test_files_elsewhere_are_told_by_their_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    meter = MemoryFiles(())
    monkeypatch.setattr(memory_files, "_mounts", lambda: [("/", False)])
    with (tmp_path / "file").open("wb"), monkeypatch.context() as patched:
        patched.setattr(os, "stat", lambda path: pytest.fail(f"{path} was looked at"))
        assert meter.look_at(ME) == 0


def test_mounts_are_told_apart_by_the_longest_and_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [
        "1 0 8:1 / / rw - ext4 /dev/sda rw",
        r"2 1 0:1 / /mem\040ory rw shared:1 - tmpfs tmpfs rw",
        r"3 2 0:2 / /mem\040ory/net rw - nfs4 host:/ rw",
        "4 1 0:3 / /twice rw - nfs4 host:/ rw",
        "5 4 0:4 / /twice rw - tmpfs tmpfs rw",
    ]
    (tmp_path / "mounts").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(memory_files, "_MOUNTS", str(tmp_path / "mounts"))
    meter = MemoryFiles(())
    assert meter.look_at([]) == 0
    counted = {
        path: meter._counts(path) for path in ("/mem ory/a", "/mem ory/net/a", "/twice/a (deleted)", "/mem")
    }
    assert list(counted.values()) == [True, False, True, False]
    assert not meter._counts("pipe:[5]")


def test_mapped_and_held_memory_is_one_and_the_same():
    file = os.memfd_create("held")
    os.write(file, bytes(40 * MB))
    code = (
        "import mmap, sys; block = mmap.mmap(int(sys.argv[1]), 0); sum(block[::4096]); print('read'); input()"
    )
    with python("-u", "-c", code, str(file), pass_fds=(file,)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "read\n"
        mapped = usage.measure((child.pid,), 100 * MB)
        both = usage.measure((child.pid,), 100 * MB, MemoryFiles(()).look_at)
        held = usage.measure((child.pid,), 100 * MB, lambda _pids: 60 * MB)
        child.communicate("\n")
    os.close(file)
    assert mapped.memory_bytes > 40 * MB
    assert abs(both.memory_bytes - mapped.memory_bytes) < MB
    assert 19 * MB < held.memory_bytes - mapped.memory_bytes < 21 * MB
