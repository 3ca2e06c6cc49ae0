"""Our stdio transport, under a server of nothing but an echo: it survives odd bytes and ends cleanly."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.support import Server, serving
from tests.helpers.marks import thorough

PROGRAM = """
import asyncio, ctypes, os, subprocess, sys
print("printed before anything was started")
from python_mcp_server.server.transports.lines import take_over_stdio
wire = take_over_stdio()
from mcp.server.mcpserver import MCPServer
from python_mcp_server.server.transports.stdio import serve_stdio

server = MCPServer("echo")

@server.tool()
async def echo(text: str) -> str:
    return text

@server.tool()
async def half_a_pair() -> str:
    return "a\\ud800b"

@server.tool()
async def noise() -> str:
    print("from print")
    print("flushed", flush=True)
    os.write(1, b"from fd 1\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"from C")
    libc.fflush(None)
    child = "import os, sys; os.write(1, b'from a child\\\\n'); sys.exit(len(sys.stdin.read()))"
    code = subprocess.run([sys.executable, "-c", child]).returncode
    return f"{len(sys.stdin.read())} {code}"

@server.tool()
async def hang() -> str:
    print("hanging", file=sys.stderr, flush=True)
    await asyncio.Event().wait()

async def signalled():
    print("signalled", file=sys.stderr, flush=True)

code = asyncio.run(serve_stdio(server, wire, signalled))
print("printed at the end")
sys.exit(code)
"""

HELLO = (
    b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25",'
    b' "capabilities": {}, "clientInfo": {"name": "f", "version": "1"}}}\n'
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "echo_server.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that many tests send something to; it leaves as if nothing had been."""
    folder = tmp_path_factory.mktemp("echo")
    (folder / "echo_server.py").write_text(PROGRAM)
    with serving(folder, folder / "echo_server.py") as server:
        yield server.open("2025-11-25")
        assert echo(server, "still here") == "still here"
        assert server.leave() == 0


def echo(server: Server, text: str) -> str:
    return server.call("echo", {"text": text})["structuredContent"]["result"]


def test_text_of_any_script_goes_there_and_back(lasting: Server):
    assert echo(lasting, "grüße") == "grüße"


@pytest.mark.parametrize("busy", [thorough(False), True])
def test_stdout_carries_only_messages_and_a_closed_stdin_exits_with_0(
    tmp_path: Path, program: Path, busy: bool
):
    with serving(tmp_path, program) as server:
        start(server, busy=busy)
        assert server.call("noise")["structuredContent"]["result"] == "0 0"
        server.process.stdin.close()  # type: ignore[union-attr]
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in iter(server.line, b""))
        assert server.process.wait(30) == 0
        for words in (
            "before anything",
            "from print",
            "flushed",
            "from fd 1",
            "from C",
            "a child",
            "at the end",
        ):
            assert words in server.errors


ODD_LINES = [
    (b'{"jsonrpc": "2.0", "method": "\xff\xfe"}\n', -32700),
    (b"\x00\x01\x02\n", -32700),
    (b"hello there\n", -32700),
    (b'{"jsonrpc": "2.0", "id": 5, \n', -32700),
    (b"[]\n", -32600),
    (b'"text"\n', -32600),
    (b'{"jsonrpc": "1.0", "id": true, "method": "x"}\n', -32600),
    (b"[" * 100_000 + b"\n", -32700),
    (b'{"a":' * 100_000 + b"\n", -32700),
    (b'{"jsonrpc": "2.0", "id": null, "method": "tools/list"}\n', -32600),
    (b'{"jsonrpc": "2.0", "id": 2.0, "method": "ping", "params": {}}\n', -32600),
    (b'{"jsonrpc": "2.0", "id": 1e2, "method": "nobody/knows"}\n', -32600),
    (b'{"jsonrpc": "2.0", "id": false, "method": "ping"}\n', -32600),
    (b'{"jsonrpc": "2.0", "id": {"n": 1}, "method": "notifications/initialized"}\n', -32600),
    (b'{"jsonrpc": "2.0", "i\\u0064": [], "method": "ping"}\n', -32600),
    (b'{"jsonrpc": "2.0", "id": "\\ud800", "method": "ping"}\n', -32600),
    (b'{"jsonrpc": "2.0", "id": 3, "id": null, "method": "ping"}\n', -32600),
    (b'{"jsonrpc": "2.0", "id": null, "result": {}}\n', -32600),
    (b'[{"jsonrpc": "2.0", "id": 4, "method": "ping"}]\n', -32600),
    (b'{"jsonrpc": "2.0", "method": 5}\n', -32600),
    (b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": [1]}\n', -32600),
    (b'{"jsonrpc": "2.0", "id": 9%s, "method": "ping"}\n' % (b"9" * 5_000), -32700),
]
"""What cannot be served under an id of its own, and the code of the answer."""

REFUSED_UNDER_ITS_ID = [
    (b'{"jsonrpc": "2.0", "id": 77, "method": "tools/list", "params": 3}\n', 77),
    (b'{"jsonrpc": "2.0", "id": "x", "method": "tools/list", "params": [1]}\n', "x"),
    (b'{"jsonrpc": "2.0", "id": 0, "method": {"a": 1}}\n', 0),
    (b'{"jsonrpc": "2.0", "id": -1, "method": null}\n', -1),
    (b'{"jsonrpc": "1.0", "id": 78, "method": "ping"}\n', 78),
    (b'{"id": 79, "method": "ping"}\n', 79),
]


def test_a_line_that_is_no_message_gets_an_error_and_the_server_goes_on(lasting: Server):
    said_before = lasting.errors
    for odd, code in ODD_LINES:
        lasting.send(odd)
        message = lasting.message()
        assert (message["id"], message["error"]["code"]) == (None, code)
        assert echo(lasting, "still here") == "still here"
    assert "WARNING" in lasting.errors.removeprefix(said_before)


def test_the_content_of_an_invalid_line_is_neither_logged_nor_answered(lasting: Server):
    halved = b'{"jsonrpc": "2.0", "id": 78, "method": "ping", "params": {"hunter2": "\\ud800"}}\n'
    said_before = lasting.errors
    for odd in (b'"hunter2"\n', b"hunter2 hunter2\n", b'{"id": 1, "hunter2": \n'):
        lasting.send(odd)
        message = lasting.message()["error"]["message"]
        assert f"{len(odd) - 1} bytes" in message
        assert "hunter2" not in message
    lasting.send(halved)
    assert "surrogate pair" in lasting.answer(78)["error"]["message"]
    assert "WARNING" in lasting.errors.removeprefix(said_before)
    assert "hunter2" not in lasting.errors


def test_a_request_of_the_wrong_shape_is_refused_under_its_own_id(lasting: Server):
    for odd, number in REFUSED_UNDER_ITS_ID:
        lasting.send(odd)
        message = lasting.message()
        assert (message["id"], message["error"]["code"]) == (number, -32600)


def test_the_answer_to_an_invalid_id_names_its_type(lasting: Server):
    for odd, kind in (("null", "null"), ("1.5", "a number with a fraction"), ("true", "a boolean")):
        lasting.send(b'{"jsonrpc": "2.0", "method": "ping", "id": %s}\n' % odd.encode())
        text = lasting.message()["error"]["message"]
        assert f" is {kind}" in text
        assert text.endswith("it must be a string or an integer")


def test_a_message_nested_too_deeply_or_not_utf8_gets_an_error(lasting: Server):
    for depth, number in ((300, 79), (50_000, None)):
        nested = b'{"jsonrpc": "2.0", "id": 79, "method": "ping", "params": {"in": %s}}\n'
        lasting.send(nested % (b"[" * depth + b"]" * depth))
        message = lasting.message()
        assert (message["id"], message["error"]["message"].endswith("nested too deeply")) == (number, True)
    ping = '{"jsonrpc": "2.0", "id": 79, "method": "ping"}'
    for encoding in ("utf-8-sig", "utf-32-be"):
        lasting.send(ping.encode(encoding) + b"\n")
        assert "is no JSON in UTF-8" in lasting.message()["error"]["message"]


def test_a_request_without_an_id_gets_a_log_line_and_a_notification_none(lasting: Server):
    said_before = lasting.errors
    lasting.send(b'{"jsonrpc": "2.0", "method": "notifications/of-mine", "params": {}}\n')
    assert echo(lasting, "still here") == "still here"
    assert "no id" not in lasting.errors.removeprefix(said_before)
    lasting.send(b'{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "hunter3"}}\n')
    assert echo(lasting, "still here") == "still here"
    assert "has no id" in lasting.errors.removeprefix(said_before)
    assert "hunter3" not in lasting.errors


def test_odd_requests_are_refused_on_a_connection_of_the_newest_protocol(tmp_path: Path, program: Path):
    with serving(tmp_path, program) as server:
        for odd, code in ODD_LINES[-5:]:
            server.send(odd)
            assert server.message()["error"]["code"] == code
        server.open()
        assert echo(server, "first") == "first"
        for odd, code in ODD_LINES:
            server.send(odd)
            message = server.message()
            assert (message["id"], message["error"]["code"]) == (None, code)
        assert echo(server, "last") == "last"


def test_blank_lines_carriage_returns_and_split_lines_are_accepted(lasting: Server):
    lasting.send(b'\n  \n\r\n{"jsonrpc": "2.0", "id": 90, ')
    lasting.send(b'"method": "ping"}\r\n')
    assert lasting.answer(90)["result"] == {}


def test_a_line_of_eight_megabytes_goes_there_and_back(lasting: Server):
    text = "x" * 8_000_000
    assert echo(lasting, text) == text


def test_an_answer_that_utf8_cannot_carry_is_sent_with_a_replacement(lasting: Server):
    content = lasting.call("half_a_pair")["content"]
    assert content[0]["text"] == "a?b"
    assert echo(lasting, "still here") == "still here"


@pytest.mark.parametrize("number", [signal.SIGTERM, thorough(signal.SIGINT)])
@pytest.mark.parametrize("busy", [thorough(False), True])
def test_the_server_exits_at_a_signal_while_the_client_stays(
    tmp_path: Path, program: Path, number: int, busy: bool
):
    with serving(tmp_path, program) as server:
        start(server, busy=busy)
        server.process.send_signal(number)
        assert server.process.wait(30) == 128 + number
        assert "signalled" in server.errors
        assert "Traceback" not in server.errors


def test_the_server_exits_when_its_answers_have_no_reader(tmp_path: Path, program: Path):
    with serving(tmp_path, program) as server:
        start(server, busy=False)
        server.process.stdout.close()  # type: ignore[union-attr]
        with contextlib.suppress(BrokenPipeError):  # it may have noticed by itself
            server.ask("tools/list")
        assert server.process.wait(30) == 0


def test_requests_from_a_file_are_answered_into_a_file(tmp_path: Path, program: Path):
    requests, answers = tmp_path / "requests", tmp_path / "answers"
    odd = b"".join(line for line, _ in ODD_LINES)
    requests.write_bytes(HELLO + odd + b'{"jsonrpc": "2.0", "id": 2, "method": "ping"}')
    with (
        requests.open() as source,
        answers.open("w") as sink,
        serving(tmp_path, program, stdin=source, stdout=sink) as server,
    ):
        server.process.wait(30)
    said = [json.loads(line) for line in answers.read_text().splitlines()]
    assert {message["id"] for message in said} == {1, 2, None}
    assert [each["error"]["code"] for each in said if each["id"] is None] == [code for _, code in ODD_LINES]


def test_a_terminal_is_served(tmp_path: Path, program: Path):
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb+", 0) as terminal, serving(tmp_path, program, stdin=theirs) as server:
        os.close(theirs)
        terminal.write(HELLO)
        assert server.answer(1)["result"]["protocolVersion"] == "2025-11-25"
        terminal.write(b'{"jsonrpc": "2.0", "id": null, "method": "ping"}\n')
        assert server.answer(None)["error"]["code"] == -32600
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 128 + signal.SIGTERM


def test_one_socket_may_be_both_ends(tmp_path: Path, program: Path):
    ours, theirs = socket.socketpair()
    with ours, serving(tmp_path, program, stdin=theirs, stdout=theirs) as server:
        theirs.close()
        ours.sendall(HELLO)
        with ours.makefile("rb") as answers:
            assert json.loads(answers.readline())["id"] == 1
        ours.shutdown(socket.SHUT_WR)
        assert server.process.wait(30) == 0


def test_stderr_on_the_clients_pipe_keeps_prints_away_from_it(tmp_path: Path, program: Path):
    with serving(tmp_path, program, stderr=subprocess.STDOUT) as server:
        assert server.open().call("noise")["structuredContent"]["result"] == "0 0"


def start(server: Server, *, busy: bool) -> None:
    server.open()
    assert echo(server, "ready") == "ready"
    if busy:
        server.ask("tools/call", {"name": "hang", "arguments": {}})
        assert echo(server, "again") == "again"
