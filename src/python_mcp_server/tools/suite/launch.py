"""Starts pytest in a suite's own environment as `python -m pytest` would, with our plugin.

This program is copied into the folder of a call and runs there with any Python from 3.8 on. `run.json` beside
it has the arguments. The packages that uv brought in come last in `sys.path`, so that the suite's own win.
Tests that start processes with `spawn` import this file again, and see its name.
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
