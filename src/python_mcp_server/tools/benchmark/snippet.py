"""Runs a snippet of code in a loop, as `timeit` does: a program, so that no run warms up the next one, and
each has addresses and hash seeds of its own.

Its arguments are two files of JSON. The first has `code`, `setup` and `number`: how many loops to run; 0 to
find out how many take long enough. The second gets `number`, `seconds` and `cpu_s` of all loops together. The
program is given to Python 3.8 or later by `-c`, so that the code imports from the working directory.
"""

from __future__ import annotations

import sys

_HOME = (
    sys.path.pop(0) if sys.path[:1] == [""] else None
)  # a file there may be called as a module that we need

import json  # noqa: E402
import time  # noqa: E402
import timeit  # noqa: E402

if _HOME is not None:
    sys.path.insert(0, _HOME)

ENOUGH_S = 0.1
"""How long the loops of a process take: a clock and a start of a loop are nothing beside it."""

_CODE = "<timeit-src>"
"""The file name that `timeit` gives the code."""


def main(task_path: str, result_path: str) -> int:
    """Run the loops of a task, and write how long they took."""
    with open(task_path, encoding="utf-8", errors="surrogatepass") as file:
        task = json.load(file)
    cpu_s: list[float] = []

    def clock() -> float:
        cpu_s.append(time.process_time())
        return time.perf_counter()

    try:
        timer = timeit.Timer(task["code"], task["setup"], clock)
    except SyntaxError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    try:
        number = task["number"] or _enough(timer)
        seconds = timer.timeit(number)
    except Exception as error:  # noqa: BLE001  whatever the code raises; its own lines are shown
        while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_filename != _CODE:
            error.__traceback__ = error.__traceback__.tb_next
        timer.print_exc()
        return 1
    result = {"number": number, "seconds": seconds, "cpu_s": cpu_s[-1] - cpu_s[-2]}
    with open(result_path, "w", encoding="ascii") as file:
        json.dump(result, file)
    return 0


def _enough(timer: timeit.Timer) -> int:
    """Return how many loops take long enough; the first tries warm the code up."""
    number = 1
    while (seconds := timer.timeit(number)) < ENOUGH_S:
        number *= max(2, min(10, int(1.2 * ENOUGH_S / max(seconds, 1e-9))))
    return number


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
