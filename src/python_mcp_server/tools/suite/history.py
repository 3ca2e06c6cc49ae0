"""Which tests of a directory failed last, for `only_failed`. It is kept under the home, one file per
directory, so that nothing is left in the directory, and an interrupted run loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_mcp_server.runner.session import make_private
from python_mcp_server.tools.suite.events import RunSummary


@dataclass(frozen=True, slots=True)
class Failed:
    """What failed.

    Attributes:
        rootdir: What the ids are relative to.
        ids: Of tests, and of files that could not be collected.
    """

    rootdir: Path
    ids: tuple[str, ...]

    def files(self) -> list[str]:
        """Return the files of the tests, as far as they are still there."""
        named = dict.fromkeys(self.rootdir / nodeid.partition("::")[0] for nodeid in self.ids)
        return [str(path) for path in named if path.exists()]


class SuiteRecord:
    """The record of one directory."""

    def __init__(self, home: Path, directory: Path) -> None:
        key = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:32]
        self._path = home / "suites" / f"{key}.json"

    def load(self) -> Failed | None:
        """Return what failed; None where no run is known."""
        try:
            facts: dict[str, Any] = json.loads(self._path.read_bytes())
            return Failed(Path(facts["rootdir"]), tuple(facts["failed"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, tally: RunSummary, *, complete: bool) -> None:
        """Bring the record up to date.

        Args:
            tally: What is known of the run by now.
            complete: Whether every test had its turn: then what failed before and was not seen is
                gone. Otherwise it stays until it has passed.
        """
        if not tally.rootdir:
            return
        before = self.load()
        kept = () if complete or before is None else before.ids
        seen = tally.finished | {nodeid.partition("::")[0] for nodeid in tally.finished}
        failed = dict.fromkeys([*(nodeid for nodeid in kept if nodeid not in seen), *tally.failed])
        make_private(self._path.parent)
        partial = self._path.with_name(f"{self._path.stem}-{os.getpid()}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({"rootdir": tally.rootdir, "failed": list(failed)}, file)
        partial.replace(self._path)
