"""The note that a queued job has not begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_mcp_server.errors import StoreError
from python_mcp_server.pool import protocol


@pytest.mark.parametrize("fsync", [False, True])
def test_the_note_of_an_unbegun_job_is_removed_durably(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
):
    synced: list[str] = []
    monkeypatch.setattr(protocol, "sync_directory", synced.append)
    note = protocol.unbegun_note(tmp_path, "job")
    protocol.mark_unbegun(note, fsync=fsync)
    protocol.mark_unbegun(note, fsync=fsync)
    assert protocol.is_unbegun(note)
    protocol.mark_begun(note)
    protocol.mark_begun(note)
    assert not protocol.is_unbegun(note)
    assert synced == [str(tmp_path / "unbegun")] * fsync


def test_no_note_is_made_behind_a_symbolic_link(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "unbegun").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="symbolic link"):
        protocol.mark_unbegun(protocol.unbegun_note(tmp_path, "job"))
    assert list(elsewhere.iterdir()) == []
