"""A program with a family, each of a kind that is hard to find or to end: `family.py KIND...`.

Each process writes one line, `<kind> <pid>`, when it is what it says; the root writes `root <pid>`
after its children were started, and then all wait for ever.
"""

from __future__ import annotations

import os
import signal
import sys
import time

LIFETIME_S = 120  # should the test die, so does the family


def say(kind: str) -> None:
    os.write(1, f"{kind} {os.getpid()}\n".encode())


def wait() -> None:
    time.sleep(LIFETIME_S)
    os._exit(0)


def plain() -> None:
    say("plain")
    wait()


def session() -> None:
    """A leader of a session of its own, with a child in it."""
    os.setsid()
    if os.fork() == 0:
        say("session-child")
    else:
        say("session")
    wait()


def orphan() -> None:
    """A double fork: its parent is gone, it stays in the root's session."""
    elder = os.getpid()
    if os.fork():
        os._exit(0)
    _await_adoption(elder)
    say("orphan")
    wait()


def daemon() -> None:
    """A double fork into a session of its own: only its environment still tells whose it is."""
    os.setsid()
    elder = os.getpid()
    if os.fork():
        os._exit(0)
    os.setsid()
    _await_adoption(elder)
    say("daemon")
    wait()


def deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    say("deaf")
    wait()


def stopped() -> None:
    say("stopped")
    os.kill(os.getpid(), signal.SIGSTOP)
    wait()


def hydra() -> None:
    """Never the same process for long: it forks, and the elder goes."""
    os.setsid()
    say("hydra")
    end = time.monotonic() + LIFETIME_S / 4
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
    os._exit(0)


def _await_adoption(elder: int) -> None:
    while os.getppid() == elder:
        time.sleep(0.001)


def main(kinds: list[str]) -> None:
    for kind in kinds:
        if os.fork() == 0:
            globals()[kind]()
    say("root")
    wait()


if __name__ == "__main__":
    main(sys.argv[1:])
