"""Progress at its source: few reports travel, and never the wrong ones."""

from __future__ import annotations

import threading

from python_mcp_server.model import JobProgress
from python_mcp_server.pool.worker.progress import ProgressGate, bounded
from tests.helpers import eventually


class Wire:
    """Keeps what was sent; full while `room` is False."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.room = True
        self.some = threading.Event()

    def offer(self, progress: JobProgress) -> bool:
        if self.room:
            self.sent.append(progress.current)
            self.some.set()
        return self.room


def test_the_first_and_the_last_report_travel_and_few_between():
    wire = Wire()
    gate = ProgressGate(wire.offer)
    report = gate.open()
    for step in range(50_000):
        report(JobProgress(step))
    assert gate.close() is None
    assert wire.sent[0] == 0
    assert wire.sent[-1] == 49_999
    assert len(wire.sent) < 5_000


def test_a_held_report_is_sent_while_the_body_is_silent():
    wire = Wire()
    gate = ProgressGate(wire.offer)
    report = gate.open()
    report(JobProgress(1))
    report(JobProgress(2))
    eventually(lambda: wire.sent == [1, 2])


def test_a_report_that_found_no_room_is_tried_again_without_another_one():
    wire = Wire()
    gate = ProgressGate(wire.offer)
    report = gate.open()
    report(JobProgress(1))
    wire.room = False
    report(JobProgress(2))
    wire.room = True
    eventually(lambda: wire.sent == [1, 2])


def test_a_report_without_room_at_the_end_goes_before_the_outcome():
    wire = Wire()
    wire.room = False
    gate = ProgressGate(wire.offer)
    gate.open()(JobProgress(7))
    assert gate.close() == JobProgress(7)


def test_the_last_report_is_known_although_the_pipe_had_no_room():
    wire = Wire()
    gate = ProgressGate(wire.offer)
    report = gate.open()
    report(JobProgress(1))
    wire.room = False
    report(JobProgress(2))
    gate.close()
    assert gate.last == JobProgress(2)
    gate.open()
    assert gate.last is None


class Unspeakable:
    def __str__(self) -> str:
        raise LookupError("no text")


def test_a_message_is_text_and_not_too_long_whatever_the_body_gave():
    assert bounded(JobProgress(1, 2, "x" * 10_000)).message == "x" * 800
    shown = bounded(JobProgress(1, 2, Unspeakable()))  # type: ignore[arg-type]
    assert shown.message == "<its text cannot be made: LookupError>"
    assert bounded(JobProgress(1)) == JobProgress(1)


def test_a_report_of_an_ended_body_is_dropped_while_the_next_one_runs():
    wire = Wire()
    gate = ProgressGate(wire.offer)
    former = gate.open()
    gate.close()
    former(JobProgress(1))
    present = gate.open()
    former(JobProgress(2))
    present(JobProgress(3))
    gate.close()
    assert wire.sent == [3]
