"""Runs the official conformance suite against the fixture server, and prints a table.

Usage: python -m tests.conformance.suite NODE SUITE [SCENARIO ...]

What must pass stands in the suite's own frozen sets, a file for each revision of the protocol, in which the
scenarios of the Tasks extension are too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

REVISIONS: Final = ("2025-11-25", "2026-07-28")
CANNOT_PASS: Final = dict.fromkeys(
    ((revision, "json-schema-2020-12") for revision in REVISIONS),
    "the SDK's MCPServer makes a tool's schema from its signature, and takes none with $defs, allOf and if",
)
"""What cannot pass, by revision, for a reason outside of this project. The run fails if one of them does."""
_SET_S: Final = 600
_SCENARIO_S: Final = 120
_ROOM: Final = {
    "PYTHON_MCP_MAX_WORKERS": "64",
    "PYTHON_MCP_MAX_BACKGROUND_JOBS": "64",
    "PYTHON_MCP_SPARE_WORKERS": "4",
}
"""Many scenarios leave before they have answered, and the jobs that asked them go on waiting. The suite waits
10 s at most, in which a busy machine may not start a worker that loads the SDK with a body."""
_RESULT: Final = re.compile(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z")


@dataclass(frozen=True)
class Verdict:
    """How one scenario went."""

    scenario: str
    revision: str
    checks: Counter[str]
    complaints: list[str]

    @property
    def passed(self) -> bool:
        """Whether there was a check and none failed."""
        return bool(self.checks) and not self.checks["FAILURE"]

    @property
    def word(self) -> str:
        """What the table says."""
        if self.passed:
            return "passed" if self.checks["SUCCESS"] else "skipped"
        return "cannot" if (self.revision, self.scenario) in CANNOT_PASS else "FAILED"

    @property
    def as_expected(self) -> bool:
        """Whether it passed, or is listed and did not."""
        return self.passed != ((self.revision, self.scenario) in CANNOT_PASS)

    def line(self) -> str:
        """Return the line of the table, and below it what the suite complains of."""
        counts = "".join(f"{self.checks[status]:>7}" for status in ("SUCCESS", "FAILURE", "WARNING"))
        head = f"{self.scenario:<46}{self.revision:<12}{self.word:<10}{counts}"
        return "\n".join([head, *(f"    {complaint}" for complaint in self.complaints)])


@contextmanager
def fixture_server() -> Generator[str]:
    """Run the server with a home of its own; yield its address."""
    with tempfile.TemporaryDirectory(prefix="conformance-", ignore_cleanup_errors=True) as home:
        env = os.environ | _ROOM | {"PYTHON_MCP_HOME": home, "PYTHON_MCP_ON_EXIT": "cancel"}
        command = [sys.executable, "-m", "tests.conformance.fixture_server"]
        with (
            Path(home, "server.log").open("w") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env) as server,
        ):
            try:
                assert server.stdout is not None
                yield server.stdout.readline().strip()
            finally:
                server.terminate()


def scenarios_of(suite: Path, revision: str) -> list[str]:
    """Return what a frozen set has for servers: what it requires, and what it runs besides."""
    text = (suite.parents[1] / "requirements" / f"{revision}.yaml").read_text()
    required = re.search(r"^server:\n((?: +- \S+\n)+)", text, re.MULTILINE)
    assert required is not None, f"the set of {revision} has no scenarios for servers"
    besides = re.findall(r"- scenario: (\S+)\n +leg: server\n", text)
    return [*re.findall(r"- (\S+)", required[1]), *besides]


def judge(suite: list[str], url: str, revision: str, names: list[str], whole: bool) -> Iterable[Verdict]:
    """Run scenarios of a revision, the whole set in one go, and return how each went."""
    if whole:
        yield from _run([*suite, "server", "--url", url, "--requirements", revision], revision, names, _SET_S)
        return
    for name in names:
        command = [*suite, "server", "--url", url, "--scenario", name]
        if not name.startswith("tasks-"):
            command += ["--spec-version", revision]
        yield from _run(command, revision, [name], _SCENARIO_S)


def _run(command: list[str], revision: str, names: list[str], deadline_s: float) -> list[Verdict]:
    with tempfile.TemporaryDirectory() as results:
        said = subprocess.run(
            [*command, "--output-dir", results],
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        found: dict[str, list[dict[str, Any]]] = {}
        for path in Path(results).rglob("checks.json"):
            if (name := _RESULT.fullmatch(path.parent.name)) is not None:
                found[name[1]] = json.loads(path.read_text())
    words = (said.stderr or said.stdout).strip()[-500:]
    return [_verdict(name, revision, found.get(name), words) for name in names]


def _verdict(name: str, revision: str, checks: list[dict[str, Any]] | None, words: str) -> Verdict:
    complaints = [
        f"{check['id']}: {str(check.get('errorMessage'))[:300]}"
        for check in checks or ()
        if check["status"] in ("FAILURE", "WARNING")
    ]
    if checks is None:
        complaints.append(f"the suite wrote no result: {words}")
    if reason := CANNOT_PASS.get((revision, name)):
        complaints.append(f"cannot pass: {reason}")
    return Verdict(name, revision, Counter(check["status"] for check in checks or ()), complaints)


def main(node: str, suite: str, *names: str) -> int:
    """Run the frozen sets, or what is named of them; return 1 where one went otherwise than it must."""
    known = {revision: scenarios_of(Path(suite), revision) for revision in REVISIONS}
    for name in names:
        if not any(name in there for there in known.values()):
            print(f"{name!r} is no scenario; there are {', '.join(sorted(set().union(*known.values())))}")
            return 2
    wrong: list[str] = []
    print(f"{'scenario':<46}{'revision':<12}{'verdict':<10}passed failed warnings")
    for revision, there in known.items():
        wanted = [name for name in there if not names or name in names]
        if not wanted:
            continue
        with fixture_server() as url:
            for verdict in judge([node, suite], url, revision, wanted, whole=not names):
                print(verdict.line(), flush=True)
                if not verdict.as_expected:
                    wrong.append(f"{verdict.scenario} ({revision}, {verdict.word})")
    print(f"otherwise than expected: {', '.join(wrong)}" if wrong else "all that must pass has passed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
