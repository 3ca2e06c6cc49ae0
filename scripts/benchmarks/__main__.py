"""`scripts/bench`: chooses the rows, has each measured in a process of its own, prints the table or JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from argument_types import count_from, positive
from benchmarks.rows import QUEUED_VARIABLE, ROWS, Row

if TYPE_CHECKING:
    from benchmarks.figures import Figure

_PATIENCE_S = 300.0
"""Guessed: the longest step of any row, on a machine that is busy with other things, takes a third."""


def main(arguments: Sequence[str] | None = None, rows: Sequence[Row] = ROWS) -> int:
    """Measure and print.

    Args:
        arguments: Those of the command line, unless they are given.
        rows: The rows that there are.

    Returns:
        0, also where an aim is missed; 1 where a row could not be measured.
    """
    options = _parser(rows).parse_args(arguments)
    from benchmarks.row_process import RowFailed, measure_in_process  # --help runs without psutil

    signal.signal(signal.SIGTERM, _leave)
    if options.queued:
        os.environ[QUEUED_VARIABLE] = str(options.queued)
    if options.against:
        return _compare(options, [row.name for row in rows if not options.rows or row.name in options.rows])
    figures: list[Figure] = []
    failed: list[str] = []
    for row in (row for row in rows if not options.rows or row.name in options.rows):
        repeats = options.repeats or (row.quick if options.quick else row.repeats)
        print(f"measuring {row.name}, {repeats} repeats ...", file=sys.stderr, flush=True)
        try:
            figures += measure_in_process(row, repeats, options.patience)
        except RowFailed as failure:
            print(f"scripts/bench: {failure}", file=sys.stderr)
            failed.append(row.name)
    _print(figures, as_json=options.json)
    if failed:
        print(f"scripts/bench: could not be measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _compare(options: argparse.Namespace, rows: Sequence[str]) -> int:
    from benchmarks.against import NoSuchCommit, compare

    try:
        return compare(
            options.against, rows, turns=options.turns, repeats=options.repeats, quick=options.quick
        )
    except NoSuchCommit as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 2


def _leave(number: int, _frame: object) -> None:
    """End the row that is being measured, too."""
    sys.exit(128 + number)


def _parser(rows: Sequence[Row]) -> argparse.ArgumentParser:
    about = "\n".join(f"  {row.name:9} {row.about}" for row in rows)
    names = [row.name for row in rows]
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures this project beside its peers, in one run, and prints a table. A missed aim\n"
        'says "misses" and is no failure. The module of each row says how it is measured.',
        epilog=f"rows:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "rows",
        nargs="*",
        type=lambda text: _row_name(text, names),
        metavar="ROW",
        help="the rows to measure; all where none is named",
    )
    parser.add_argument("--repeats", type=count_from(1), help="how often each is measured")
    parser.add_argument("--quick", action="store_true", help="a few repeats only: does it run at all?")
    parser.add_argument(
        "--queued", type=count_from(1), metavar="N", help="how many jobs the row queue queues (100,000)"
    )
    parser.add_argument(
        "--against",
        metavar="REF",
        help="measure this checkout beside another commit, in turns, and fail where it is 1.1x slower",
    )
    parser.add_argument(
        "--turns", type=count_from(1), default=6, help="how many turns with --against (default 6)"
    )
    parser.add_argument(
        "--patience",
        type=positive,
        default=_PATIENCE_S,
        metavar="SECONDS",
        help="give a row up that makes no progress for this long (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


def _row_name(text: str, names: Sequence[str]) -> str:
    if text not in names:
        raise argparse.ArgumentTypeError(f"{text!r} is no row; there are {', '.join(names)}")
    return text


def _print(figures: Sequence[Figure], *, as_json: bool) -> None:
    from benchmarks.figures import table

    machine = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    if as_json:
        shown = {"machine": machine, "figures": [figure.to_json() for figure in figures]}
        print(json.dumps(shown, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(table(figures))


if __name__ == "__main__":
    sys.exit(main())
