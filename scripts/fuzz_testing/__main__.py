"""`scripts/fuzz`: random texts and arguments for every parser and tool."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from argument_types import count_from

if TYPE_CHECKING:
    from fuzz_testing.targets import Target

_LONGEST_S: Final = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz everything and print a line for each target.

    Returns:
        0 if nothing was found, 1 otherwise, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.environ["PYTHON_MCP_HOME"] = folder
        from fuzz_testing.targets import parsers, quiet, tools

        targets = [*parsers(Path(folder)), *tools()]
        each = -(-options.examples // len(targets))
        try:
            with quiet():
                found = sum(not _holds(target, each, options.seed) for target in targets)
        except KeyboardInterrupt:
            print("scripts/fuzz: stopped", file=sys.stderr)
            return 130
    print(f"{each * len(targets)} examples, {len(targets)} targets, {found} found")
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description="Feeds random texts to every parser, and random arguments to every tool up to its body.\n"
        f"An example that takes over {_LONGEST_S:g} s, or ends in anything but a value or a sentence,\n"
        "is printed, and makes it exit with 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--examples", type=count_from(1), default=100_000, help="how many in all (default: 100000)"
    )
    parser.add_argument("--seed", type=int, default=1, help="the seed of all random choices (default: 1)")
    return parser


def _holds(target: Target, examples: int, seed: int) -> bool:
    from hypothesis import HealthCheck, given, settings
    from hypothesis import seed as seeded

    slowest = 0.0
    checks: list[HealthCheck] = [
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ]

    @seeded(seed)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=checks)
    @given(target.given)
    def fuzz(value: object) -> None:
        nonlocal slowest
        began = time.perf_counter()
        with suppress(*target.refusals):
            target.run(value)
        took = time.perf_counter() - began
        slowest = max(slowest, took)
        if took > _LONGEST_S:
            raise TimeoutError(f"it took {took:.1f} s")

    try:
        fuzz()
    except Exception as error:  # noqa: BLE001  anything that is no sentence is what is looked for
        print(f"FOUND in {target.name}: {error!r} {' '.join(getattr(error, '__notes__', ()))}", flush=True)
        return False
    print(f"{target.name:32} {examples} examples, slowest {slowest:.2f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
