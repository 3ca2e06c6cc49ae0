"""The failures of the last run in a directory, for `only_failed`: a file per directory, below the home."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_mcp_server.atomic import write_file
from python_mcp_server.tools.suite.events import RunSummary


@dataclass(frozen=True, slots=True)
class LastFailures:
    """The tests that failed last in a directory.

    Attributes:
        rootdir: The directory that the ids are relative to.
        ids: Ids of tests, and of files that could not be collected.
    """

    rootdir: Path
    ids: tuple[str, ...]

    def files(self) -> list[str]:
        """Return the files of the tests that still exist."""
        named = dict.fromkeys(self.rootdir / nodeid.partition("::")[0] for nodeid in self.ids)
        return [str(path) for path in named if path.exists()]


class SuiteRecord:
    """The file of one directory."""

    def __init__(self, home: Path, directory: Path) -> None:
        key = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:32]
        self._path = home / "suites" / f"{key}.json"

    def load(self) -> LastFailures | None:
        """Return the last failures; None where no run is known."""
        try:
            facts: dict[str, Any] = json.loads(self._path.read_bytes())
            return LastFailures(Path(facts["rootdir"]), tuple(facts["failed"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, summary: RunSummary, *, complete: bool) -> None:
        """Bring the record up to date.

        Args:
            summary: The state of the run.
            complete: Whether every test ran: then an earlier failure that did not run is forgotten.
                Otherwise it stays until it has passed.
        """
        if not summary.rootdir:
            return
        before = self.load()
        kept = () if complete or before is None else before.ids
        seen = summary.finished | {nodeid.partition("::")[0] for nodeid in summary.finished}
        failed = dict.fromkeys([*(nodeid for nodeid in kept if nodeid not in seen), *summary.failed])
        data = json.dumps({"rootdir": summary.rootdir, "failed": list(failed)}).encode()
        write_file(str(self._path), data)
