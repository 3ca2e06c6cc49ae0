"""Decorated functions keep their types for mypy too; for pyright `scripts/check` reads the same file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT

CALLS = ROOT / "tests" / "helpers" / "typed_calls.py"


def test_decorated_functions_keep_parameters_and_results_for_mypy(tmp_path: Path):
    shutil.copy(CALLS, tmp_path)  # out of the package of the helpers, which mypy would read too
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", CALLS.name]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, ""), said.stdout
