"""The help of the scripts is there before they have set themselves up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.parametrize("package", ["benchmarks", "chaos_testing", "fuzz_testing", "soak_testing"])
def test_help_needs_no_installed_package(package: str):
    bare = (getattr(sys, "_base_executable", sys.executable), "-S")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(
        [*bare, "-m", package, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: scripts/")
