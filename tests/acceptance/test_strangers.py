"""What connects to the HTTP server and does not belong there, beside a client at work."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Generator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from python_mcp_server.store.files import FileJobStore
from tests.acceptance.over_http import OVER_HTTP, client_of, over_http, port_of
from tests.acceptance.support import MODERN, data, serving
from tests.helpers import eventually, run, run_python
from tests.helpers.marks import thorough

SHORT = (
    "from python_mcp_server.server.transports import connections\n"
    "connections.HEAD_S, connections.BODY_S = 0.3, 0.6\n"
)
SESSIONS = "from python_mcp_server.server.transports import sessions\nsessions.MOST_SESSIONS = 5\n"
FEW_FILES = (
    "import os, resource, sys\n"
    "resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
    "words = '-m', 'python_mcp_server', 'serve', '--http', '--port', '0'\n"
    "os.execv(sys.executable, [sys.executable, *words])\n"
)
UNREAD = "from python_mcp_server.server.transports import connections\nconnections.READ_S = 1.0\n"
STUCK = (
    "import os, threading\n"
    "from python_mcp_server.server import app\n"
    "close = app.close_in_time\n"
    "async def stuck(manager):\n"
    "    import asyncio\n"
    "    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)\n"
    "    await close(manager)\n"
    "app.close_in_time = stuck\n"
)
WAIT_S = 30.0
NUMBERS = itertools.count(10)
MCP = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n"


@contextlib.contextmanager
def strangers() -> Generator[Callable[[int], socket.socket]]:
    """Yield a function that connects; all of its connections are closed in the end."""
    with contextlib.ExitStack() as opened:
        yield lambda port: opened.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_S))


def closed(connection: socket.socket) -> bool:
    """Whether the server has closed it, after all that it said."""
    connection.setblocking(False)
    try:
        while connection.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


def asked(port: int, method: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str]]:
    """Send a request; return the status and the headers, which is all that a stream has at first."""
    way = HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        names = MCP | {name.replace("_", "-"): value for name, value in headers.items()}
        way.request(method, "/mcp", json.dumps(body) if body else None, names)
        answer = way.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        way.close()


def opened(port: int) -> str:
    """Open a session; return its id."""
    hello = {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"},
    }  # fmt: skip
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    return asked(port, "POST", body)[1]["mcp-session-id"]


def pinged(port: int, session: str) -> int:
    return asked(port, "POST", {"jsonrpc": "2.0", "id": 2, "method": "ping"}, Mcp_Session_Id=session)[0]


def works(port: int, folder: Path) -> None:
    """Let a client do its work."""

    async def main() -> None:
        async with client_of(port, mode=MODERN) as client:
            script = {"directory": str(folder), "script_content": "print('done')"}
            answer = await client.call_tool("py_run_script_in_dir", script)
            assert data(answer)["stdout"] == "done\n"

    run(main())


@pytest.mark.skipif(os.name != "posix", reason="Windows sets no limit of files")
def test_silent_connections_beyond_the_limit_keep_no_client_out(tmp_path: Path):
    with serving(tmp_path, "-c", FEW_FILES.format(soft=256, hard=256)) as server, strangers() as connect:
        port = port_of(server)
        silent = [connect(port) for _ in range(400)]
        works(port, tmp_path)
        eventually(lambda: sum(closed(each) for each in silent) >= 400 - 256 // 4)
        assert len(server.errors) < 2000
        assert "because too many are open" in server.errors


@pytest.mark.skipif(os.name != "posix", reason="Windows sets no limit of files")
def test_the_server_may_open_more_files_and_its_workers_as_many_as_before(tmp_path: Path):
    code = "import os, resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], sorted(os.environ))"

    async def main(port: int) -> str:
        async with client_of(port, mode=MODERN) as client:
            script = {"directory": str(tmp_path), "script_content": code}
            return data(await client.call_tool("py_run_script_in_dir", script))["stdout"]

    with serving(tmp_path, "-c", FEW_FILES.format(soft=300, hard=900)) as server, strangers() as connect:
        port = port_of(server)
        many = [connect(port) for _ in range(200)]  # more than a quarter of 300, fewer than one of 900
        said = run(main(port))
        assert said.startswith("300 ")
        assert "OPEN_FILES" not in said
        assert not any(closed(each) for each in many)


def test_a_head_or_a_body_that_does_not_come_whole_is_closed(tmp_path: Path):
    with (
        serving(tmp_path, "-c", SHORT + OVER_HTTP.format(host="127.0.0.1", port=0)) as server,
        strangers() as connect,
    ):
        port = port_of(server)
        silent, head, body, refused = (connect(port) for _ in range(4))
        body.sendall(HEAD + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
        refused.sendall(HEAD.replace(b"localhost", b"evil.example") + b"Content-Length: 1000\r\n\r\n")
        slow = {head: b"X: y\r\n", body: b" ", refused: b" "}
        head.sendall(HEAD)
        works(port, tmp_path)  # takes longer than a head may
        waiting = {silent, *slow}
        deadline = time.monotonic() + WAIT_S
        while waiting and time.monotonic() < deadline:
            for each in waiting & slow.keys():
                with contextlib.suppress(OSError):  # closed meanwhile
                    each.setblocking(True)
                    each.sendall(slow[each])
            waiting = {each for each in waiting if not closed(each)}
            time.sleep(0.05)
        assert not waiting
        assert "has not come whole within 0.3 s" in server.errors


def test_a_stream_and_a_long_call_outlive_the_time_for_a_head(tmp_path: Path):
    async def main(port: int) -> None:
        async with client_of(port, mode="legacy") as client:
            code = "import time; time.sleep(1.5); print('done')"
            script = {"directory": str(tmp_path), "script_content": code}
            assert data(await client.call_tool("py_run_script_in_dir", script))["stdout"] == "done\n"

    with serving(tmp_path, "-c", SHORT + OVER_HTTP.format(host="127.0.0.1", port=0)) as server:
        run(main(port_of(server)))
        assert "closed a connection" not in server.errors


def test_a_head_that_is_too_large_is_refused_before_its_token(tmp_path: Path):
    env = {"PYTHON_MCP_HTTP_TOKEN": "a-token-that-nobody-has"}
    with serving(tmp_path, *over_http(), env=env) as server, strangers() as connect:
        port = port_of(server)
        large = connect(port)
        with contextlib.suppress(ConnectionError):  # the server may close before all of it is sent
            large.sendall(HEAD + b"X: " + b"a" * 1_000_000)
        eventually(lambda: closed(large))
        assert asked(port, "GET", X="a" * 66_000)[0] == 431
        assert "with 401" not in server.errors


def test_what_strangers_cause_again_and_again_is_logged_once(tmp_path: Path):
    with serving(tmp_path, *over_http()) as server, strangers() as connect:
        port = port_of(server)
        for _ in range(50):
            assert asked(port, "GET", Host="evil.example")[0] == 421
            connect(port).sendall(b"no HTTP at all\r\n\r\n")
        eventually(lambda: "Invalid HTTP request" in server.errors)
        assert server.errors.count("refused a request of 127.0.0.1 with 421") == 1
        assert server.errors.count("Invalid HTTP request") == 1


def test_a_body_that_is_no_http_gets_no_traceback(tmp_path: Path):
    with serving(tmp_path, *over_http()) as server, strangers() as connect:
        at_once, later = (connect(port_of(server)) for _ in range(2))
        chunked = HEAD.replace(b"localhost", b"evil.example") + b"Transfer-Encoding: chunked\r\n\r\n"
        at_once.sendall(chunked + b"no chunk\r\n")
        later.sendall(chunked)
        assert b" 421 " in later.recv(1000)
        later.sendall(b"no chunk\r\n")
        eventually(lambda: closed(at_once) and closed(later))
        works(port_of(server), tmp_path)
        assert "Traceback" not in server.errors


def test_the_oldest_idle_session_gives_way_and_one_at_work_stays(tmp_path: Path):
    with (
        serving(tmp_path, "-c", SESSIONS + OVER_HTTP.format(host="127.0.0.1", port=0)) as server,
        contextlib.closing(HTTPConnection("127.0.0.1", port_of(server), timeout=WAIT_S)) as stream,
    ):
        port = port_of(server)
        streaming, idle, used = (opened(port) for _ in range(3))
        stream.request("GET", "/mcp", headers={"Accept": "text/event-stream", "Mcp-Session-Id": streaming})
        assert stream.getresponse().status == 200
        for _ in range(3):
            assert pinged(port, used) == 200
            opened(port)
        assert [pinged(port, each) for each in (streaming, idle, used)] == [200, 404, 200]


def test_a_client_that_resumes_a_stream_gets_a_new_one(tmp_path: Path):
    with serving(tmp_path, *over_http()) as server:
        port = port_of(server)
        status, headers = asked(port, "GET", Mcp_Session_Id=opened(port), Last_Event_ID="5")
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert "without starting response" not in server.errors


def asking_for(tool: str, session: str | None = None, **arguments: Any) -> bytes:
    """Return a request as it is on the wire, with an id of its own: of a session, whose answers are streams,
    or of the newest version.
    """
    number = next(NUMBERS)
    names = {"protocolVersion": MODERN, "clientInfo": {"name": "a", "version": "1"}, "clientCapabilities": {}}
    meta = {f"io.modelcontextprotocol/{name}": value for name, value in names.items()}
    params = {"name": tool, "arguments": arguments} | ({} if session else {"_meta": meta})
    body = json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()
    newest = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": tool}
    sent = MCP | ({"Mcp-Session-Id": session} if session else newest)
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return HEAD + f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def printed(port: int, folder: Path, size: int) -> str:
    """Let a job print so much, and return its id."""

    async def main() -> str:
        async with client_of(port, mode=MODERN) as client:
            script = {"directory": str(folder), "script_content": f"print('x' * {size})", "async_mode": True}
            job_id: str = data(await client.call_tool("py_run_script_in_dir", script))["job_id"]
            assert not data(await client.call_tool("py_wait_job", {"job_id": job_id}))["timed_out"]
            return job_id

    return run(main())


@pytest.mark.parametrize("streams", [thorough(False), True])
def test_answers_that_are_not_read_take_no_memory_and_end(tmp_path: Path, streams: bool):
    size, many = 400_000, 40
    with (
        serving(tmp_path, "-c", UNREAD + OVER_HTTP.format(host="127.0.0.1", port=0)) as server,
        strangers() as connect,
    ):
        port, process = port_of(server), psutil.Process(server.process.pid)
        session = opened(port) if streams else None
        wanted = {"job_id": printed(port, tmp_path, size), "limit": size}
        reader = connect(port)
        reader.sendall(asking_for("py_job_output", session, **wanted))
        kind = b"text/event-stream" if streams else b"application/json"
        assert kind in reader.recv(300)
        reader.close()
        before = process.memory_info().rss
        unread = [connect(port) for _ in range(8)]
        for each in unread:
            each.sendall(b"".join(asking_for("py_job_output", session, **wanted) for _ in range(many)))
        works(port, tmp_path)
        eventually(lambda: "has read nothing of an answer for 1 s" in server.errors)
        assert process.memory_info().rss - before < len(unread) * many * size / 2
        eventually(lambda: not any(each.status == "ESTABLISHED" for each in process.net_connections()))
        works(port, tmp_path)


def test_a_stop_beside_all_that_is_open_leaves_nothing(tmp_path: Path):
    """Half a head, half a body, streams, a call, and answers that are not read; the test's end looks for
    processes."""
    shared = Path("/dev/shm")
    before = {each.name for each in shared.glob("*")}
    with serving(tmp_path, *over_http()) as server, strangers() as connect:
        port = port_of(server)
        session = opened(port)
        wanted = {"job_id": printed(port, tmp_path, 400_000), "limit": 400_000}
        waits = {"directory": str(tmp_path), "script_content": "import time; time.sleep(600)"}
        stream = HEAD.replace(b"POST", b"GET") + f"Mcp-Session-Id: {session}\r\n".encode()
        for said in (
            HEAD,
            HEAD + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
            stream + b"Accept: text/event-stream\r\n\r\n",
            asking_for("py_run_script_in_dir", **waits),
            b"".join(asking_for("py_job_output", **wanted) for _ in range(20)),
            b"".join(asking_for("py_job_output", session, **wanted) for _ in range(20)),
        ):
            connect(port).sendall(said)
        works(port, tmp_path)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT_S) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
        assert "Traceback" not in server.errors
        socket.create_server(("127.0.0.1", port)).close()
    new = {each.name for each in shared.glob("*")} - before
    assert not [name for name in new if name.startswith(("sem.", "loky", "psm_", "pymp"))]


def test_a_thread_that_never_ends_does_not_keep_the_server(tmp_path: Path):
    with serving(tmp_path, "-c", STUCK + OVER_HTTP.format(host="127.0.0.1", port=0)) as server:
        port_of(server)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT_S) == 128 + signal.SIGTERM
        assert time.monotonic() - started < 10  # 3 s, and what a busy machine takes
        assert "Traceback" not in server.errors


def names_seen(port: int, token: str, folder: Path) -> str:
    """Return what a script of a client with this token sees of tokens, after leaving a job."""

    async def main() -> str:
        async with client_of(port, token, mode=MODERN) as client:
            code = "import os; print([name for name in os.environ if 'TOKEN' in name])"
            script = {"directory": str(folder), "script_content": code}
            return data(await client.call_tool("py_run_script_in_dir", script))["stdout"]

    return run(main())


def test_a_token_from_a_file_is_in_no_environment_and_in_no_record(tmp_path: Path, home: Path):
    token = "weak-but-long-enough"
    (tmp_path / "token").write_text(token + "\n")
    env = {"PYTHON_MCP_HTTP_TOKEN_FILE": str(tmp_path / "token"), "PYTHON_MCP_RECORD_AFTER_SECONDS": "0"}
    with serving(tmp_path, *over_http(), env=env) as server:
        port = port_of(server)
        assert asked(port, "GET")[0] == 401
        assert names_seen(port, token, tmp_path) == "[]\n"
        if Path("/proc/self/environ").exists():
            assert token.encode() not in Path(f"/proc/{server.process.pid}/environ").read_bytes()
    store = FileJobStore(home)
    try:
        (job,), _ = store.list()
    finally:
        store.close()
    assert re.fullmatch(r"client:http-token-hmac:[0-9a-f]{32}", job.principal or "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash makes the pipe")
def test_a_token_may_come_from_a_program_and_with_a_mark(tmp_path: Path):
    token = "weak-but-long-enough"
    (tmp_path / "bytes").write_bytes(f"\ufeff{token}\r\n".encode())
    line = f'PYTHON_MCP_HTTP_TOKEN_FILE=<(cat {tmp_path / "bytes"}) exec "$@"'
    start = (
        f"import os, sys; os.execvp('bash', ['bash', '-c', {line!r}, 'bash', sys.executable, *sys.argv[1:]])"
    )
    with serving(tmp_path, "-c", start, *over_http()) as server:
        port = port_of(server)
        assert asked(port, "GET")[0] == 401
        assert names_seen(port, token, tmp_path) == "[]\n"


@pytest.mark.parametrize(("content", "problem"), [(None, "can be read"), ("", "with the token"), ("x", "16")])
def test_a_file_without_a_token_is_refused_in_a_sentence(tmp_path: Path, content: str | None, problem: str):
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    env = {**os.environ, "PYTHON_MCP_HTTP_TOKEN_FILE": str(path)}
    ended = run_python("-m", "python_mcp_server", "serve", "--http", "--port", "0", env=env)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert problem in line
    assert f"PYTHON_MCP_HTTP_TOKEN_FILE is {str(path)!r}" in line
