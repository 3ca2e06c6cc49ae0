"""Starts pytest in a suite's own environment as `python -m pytest` would, with our plugin beside it.

It is copied into the folder of a call and runs there, as a program, with any Python from 3.8 on. What
it is to do stands in `run.json` beside it. The packages that were brought in come last in `sys.path`:
the suite's own win. The name of this file is seen by tests that start processes with `spawn`, which
import it again.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> int:
    """Run pytest and return its exit code."""
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
        run = json.load(file)
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = os.getcwd()
    sys.path += [*run["overlays"], folder]
    import pytest

    sys.argv[:] = [os.path.join(os.path.dirname(pytest.__file__), "__main__.py"), *run["args"]]
    return int(pytest.main())


if __name__ == "__main__":
    sys.exit(main())
