"""The script that jobs run: `job_script.py KIND VALUE STARTS`. It notes its start and prints an answer.

It is started hundreds of times, so it imports little, and nothing of the product.
"""

import os
import signal
import sys
import time

ANSWER_FACTOR = 7919


def _quick(_value: int) -> None:
    """Do nothing."""


def sleep_s(value: int) -> float:
    """Return how long a script of the kind "sleeps" sleeps."""
    return 0.1 + value % 16 / 8


def _sleeps(value: int) -> None:
    time.sleep(sleep_s(value))


def _lasts(value: int) -> None:
    time.sleep(20 + value % 10)


def _outlives(_value: int) -> None:
    time.sleep(6)


def _computes(value: int) -> None:
    until = time.process_time() + 0.1 + value % 8 / 8
    while time.process_time() < until:
        sum(range(1000))


def _forks(value: int) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(0.2 + value % 8 / 4)
        os._exit(0)
    os.waitpid(child, 0)


def _leaves_a_session(value: int) -> None:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
    time.sleep(value % 8 / 4)


def _ignores_term(value: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(0.5 + value % 16 / 4)


def _stays(value: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _lasts(value)


def _floods(_value: int) -> None:
    line = "x" * 99 + "\n"
    for _ in range(20_000):
        sys.stdout.write(line)


def _fails(_value: int) -> None:
    sys.exit(3)


def _dies(_value: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


KINDS = {
    "quick": _quick,
    "sleeps": _sleeps,
    "lasts": _lasts,
    "outlives": _outlives,
    "computes": _computes,
    "forks": _forks,
    "session": _leaves_a_session,
    "ignores-term": _ignores_term,
    "stays": _stays,
    "floods": _floods,
    "fails": _fails,
    "dies": _dies,
}


def note_start(starts: str, job_id: str) -> None:
    """Append a line to the file of starts, in one write, so that lines of several processes do not mix.

    The time is that of the monotonic clock, which all processes share.
    """
    descriptor = os.open(starts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{job_id} {os.getpid()} {time.monotonic()}\n".encode())
    os.close(descriptor)


if __name__ == "__main__":
    _, kind, value, starts = sys.argv
    note_start(starts, os.environ["PYTHON_MCP_JOB_ID"])
    KINDS[kind](int(value))
    print(int(value) * ANSWER_FACTOR, flush=True)
