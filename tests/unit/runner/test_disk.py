"""The disk space of a job: what counts, and what a hostile folder does to the one who counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from python_mcp_server.limits import DISK, Limits
from python_mcp_server.runner import disk
from python_mcp_server.runner.disk import DiskMeter
from python_mcp_server.runner.enforce import LimitChecker

MB = 1_000_000
posix = pytest.mark.skipif(sys.platform == "win32", reason="makes links and sparse files")


def write(path: Path, size: int = MB) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def space(*paths: Path) -> int:
    return DiskMeter(map(str, paths)).look()


def test_files_of_all_depths_and_single_ones_are_added_up(tmp_path: Path):
    write(tmp_path / "folder" / "a")
    write(tmp_path / "folder" / "b" / "c")
    apart = write(tmp_path / "apart")
    assert 3 * MB <= space(tmp_path / "folder", apart, tmp_path / "not there") < 3.1 * MB
    assert 2 * MB <= space(tmp_path / "folder", tmp_path / "folder" / "a") < 2.1 * MB


@posix
def test_hard_links_count_once_and_links_to_other_files_not_at_all(tmp_path: Path):
    outside = write(tmp_path / "outside" / "large", 5 * MB)
    folder = tmp_path / "folder"
    write(folder / "one")
    os.link(folder / "one", folder / "two")
    (folder / "file").symlink_to(outside)
    (folder / "directory").symlink_to(outside.parent)
    (folder / "itself").symlink_to(folder)
    assert MB <= space(folder) < 1.1 * MB


@posix
def test_a_sparse_file_counts_by_its_blocks(tmp_path: Path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10_000 * MB)
        file.write(b"x" * MB)
    assert MB <= space(tmp_path) < 1.1 * MB


def test_where_there_are_no_blocks_the_size_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Status:
        st_size = 5

    assert disk.disk_bytes(Status()) == 5  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(disk, "_BY_DESCRIPTOR", False)
    write(tmp_path / "a" / "b")
    assert MB <= space(tmp_path) < 1.1 * MB


def test_many_files_are_looked_at_in_several_looks(tmp_path: Path):
    for number in range(5000):
        (tmp_path / f"{number}").write_bytes(b"x" * 4096)
    meter = DiskMeter((str(tmp_path),))
    looks = [meter.look() for _ in range(6)]
    assert looks[0] < 0.5 * meter.measure()
    assert looks[0] < looks[1] < looks[2]
    assert looks[2:] == [meter.measure()] * 4, "while a new round runs, the last one holds"
    for file in tmp_path.iterdir():
        file.unlink()
    assert [meter.look() for _ in range(4)][-1] < 0.1 * looks[2]


@posix
def test_a_large_file_that_is_renamed_meanwhile_counts_once(tmp_path: Path):
    first, second = tmp_path / "0", tmp_path / "1"
    write(first / "large", 5 * MB)
    for number in range(3000):
        (second / f"{number}").parent.mkdir(exist_ok=True)
        (second / f"{number}").touch()
    meter = DiskMeter((str(second), str(first)))
    assert meter.look() >= 5 * MB, "the last one named is visited first"
    (first / "large").rename(second / "large")
    assert meter.look() < 6 * MB


def test_a_folder_that_is_removed_meanwhile_counts_nothing(tmp_path: Path):
    folder = tmp_path / "folder"
    for number in range(3000):
        (folder / f"{number}").parent.mkdir(exist_ok=True)
        (folder / f"{number}").write_bytes(b"x" * 4096)
    meter = DiskMeter((str(folder),))
    assert meter.look() > MB
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    meter.look()
    assert meter.look() == 0


@posix
def test_directories_of_any_depth_are_walked_without_an_error(tmp_path: Path):
    depth = 0
    here = os.open(tmp_path, os.O_RDONLY)
    while depth < 2500:  # longer than a path may be
        os.mkdir("dd", dir_fd=here)
        below = os.open("dd", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, depth = below, depth + 1
        if depth == 1000:
            file = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here)
            os.write(file, b"x" * MB)
            os.close(file)
    os.close(here)
    space = DiskMeter((str(tmp_path),)).measure()
    subprocess.run(("rm", "-r", tmp_path / "dd"), check=True)  # shutil.rmtree goes no deeper than 1,000
    assert space >= MB


def test_an_old_file_counts_once_it_changes(tmp_path: Path):
    log = write(tmp_path / "log")
    meter = DiskMeter((str(log),), old_files=(str(log),))
    assert meter.look() == 0
    log.write_bytes(b"")
    write(log)
    assert meter.look() >= MB
    assert DiskMeter((str(log),)).look() >= MB


def test_a_breach_of_the_disk_limit_says_what_was_used(tmp_path: Path):
    meter = DiskMeter((str(tmp_path),))
    checker = LimitChecker(Limits(disk_limit_mb=2), tuple, disk=meter)
    assert checker.look() is None
    write(tmp_path / "file", 3 * MB)
    breach = checker.look()
    assert breach is not None
    assert breach.kind == DISK
    assert breach.sentence == "ended at its disk limit: its files and its output took 3 MB, the limit is 2 MB"
    assert LimitChecker(Limits(memory_limit_mb=2), tuple, disk=meter).look() is None
