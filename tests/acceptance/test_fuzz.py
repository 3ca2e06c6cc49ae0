"""`scripts/fuzz`, with a few examples: no parser and no tool is slow, or ends in a traceback."""

from __future__ import annotations

import re
from pathlib import Path

from tests.acceptance.test_chaos import chaos_environment
from tests.helpers import run_python


def test_every_parser_and_tool_takes_any_text_or_says_why_not(tmp_path: Path):
    done = run_python("-m", "fuzz_testing", "--examples", "600", env=chaos_environment(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ examples, \d+ targets, 0 found$", done.stdout, re.MULTILINE)
    assert "py_run_script_in_dir" in done.stdout
    assert not list(tmp_path.glob("fuzz-*"))
