"""The note that a queued job has not begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_mcp_server.pool import protocol


@pytest.mark.parametrize("fsync", [False, True])
def test_the_note_that_a_job_has_not_begun_is_removed_as_durably_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
):
    synced: list[str] = []
    monkeypatch.setattr(protocol, "sync_directory", synced.append)
    folder = tmp_path / "folder"
    protocol.mark_unbegun(folder, fsync=fsync)
    assert protocol.is_unbegun(folder)
    protocol.mark_begun(str(folder))
    protocol.mark_begun(str(folder))
    assert not protocol.is_unbegun(folder)
    assert synced == [str(folder)] * fsync
