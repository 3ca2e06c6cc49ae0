"""Every Python example of README.md and docs/ runs: blocks marked `python`, each in a process and a
home of its own, and print what the comment behind each `print` says. One that must not run is marked
`python no-run`; it must still be Python.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT, run_python

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>python\b[^\n]*)\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
SHOWN = re.compile(r"^ *print\(.*\)  # (.*\n)", re.MULTILINE)


def examples() -> Iterator[object]:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        for block in FENCE.finditer(text):
            line = text.count("\n", 0, block.start()) + 2
            code = re.sub(rf"^{block['indent']}", "", block["code"], flags=re.MULTILINE)
            name = f"{page.relative_to(ROOT)}:{line}"
            yield pytest.param(name, line, code, "no-run" in block["info"].split(), id=name)


@pytest.mark.parametrize(("name", "line", "code", "only_read"), list(examples()))
def test_the_example_runs(name: str, line: int, code: str, only_read: bool, tmp_path: Path) -> None:
    placed = "\n" * (line - 1) + code  # a traceback names the line of the page
    compile(placed, name, "exec")
    if only_read:
        return
    program = tmp_path / "example.py"
    program.write_text(placed, encoding="utf-8")
    done = run_python(program, cwd=tmp_path, deadline_s=120)
    assert done.returncode == 0, f"{name}:\n{done.stdout}{done.stderr}"
    assert doctest.OutputChecker().check_output("".join(SHOWN.findall(code)), done.stdout, doctest.ELLIPSIS)
