"""`scripts/soak`: runs one soak test, prints its samples and its growth."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from argument_types import count_from, positive


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak test.

    Returns:
        0 if everything is flat, 1 if something grows or went wrong, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return asyncio.run(_run(options))
    except KeyboardInterrupt:
        print("scripts/soak: stopped", file=sys.stderr)
        return 130


async def _run(options: argparse.Namespace) -> int:
    if options.test == "mixed":
        from soak_testing.mixed import soak

        return await soak(options.minutes * 60, options.rate)
    from soak_testing.calls import soak as soak_calls

    return await soak_calls(options.calls)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Runs a steady load, prints samples of memory, descriptors, threads and jobs, and at\n"
        "the end the growth after the first tenth: the median slope (Theil-Sen) with its 95 % interval.\n"
        "Exits with 1 where a whole interval lies above 0.01 % of the first value per minute, or\n"
        "per 10,000 calls.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    tests = parser.add_subparsers(dest="test", required=True, metavar="TEST")
    mixed = tests.add_parser("mixed", help="a server over stdio under a mix of tool calls")
    mixed.add_argument("--minutes", type=positive, default=60.0, help="how long (default: 60)")
    mixed.add_argument("--rate", type=positive, default=20.0, help="calls a second (default: 20)")
    calls = tests.add_parser("calls", help="a library program that makes one call after another")
    calls.add_argument("--calls", type=count_from(10), default=200_000, help="how many (default: 200000)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
