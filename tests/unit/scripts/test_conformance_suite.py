"""The conformance run fails where a scenario fails that may not, and where one passes that is listed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.suite import CANNOT_PASS, REVISIONS, Verdict, scenarios_of

LISTED = next(iter(CANNOT_PASS))

REQUIREMENTS = """
# what it is for
server:
  - ping
  - tools-list

client:
  - initialize

not_scored:
  - scenario: auth/dpop
    leg: client
    reason: extension
  - scenario: tasks-lifecycle
    leg: server
    reason: extension
"""


@pytest.mark.parametrize(
    ("pair", "checks", "word", "expected"),
    [
        ((REVISIONS[0], "ping"), {"SUCCESS": 2}, "passed", True),
        ((REVISIONS[0], "ping"), {"SUCCESS": 2, "WARNING": 1}, "passed", True),
        ((REVISIONS[0], "ping"), {"SUCCESS": 2, "FAILURE": 1}, "FAILED", False),
        ((REVISIONS[0], "ping"), {"WARNING": 1}, "skipped", True),
        ((REVISIONS[0], "ping"), {}, "FAILED", False),
        (LISTED, {"FAILURE": 1}, "cannot", True),
        (LISTED, {"SUCCESS": 3}, "passed", False),
    ],
)
def test_what_is_expected_depends_on_the_list(
    pair: tuple[str, str], checks: dict[str, int], word: str, expected: bool
):
    verdict = Verdict(pair[1], pair[0], Counter(checks), [])
    assert (verdict.word, verdict.as_expected) == (word, expected)


def test_a_frozen_set_has_what_servers_must_and_what_they_may_run(tmp_path: Path):
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "2026-07-28.yaml").write_text(REQUIREMENTS)
    found = scenarios_of(tmp_path / "dist" / "index.js", "2026-07-28")
    assert found == ["ping", "tools-list", "tasks-lifecycle"]
