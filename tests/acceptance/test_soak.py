"""`scripts/soak`, for seconds instead of an hour: it samples, reports, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import ROOT, environment, run_python


def soak(folder: Path, *words: str):
    env = environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT / 'scripts'}", TMPDIR=str(folder))
    return run_python("-m", "soak_testing", *words, env=env, deadline_s=170)


def test_a_short_mixed_load_is_answered_and_leaves_no_process(tmp_path: Path):
    done = soak(tmp_path, "mixed", "--minutes", "0.1", "--rate", "5")
    assert done.returncode in {0, 1}, done.stderr  # seconds are too short for a verdict
    assert "failures: none" in done.stdout
    assert "processes left: none" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if "min, " in line][:1] == ["0.0"]
    assert not list(tmp_path.glob("soak-*"))


def test_a_library_program_is_sampled_at_each_tenth(tmp_path: Path):
    done = soak(tmp_path, "calls", "--calls", "20")
    assert done.returncode in {0, 1}, done.stderr
    assert sum(" calls, " in line for line in done.stdout.splitlines()) == 11
    assert "worker RSS, kB" in done.stdout
