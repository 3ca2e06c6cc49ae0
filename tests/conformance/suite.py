"""Runs scenarios of the official conformance suite against the fixture server, and prints a table.

Usage: python -m tests.conformance.suite NODE SUITE [SCENARIO ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
_DEADLINE_S: Final = 120

TASKS: Final = (
    "tasks-lifecycle", "tasks-capability-negotiation", "tasks-wire-fields", "tasks-request-state-removal",
    "tasks-request-headers", "tasks-dispatch-and-envelope", "tasks-status-notifications",
    "tasks-required-task-error", "tasks-mrtr-composition", "tasks-mrtr-input",
)  # fmt: skip
TOOLS: Final = (
    "tools-list", "tools-call-simple-text", "tools-call-image", "tools-call-audio",
    "tools-call-embedded-resource", "tools-call-mixed-content", "tools-call-error",
    "tools-call-with-progress", "server-sse-multiple-streams", "dns-rebinding-protection",
)  # fmt: skip
WIRE: Final = ("server-stateless", "http-header-validation")
HANDSHAKE: Final = ("server-initialize", "server-session-lifecycle", "ping")


@dataclass(frozen=True)
class Verdict:
    """How one scenario went."""

    scenario: str
    version: str
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
        return "FAILED"


@contextmanager
def fixture_server(home: str) -> Generator[str]:
    """Run the server; yield its address."""
    env = os.environ | {"PYTHON_MCP_HOME": home}
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


def run(node: str, suite: str, url: str, scenario: str, version: str) -> Verdict:
    """Run one scenario."""
    with tempfile.TemporaryDirectory() as results:
        command = [node, suite, "server", "--url", url, "--scenario", scenario, "--output-dir", results]
        if not scenario.startswith("tasks-"):
            command += ["--spec-version", version]
        said = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        found = list(Path(results).rglob("checks.json"))
        checks: list[dict[str, Any]] = json.loads(found[0].read_text()) if found else []
    complaints = [
        f"{check['id']}: {check.get('errorMessage')}"
        for check in checks
        if check["status"] in ("FAILURE", "WARNING")
    ]
    if not checks:
        complaints.append(f"the suite wrote no result: {(said.stderr or said.stdout).strip()[-500:]}")
    return Verdict(scenario, version, Counter(check["status"] for check in checks), complaints)


def chosen(names: list[str]) -> list[tuple[str, str]]:
    """Return which scenarios to run, each with its version of the protocol."""
    everything = [
        *((name, MODERN) for name in (*TASKS, *WIRE, *TOOLS)),
        *((name, LEGACY) for name in (*HANDSHAKE, *TOOLS)),
    ]
    if not names:
        return everything
    known = [pair for pair in everything if pair[0] in names]
    return known + [(name, MODERN) for name in names if name not in {pair[0] for pair in known}]


def main(node: str, suite: str, *names: str) -> int:
    """Run them all; return 1 when one failed that must pass."""
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="conformance-") as home, fixture_server(home) as url:
        print(f"{'scenario':<34}{'protocol':<12}{'verdict':<10}passed failed warnings")
        for scenario, version in chosen(list(names)):
            verdict = run(node, suite, url, scenario, version)
            counts = (verdict.checks[status] for status in ("SUCCESS", "FAILURE", "WARNING"))
            numbers = "".join(f"{count:>7}" for count in counts)
            print(f"{scenario:<34}{version:<12}{verdict.word:<10}{numbers}", flush=True)
            for complaint in verdict.complaints:
                print(f"    {complaint}")
            if verdict.word == "FAILED":
                failed.append(f"{scenario} ({version})")
    print(f"failed: {', '.join(failed)}" if failed else "all that must pass has passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
