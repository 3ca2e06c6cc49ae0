"""The note that a queued job has not begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_mcp_server.pool import protocol


@pytest.mark.parametrize("fsync", [False, True])
def test_the_note_of_an_unbegun_job_goes_as_durably_as_it_came(
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
