"""What a row yields, and how it is shown. Knows nothing of how it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any, Final

_HEADINGS: Final = ("row", "what", "ours", "peer", "ratio", "aim", "")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        row: The row it belongs to.
        what: What was measured.
        value: Ours, in `unit`.
        unit: "us", "ms", "s" or "MB".
        repeats: How many measurements the figure stands on.
        peer: What it is measured against; empty where there is nothing to measure against.
        peer_value: The peer's figure of the same run.
        aim: The aim in words; empty where the line only informs.
        limit: The most that `value` may be for the aim to hold.
    """

    row: str
    what: str
    value: float
    unit: str
    repeats: int
    peer: str = ""
    peer_value: float | None = None
    aim: str = ""
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the peer's."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def verdict(self) -> str:
        """Whether the aim "holds" or "misses"; empty where there is no aim."""
        if self.limit is None:
            return ""
        return "holds" if self.value <= self.limit else "misses"

    def to_json(self) -> dict[str, Any]:
        """Return all that the table shows, as plain data."""
        return {
            "row": self.row,
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "repeats": self.repeats,
            "peer": self.peer or None,
            "peer_value": self.peer_value,
            "ratio": self.ratio,
            "aim": self.aim or None,
            "limit": self.limit,
            "verdict": self.verdict or None,
        }

    def cells(self) -> tuple[str, ...]:
        """Return what stands in the table."""
        peer = "" if self.peer_value is None else f"{_text(self.peer_value, self.unit)}  {self.peer}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}x"
        own = f"{_text(self.value, self.unit)} (n={self.repeats})"
        return (self.row, self.what, own, peer, ratio, self.aim, self.verdict)


def figure_of(
    row: str,
    what: str,
    seconds: Sequence[float],
    unit: str,
    *,
    peer: str = "",
    peer_seconds: Sequence[float] = (),
    aim: str = "",
    ratio: float | None = None,
    limit: float | None = None,
) -> Figure:
    """Return the medians of two lists of times as a figure.

    The aim is `limit`, in `unit`, or `ratio` times the peer.
    """
    scale = _PER_SECOND[unit]
    peer_value = median(peer_seconds) * scale if peer_seconds else None
    if ratio is not None and peer_value is not None:
        limit = ratio * peer_value
    return Figure(row, what, median(seconds) * scale, unit, len(seconds), peer, peer_value, aim, limit)


_PER_SECOND: Final = {"us": 1e6, "ms": 1e3, "s": 1.0}


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as text, a line each."""
    return aligned([_HEADINGS, *(figure.cells() for figure in figures)])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _text(value: float, unit: str) -> str:
    return f"{value:.1f} {unit}" if abs(value) < 100 else f"{value:,.0f} {unit}"  # noqa: PLR2004  three digits say enough
