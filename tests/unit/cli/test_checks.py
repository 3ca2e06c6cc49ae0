from __future__ import annotations

from pathlib import Path

import pytest

from python_mcp_server.cli import checks
from python_mcp_server.settings import Settings
from python_mcp_server.store.files import FileJobStore
from python_mcp_server.store.opening import place_of


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "NFS4", "cifs", "smb3", "9p", "afs", "fuse.sshfs"])
def test_a_network_file_system_is_known(kind: str) -> None:
    assert checks.is_network(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs", "overlay", "apfs", "fuse.ntfs", "", "nfsd2"])
def test_a_local_file_system_is_no_network_file_system(kind: str) -> None:
    assert not checks.is_network(kind)


def test_a_missing_directory_has_the_kind_of_the_one_above(tmp_path: Path) -> None:
    assert checks.file_system(tmp_path / "not" / "there") == checks.file_system(tmp_path) != ""


def test_a_directory_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not checks.can_be_made(tmp_path / "file" / "home")
    assert checks.can_be_made(tmp_path / "not" / "there")


def test_a_home_that_others_may_enter_is_noticed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert checks.open_to_others(tmp_path)
    tmp_path.chmod(0o700)
    assert not checks.open_to_others(tmp_path)


def test_rules_of_queues_that_cannot_be_read_are_a_problem(home: Path) -> None:
    FileJobStore(home).close()
    (home / "queues.json").write_text("damaged")
    settings = Settings.from_environ()
    (found,) = [each for each in checks._jobs(settings, place_of(settings)) if each.name == "rules"]  # pyright: ignore[reportPrivateUsage]
    assert (found.level, "no queued job starts" in found.text) == ("problem", True)
