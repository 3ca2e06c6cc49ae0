"""Frames on the wires of a worker: cut anywhere, of any size, and never a reason to wait."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from python_mcp_server.pool.protocol import PIPE_ATOM, FrameParser, Kind, UpWriter, pack
from python_mcp_server.pool.start import WorkerContext
from python_mcp_server.pool.transport import LoopReader, LoopWriter

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere threads read and write the wires")
KINDS = st.sampled_from([Kind.CALL, Kind.OUTCOME, Kind.PROGRESS, Kind.DETACH])
FRAMES = st.lists(st.tuples(KINDS, st.binary(max_size=300)), max_size=12)


@given(FRAMES, st.lists(st.integers(1, 200), min_size=1))
def test_a_stream_cut_anywhere_gives_the_same_frames(frames: list[tuple[bytes, bytes]], cuts: list[int]):
    stream = b"".join(pack(kind, payload) for kind, payload in frames)
    parser, seen, at, turn = FrameParser(), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        seen += parser.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert seen == frames


@given(FRAMES, st.binary(min_size=1, max_size=50))
def test_half_a_frame_is_kept_and_the_whole_ones_before_it_are_seen(
    frames: list[tuple[bytes, bytes]], last: bytes
):
    stream = b"".join(pack(kind, payload) for kind, payload in frames) + pack(Kind.OUTCOME, last)
    parser = FrameParser()
    assert list(parser.feed(stream[:-1])) == frames
    assert list(parser.feed(stream[-1:])) == [(Kind.OUTCOME, last)]


def test_a_frame_is_what_a_multiprocessing_connection_reads():
    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        os.write(writer.fileno(), pack(Kind.CALL, b"payload"))
        assert reader.recv_bytes() == Kind.CALL + b"payload"


async def test_a_writer_whose_reader_stands_still_does_not_hold_the_loop():
    reader, writer = multiprocessing.Pipe(duplex=False)
    loop = asyncio.get_running_loop()
    seen: asyncio.Future[tuple[bytes, bytes]] = loop.create_future()
    frames = [pack(Kind.CALL, bytes(20_000_000)), pack(Kind.CALL, b"second")]
    with reader, writer:
        sender = LoopWriter(loop, writer)
        for frame in frames:
            sender.send(frame)  # returns at once: nobody reads yet
        parser, got = FrameParser(), []

        def read() -> None:
            while len(got) < 2:
                got.extend(parser.feed(os.read(reader.fileno(), 1 << 16)))

        await asyncio.to_thread(read)
        sender.close()
    assert [(kind, len(payload)) for kind, payload in got] == [(Kind.CALL, 20_000_000), (Kind.CALL, 6)]
    del seen


async def test_a_closed_writer_writes_nothing_to_whoever_has_its_descriptor_now():
    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        sender = LoopWriter(asyncio.get_running_loop(), writer)
        sender.close()
        with pytest.raises(BrokenPipeError):
            sender.send(pack(Kind.DETACH))
        assert not reader.poll(0)


async def test_a_reader_on_the_loop_takes_huge_frames_and_notices_the_end():
    reader, writer = multiprocessing.Pipe(duplex=False)
    whole = asyncio.Event()
    sizes: list[int] = []

    def on_frame(_kind: bytes, payload: bytes) -> None:
        sizes.append(len(payload))
        whole.set()

    with reader:
        listening = LoopReader(asyncio.get_running_loop(), reader.fileno(), on_frame)
        thread = threading.Thread(target=writer.send_bytes, args=(Kind.OUTCOME + bytes(50_000_000),))
        thread.start()
        await whole.wait()
        await asyncio.to_thread(thread.join)
        writer.close()
        listening.drain()
        listening.close()
    assert sizes == [50_000_000]


def test_a_full_pipe_drops_progress_and_delays_the_outcome():
    queue: Any = WorkerContext().SimpleQueue()
    up = UpWriter(queue)
    frame = pack(Kind.PROGRESS, bytes(PIPE_ATOM - 5))
    sent = 0
    while up.offer(frame):
        sent += 1
    assert sent > 0
    sender = threading.Thread(target=up.send, args=(pack(Kind.OUTCOME, bytes(300_000)),))
    sender.start()
    parser, seen = FrameParser(), []
    while len(seen) <= sent:
        seen += parser.feed(os.read(queue.reader.fileno(), 1 << 16))
    sender.join()
    queue.close()
    assert [kind for kind, _ in seen] == [Kind.PROGRESS] * sent + [Kind.OUTCOME]
    assert len(seen[-1][1]) == 300_000


def test_a_gone_server_fails_the_outcome_and_not_the_progress():
    queue: Any = WorkerContext().SimpleQueue()
    up = UpWriter(queue)
    queue.reader.close()
    assert not up.offer(pack(Kind.PROGRESS))
    with pytest.raises(BrokenPipeError):
        up.send(pack(Kind.OUTCOME))
    queue.writer.close()


def test_a_forked_child_may_not_write_into_the_stream():
    queue: Any = WorkerContext().SimpleQueue()
    up = UpWriter(queue)
    up._pid = os.getpid() + 1
    assert not up.offer(pack(Kind.PROGRESS))
    assert queue.empty()
    queue.close()


async def test_a_frame_whose_handler_fails_costs_no_frame_behind_it():
    reader, writer = multiprocessing.Pipe(duplex=False)
    seen: list[bytes] = []

    def on_frame(_kind: bytes, payload: bytes) -> None:
        seen.append(payload)
        raise ValueError(payload)

    with reader, writer:
        os.write(writer.fileno(), pack(Kind.PROGRESS, b"1") + pack(Kind.OUTCOME, b"2"))
        listening = LoopReader(asyncio.get_running_loop(), reader.fileno(), on_frame)
        listening.drain()
        listening.close()
    assert seen == [b"1", b"2"]
