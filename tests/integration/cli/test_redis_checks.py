"""What `doctor` finds out about a Redis server, and that it leaves nothing there."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_mcp_server.cli.checks import _removed as removed
from python_mcp_server.cli.checks import _trial as trial
from python_mcp_server.cli.checks import checkup, share_a_store
from redis_process import RedisProcess


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"appendonly": "yes"}, [("ok", "keeps a log on disk")]),
        ({}, [("warning", "has no log on disk")]),
        (
            {"appendonly": "yes", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"},
            [("warning", r"removes keys when it is full (allkeys-lru)")],
        ),
    ],
)
def test_doctor_tells_what_the_server_keeps(
    options: dict[str, str], found: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
):
    with RedisProcess(**options) as process:
        monkeypatch.setenv("PYTHON_MCP_STORE", process.url())
        findings = []
        for finding in checkup():
            findings.append(finding)
            if finding.name == "redis":
                break
    told = [(each.level, each.text) for each in findings if each.name == "redis"]
    assert [level for level, _ in told] == [level for level, _ in found]
    assert all(words in text for (_, words), (_, text) in zip(found, told, strict=True))


def test_doctor_tries_nothing_where_the_server_is_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHON_MCP_STORE", "redis://ada:sesame@127.0.0.1:1/0")
    findings = list(checkup())
    assert (findings[-1].name, findings[-1].level) == ("redis", "problem")
    assert "redis://127.0.0.1:1/0 does not answer" in findings[-1].text
    assert not [each for each in findings if "sesame" in f"{each}"]


def test_a_trial_of_a_store_leaves_no_key_and_shows_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with RedisProcess(requirepass="sesame") as process:
        monkeypatch.setenv("PYTHON_MCP_STORE", process.url("mine", secret="sesame"))
        (place := tmp_path / ".doctor-x").mkdir()
        with removed(trial(place)):
            told = share_a_store(place)
        assert process.client("sesame").keys() == []
    assert told.startswith("two processes share it; jobs are in unix:///")
    assert "sesame" not in told
