"""`scripts/bench`: chooses the rows, gives them a home of their own, prints the table or JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from benchmarks.figures import Figure

_OURS = ("PYTHON_MCP_", "SMART_ASYNC_TIMEOUT_SECONDS", "MCP_DEBUG")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print.

    Returns:
        0, also where an aim is missed; 1 where a row could not be measured.
    """
    options = _parser().parse_args(arguments)
    rows = [row for row in ROWS if not options.rows or row.name in options.rows]
    if options.against:
        return _compare(options, [row.name for row in rows])
    figures: list[Figure] = []
    failed: list[str] = []
    with _own_home():
        for row in rows:
            repeats = options.repeats or (row.quick if options.quick else row.repeats)
            print(f"measuring {row.name}, {repeats} repeats ...", file=sys.stderr)
            try:
                figures += row.measure(repeats)
            except Exception:  # noqa: BLE001  one row that cannot be measured must not cost the others
                traceback.print_exc()
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


def _parser() -> argparse.ArgumentParser:
    about = "\n".join(f"  {row.name:9} {row.about}" for row in ROWS)
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures this project beside its peers, in one run, and prints a table. A missed aim\n"
        'says "misses" and is no failure. docs/benchmarks.md says what each row means.',
        epilog=f"rows:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "rows", nargs="*", type=_row_name, metavar="ROW", help="the rows to measure; all where none is named"
    )
    parser.add_argument("--repeats", type=_count, help="how often each is measured")
    parser.add_argument("--quick", action="store_true", help="a few repeats only: does it run at all?")
    parser.add_argument(
        "--against",
        metavar="REF",
        help="measure this checkout beside another commit, in turns, and fail where it is 1.1x slower",
    )
    parser.add_argument("--turns", type=_count, default=6, help="how many turns with --against (default 6)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


def _row_name(text: str) -> str:
    names = [row.name for row in ROWS]
    if text not in names:
        raise argparse.ArgumentTypeError(f"{text!r} is no row; there are {', '.join(names)}")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number, 1 or more")
    return int(text)


@contextmanager
def _own_home() -> Iterator[None]:
    """Let everything below find an empty home and default settings."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        os.environ["PYTHON_MCP_HOME"] = home
        yield


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
