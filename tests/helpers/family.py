"""A program with a family, each of a kind that is hard to find or to end: `family.py KIND...`.

Each process writes one line, `<kind> <pid>`, when it is what it says; the root writes `root <pid>`
after its children were started, and then all wait for ever. `family.py adopt KIND...` makes the root a
subreaper, as a worker is one (Linux): orphans then stay below it.
"""

from __future__ import annotations

import ctypes
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
    """A process that keeps forking; the parent exits each time."""
    os.setsid()
    say("hydra")
    end = time.monotonic() + LIFETIME_S / 4
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
    os._exit(0)


def nomads() -> None:
    """As `hydra`, with each generation in a session and a group of its own."""
    say("nomads")
    end = time.monotonic() + LIFETIME_S / 4
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        os.setsid()
    os._exit(0)


def phoenix() -> None:
    """It answers SIGTERM by starting another of its kind in a session of its own."""

    def rise(*_: object) -> None:
        if os.fork() == 0:
            os.setsid()

    signal.signal(signal.SIGTERM, rise)
    say("phoenix")
    end = time.monotonic() + LIFETIME_S
    while time.monotonic() < end:
        signal.pause()
    os._exit(0)


def guards() -> None:
    """Two processes in sessions of their own; each restarts the other as soon as that is gone."""
    os.setsid()
    say("guards")
    end = time.monotonic() + LIFETIME_S / 2
    while time.monotonic() < end:
        fallen, fall = os.pipe()
        if os.fork() == 0:  # the new one watches the old one, which holds the other end
            os.setsid()
            os.close(fall)
            os.read(fallen, 1)
            os.close(fallen)
        else:
            os.close(fallen)
            os.wait()
            os.close(fall)
    os._exit(0)


def hidden() -> None:
    """A daemon that has cleared its environment: it is found below a subreaper only."""
    os.setsid()
    if os.fork():
        os._exit(0)
    code = f"import os, time; os.write(1, b'hidden %d\\n' % os.getpid()); time.sleep({LIFETIME_S})"
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", code], {})


def _adopt() -> None:
    subreaper = 36  # PR_SET_CHILD_SUBREAPER
    ctypes.CDLL(None).prctl(subreaper, 1, 0, 0, 0)


def _await_adoption(elder: int) -> None:
    while os.getppid() == elder:
        time.sleep(0.001)


def main(kinds: list[str]) -> None:
    if kinds[0] == "adopt":
        _adopt()
    for kind in kinds[kinds[0] == "adopt" :]:
        if os.fork() == 0:
            globals()[kind]()
    say("root")
    wait()


if __name__ == "__main__":
    main(sys.argv[1:])
