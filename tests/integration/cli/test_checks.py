"""The checks of `doctor` that look at a home."""

from __future__ import annotations

from pathlib import Path

from python_mcp_server.cli.checks import Finding, checkup
from python_mcp_server.model import Job, JobState, new_job_id, utc_now
from python_mcp_server.store.files import FileJobStore


def look_at_the_home(*, every_record: bool = False) -> dict[str, Finding]:
    found: dict[str, Finding] = {}
    checks = checkup(every_record=every_record)
    while "records" not in found:
        finding = next(checks)
        found[finding.name] = finding
    checks.close()
    return found


def test_damaged_records_are_counted(home: Path):
    FileJobStore(home).close()
    (home / "jobs" / "live" / f"{'0' * 34}.json").write_text("{ half a rec")
    found = look_at_the_home()
    assert (found["home"].level, found["records"].level) == ("ok", "warning")
    assert found["records"].text == "1 damaged file was set aside"
    assert str(home / "jobs" / "damaged") in found["records"].advice


def test_unreadable_records_are_counted_at_any_age(home: Path):
    store = FileJobStore(home)
    for _ in range(55):
        store.create(Job(new_job_id(), "label", JobState.COMPLETED, utc_now()))
    store.close()
    newer = min((home / "jobs" / "completed").rglob("*.json"))
    newer.write_text(newer.read_text().replace('"format":1', '"format":99'))
    found = look_at_the_home()
    assert (found["records"].level, str(newer) in found["records"].advice) == ("warning", True)
    assert found["records"].text == "1 record was left that cannot be read"


def test_a_large_home_is_read_at_its_ends_and_whole_on_request(home: Path):
    store = FileJobStore(home)
    for _ in range(1200):
        store.create(Job(new_job_id(), "label", JobState.COMPLETED, utc_now()))
    store.close()
    middle = sorted((home / "jobs" / "completed").rglob("*.json"))[600]
    middle.write_text("{ half a rec")
    some = look_at_the_home()["records"]
    assert some.text == "the newest and the oldest 500 jobs can be read, none is damaged"
    assert some.advice == "--all reads every record."
    assert look_at_the_home(every_record=True)["records"].text == "1 damaged file was set aside"


def test_a_home_that_others_may_enter_is_named_with_the_way_out(home: Path):
    FileJobStore(home).close()
    home.chmod(0o755)
    found = look_at_the_home()
    assert (found["home"].level, found["home"].advice) == ("warning", f"Run: chmod 700 {home}")
    assert found["records"].level == "ok"
