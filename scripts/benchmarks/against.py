"""`scripts/bench --against REF`: this checkout beside another commit, in turns, as a gate for speed.

Each side runs its own benchmarks on its own sources, in the same environment. A figure is slower only where
the whole interval of its ratio lies above what is allowed: noise widens intervals and causes no failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.figures import aligned
from python_mcp_server.tools.benchmark.statistics import interval_of_ratio, ratio_of_pairs

ALLOWED: Final = 1.1
"""How many times slower a figure may be."""
_ROOT: Final = Path(__file__).resolve().parents[2]
_HEADINGS: Final = ("row", "what", "here", "there", "ratio", "interval", "")


class NoSuchCommit(Exception):
    """git cannot unpack what was named; the text says why."""


@dataclass
class Pair:
    """The values of one figure, turn by turn, on both sides.

    Attributes:
        unit: Of the values.
        here: Those of this checkout.
        there: Those of the other commit.
    """

    unit: str
    here: list[float] = field(default_factory=list[float])
    there: list[float] = field(default_factory=list[float])

    @property
    def ratio(self) -> float:
        """How many times slower this checkout is."""
        return ratio_of_pairs(self.here, self.there)

    @property
    def verdict(self) -> str:
        """Whether it is surely "slower" than what is allowed, or surely "faster" than before."""
        interval = interval_of_ratio(self.here, self.there)
        if interval is None:
            return ""
        return "slower" if interval.low > ALLOWED else "faster" if interval.high < 1 else ""


def compare(reference: str, rows: Sequence[str], *, turns: int, repeats: int | None, quick: bool) -> int:
    """Measure both sides and print each row when it is measured.

    Args:
        reference: The commit, as git names it.
        rows: The rows to measure.
        turns: How often each side is measured.
        repeats: How often a row repeats within a turn; a row's own number where None.
        quick: Whether a few repeats are enough.

    Returns:
        0; 1 where a figure is slower or a row could not be measured.
    """
    pairs: dict[tuple[str, str], Pair] = {}
    failed: list[str] = []
    how = ["--json", *(["--quick"] if quick else []), *(["--repeats", str(repeats)] if repeats else [])]
    with _sources(reference) as other:
        for row in rows:
            for turn in range(turns):
                print(f"{row}, turn {turn + 1} of {turns} ...", file=sys.stderr)
                if not _take_turn(pairs, [*how, row], other, other_first=turn % 2 == 1):
                    failed.append(row)
                    break
            print(_table({key: pair for key, pair in pairs.items() if key[0] == row}, reference), flush=True)
    slower = [f"{row}: {what}" for (row, what), pair in pairs.items() if pair.verdict == "slower"]
    for title, found in (("slower", slower), ("could not be measured", failed)):
        if found:
            print(f"scripts/bench: {title}: {'; '.join(found)}", file=sys.stderr)
    return 1 if slower or failed else 0


@contextmanager
def _sources(reference: str) -> Iterator[Path]:
    """Unpack a commit into a directory of its own, so that the checkout stays as it is.

    Raises:
        NoSuchCommit: git does not know it.
    """
    archive = subprocess.run(
        ["git", "-C", str(_ROOT), "archive", reference, "src", "scripts"],  # noqa: S607
        capture_output=True,
        check=False,
    )
    if archive.returncode != 0:
        said = archive.stderr.decode(errors="replace").strip()
        raise NoSuchCommit(f"{reference!r} cannot be unpacked: {said}; name a commit of this repository")
    with tempfile.TemporaryDirectory(prefix="bench-against-") as place:
        with tempfile.TemporaryFile() as file:
            file.write(archive.stdout)
            file.seek(0)
            with tarfile.open(fileobj=file) as packed:
                # by the attribute: early releases of 3.11 have no such parameter
                packed.extraction_filter = getattr(tarfile, "data_filter", None)
                packed.extractall(place)  # noqa: S202  our own archive
        yield Path(place)


def _take_turn(
    pairs: dict[tuple[str, str], Pair], arguments: list[str], other: Path, *, other_first: bool
) -> bool:
    """Measure a row on both sides, one after the other, and note what both sides have."""
    order = [other, _ROOT] if other_first else [_ROOT, other]
    found = {place: _measure(place, arguments) for place in order}
    here, there = found[_ROOT], found[other]
    if here is None or there is None:
        return False
    for key in here.keys() & there.keys():
        if here[key]["value"] > 0 and there[key]["value"] > 0:  # a ratio takes no others
            pair = pairs.setdefault(key, Pair(here[key]["unit"]))
            pair.here.append(here[key]["value"])
            pair.there.append(there[key]["value"])
    return True


def _measure(place: Path, arguments: list[str]) -> dict[tuple[str, str], dict[str, Any]] | None:
    """Run the benchmarks of one side; None where they fail, and why is on stderr."""
    environment = {**os.environ, "PYTHONPATH": f"{place / 'src'}{os.pathsep}{place / 'scripts'}"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else the unpacked side compiles itself at every start
    command = [sys.executable, "-m", "benchmarks", *arguments]
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            process.terminate()  # not kill: it ends its own row first
            raise
    if process.returncode != 0:
        print(f"{' '.join(arguments)} fails in {place}", file=sys.stderr)
        return None
    figures = json.loads(output)["figures"]
    return {(figure["row"], figure["what"]): figure for figure in figures}


def _table(pairs: dict[tuple[str, str], Pair], reference: str) -> str:
    headings = tuple(reference if heading == "there" else heading for heading in _HEADINGS)
    return aligned([headings, *(_cells(*key, pair) for key, pair in pairs.items())])


def _cells(row: str, what: str, pair: Pair) -> tuple[str, ...]:
    interval = interval_of_ratio(pair.here, pair.there)
    within = "" if interval is None else f"{interval.low:.2f} to {interval.high:.2f}"
    here, there = (f"{median(values):,.1f} {pair.unit}" for values in (pair.here, pair.there))
    return (row, what, here, there, f"{pair.ratio:.2f}x", within, pair.verdict)
