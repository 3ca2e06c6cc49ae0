"""The scripts that `demo` runs."""

from __future__ import annotations

import inspect
import time
from typing import Final

WORK_OF_BUDGET: Final = 2.5
"""CPU time of the heavy script: well above the budget of the demonstration, even where the first
look at the machine's speed was wrong by half."""

_TRIES: Final = 3  # the quickest counts: a noisy moment would make the work too short
_STEP: Final = 20_000


def primes_between(low: int, high: int) -> list[int]:
    """Return the primes in a range by trial division: nothing but CPU."""
    return [n for n in range(low, high) if all(n % d for d in range(2, int(n**0.5) + 1))]


HELLO: Final = """\
import platform, sys
print("hello from Python", platform.python_version(), "with", sys.argv[1:])
"""

PRIMES: Final = f"""\
import hashlib, sys

{inspect.getsource(primes_between)}
steps, low, count, digest = int(sys.argv[1]), 1_000_000, 0, hashlib.sha256()
for i in range(steps):
    found = primes_between(low, low + {_STEP})
    low += {_STEP}
    count += len(found)
    digest.update(repr(found).encode())
    print(f"{{i + 1}}/{{steps}}: {{count}} primes from 1000000 to {{low}}", flush=True)
print("digest", digest.hexdigest()[:16])
"""
"""Takes the number of its steps, which are nearly equal."""

STUBBORN: Final = """\
import signal, subprocess, sys
spin = "import signal\\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\\nwhile True: pass"
child = subprocess.Popen([sys.executable, "-c", spin])
print("child", child.pid, flush=True)
while True: pass
"""
"""Two processes that take a core each; the child ignores SIGTERM."""


def steps_for(cpu_s: float) -> int:
    """Return how many steps of `PRIMES` take this much CPU time on this machine."""
    return max(1, round(cpu_s / max(1e-3, min(_step_s() for _ in range(_TRIES)))))


def _step_s() -> float:
    begin = time.process_time()
    primes_between(1_000_000, 1_000_000 + _STEP)
    return time.process_time() - begin
