"""What all tests share: `run` for coroutines, `eventually` for what happens elsewhere, child processes."""

from __future__ import annotations

from tests.helpers.loop import LoopBlocked, run
from tests.helpers.programs import ROOT, environment, python, run_python
from tests.helpers.waiting import eventually

__all__ = ["ROOT", "LoopBlocked", "environment", "eventually", "python", "run", "run_python"]
