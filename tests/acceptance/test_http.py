"""Our server over streamable HTTP: the same answers, to those who may ask, and a stop that stops."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import fields
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.model import Job, JobState
from python_mcp_server.settings import BUDGET_VARIABLE, Settings, variable
from python_mcp_server.store.files import FileJobStore
from tests.acceptance.over_http import TOKEN, Served, client_of, over_http, port_of
from tests.acceptance.support import MODERN, Server, data, refusal, serving
from tests.helpers import eventually, run, run_python
from tests.helpers.marks import thorough
from tests.helpers.proxy import proxy_to

STOP_S = 30.0
GO_ON = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)\nprint('done')"


def asked(
    port: int, path: str = "/mcp", method: str = "POST", **headers: str
) -> tuple[int, dict[str, str], str]:
    """Send a request with these headers; return the status, the headers and the text of the answer."""
    return sent(port, path, method, b"{}" if method == "POST" else None, headers)


def sent(
    port: int, path: str, method: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, dict[str, str], str]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = HTTPConnection("127.0.0.1", port, timeout=STOP_S)
    try:
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        return (
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            answer.read().decode(),
        )
    finally:
        connection.close()


def record(home: Path, job_id: str) -> Job:
    store = FileJobStore(home)
    try:
        job = store.get(job_id)
    finally:
        store.close()
    assert job is not None
    return job


def script(directory: Path, code: str, **arguments: Any) -> dict[str, Any]:
    return {"directory": str(directory), "script_content": code, **arguments}


def stop(server: Server, number: signal.Signals = signal.SIGTERM) -> None:
    """Ask it to stop, and wait until it has."""
    server.process.send_signal(number)
    assert server.process.wait(STOP_S) in (0, -number, 128 + number)
    assert "Traceback" not in server.errors


@pytest.mark.parametrize(("host", "mode"), [thorough("127.0.0.1", "legacy"), ("localhost", MODERN)])
def test_http_serves_only_its_own_pages_and_names_until_ctrl_c(
    tmp_path: Path, home: Path, host: str, mode: Any
):
    async def main(port: int) -> None:
        async with client_of(port, host=host, mode=mode) as client:
            arguments = script(tmp_path, 'print("hello")')
            assert data(await client.call_tool("py_run_script_in_dir", arguments))["stdout"] == "hello\n"
            unknown = await client.call_tool("py_job_status", {"job_id": "nobody"})
            assert refusal(unknown) == "Job nobody not found"

    words = ("-m", "python_mcp_server", "serve", "--http", "--host", host, "--port", "0")
    with serving(tmp_path, *words) as server:
        port = port_of(server)
        run(main(port))
        for path in ("/mcp", "/healthz", "/", "/nothing/there"):
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                assert asked(port, path, method, Host="rebound.example")[0] == 421
                assert asked(port, path, method, Origin="https://rebound.example")[0] == 403
        status, headers, text = asked(port, "/healthz", "GET")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert re.fullmatch(r'\{"status":"ok","version":"[^"]+","problems":\[\]\}', text)
        assert asked(port, "/healthz")[0] == 405
        assert asked(port, "/nothing/there", "GET")[0] == 404
        job_id = run(stopped(port, tmp_path, server))
    (tmp_path / "go").touch()
    assert eventually(lambda: record(home, job_id).status.terminal)
    assert record(home, job_id).status is JobState.COMPLETED


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_a_second_interrupt_ends_the_server_without_a_traceback(tmp_path: Path):
    words = ("-m", "python_mcp_server", "serve", "--http", "--port", "0")
    with serving(tmp_path, *words) as server:
        port = port_of(server)
        with socket.create_connection(("127.0.0.1", port)) as held:
            held.sendall(b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{")
            assert asked(port, "/healthz", "GET")[0] == 200
            while server.process.poll() is None:
                server.process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    server.process.wait(0.05)
        assert "Traceback" not in server.errors


async def stopped(port: int, folder: Path, server: Server) -> str:
    """Stop it beside a stream of the old kind, one of the new, a job, and a call, whose client is told."""
    async with client_of(port, mode="legacy") as old, client_of(port, mode=MODERN) as new:
        await old.list_tools()
        arguments = script(folder, GO_ON, async_mode=True)
        job_id = data(await new.call_tool("py_run_script_in_dir", arguments))["job_id"]
        waiting = asyncio.create_task(new.call_tool("py_run_script_in_dir", script(folder, GO_ON)))
        async with new.listen(resource_subscriptions=[f"job://{job_id}"]):
            while data(await new.call_tool("py_list_jobs", {"status_filter": "running"}))["total"] < 2:
                await asyncio.sleep(0.05)
            await asyncio.to_thread(stop, server, signal.SIGINT)
        assert "cancelled" in refusal(await waiting)
        return job_id


def test_the_jobs_of_one_token_are_hidden_from_others(http: Served, tmp_path: Path):
    """A server that others can reach makes its own token; one with another token knows no job of it."""
    code = "import os; print(sorted(name for name in os.environ if 'TOKEN' in name))"

    async def make(port: int, token: str) -> str:
        async with client_of(port, token, mode="legacy") as client:
            arguments = script(tmp_path, "pass", async_mode=True)
            job_id = data(await client.call_tool("py_run_script_in_dir", arguments))["job_id"]
            assert not data(await client.call_tool("py_wait_job", {"job_id": job_id}))["timed_out"]
            assert job_id in [job["id"] for job in data(await client.call_tool("py_list_jobs"))["jobs"]]
            return job_id

    async def look(port: int, job_id: str) -> None:
        async with client_of(port, TOKEN, mode=MODERN) as client:
            for tool in ("py_job_status", "py_wait_job", "py_job_output", "py_cancel_job"):
                assert refusal(await client.call_tool(tool, {"job_id": job_id})) == f"Job {job_id} not found"
            assert data(await client.call_tool("py_list_jobs"))["total"] == 0
            pruned = await client.call_tool("py_prune_jobs", {"keep_completed": False, "max_age_hours": 0})
            assert data(pruned) == {"removed": 0, "remaining": 0}
            shown = data(await client.call_tool("py_run_script_in_dir", script(tmp_path, code)))
            assert shown["stdout"] == "[]\n"

    env = {"MCP_DEBUG": "true", "PYTHON_MCP_HOME": str(http.home)}
    with serving(tmp_path, *over_http("0.0.0.0"), env=env) as server:
        port = port_of(server)
        made = eventually(lambda: re.search(r"access token, for this run: (\S+)\n", server.errors))[1]
        for wrong in ({}, {"Authorization": "Bearer " + TOKEN}):
            status, headers, _ = asked(port, "/anything", **wrong)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert asked(port, "/healthz", "GET")[0] == 200
        job_id = run(make(port, made))
        stop(server)
        assert server.errors.count(made) == 1
        assert made not in (http.home / "logs" / "server.log").read_text()
    principal = record(http.home, job_id).principal
    assert principal is not None
    assert made not in principal
    assert asked(http.port)[0] == 401
    run(look(http.port, job_id))
    assert "for this run" not in http.server.errors
    assert record(http.home, job_id).status is JobState.COMPLETED


async def test_a_call_whose_connection_is_cut_goes_on_as_a_job(http: Served, tmp_path: Path):
    async def call(port: int) -> None:
        async with client_of(port, TOKEN, mode=MODERN) as client:
            await client.call_tool("py_run_script_in_dir", script(tmp_path, GO_ON))

    async with proxy_to(http.port) as proxy, client_of(http.port, TOKEN, mode=MODERN) as direct:
        calling = asyncio.create_task(call(proxy.port))
        while not (jobs := data(await direct.call_tool("py_list_jobs"))["jobs"]):
            await asyncio.sleep(0.02)
        proxy.cut()
        with pytest.raises(ExceptionGroup):
            await calling
        while not record(http.home, jobs[0]["id"]).background:
            await asyncio.sleep(0.02)
        (tmp_path / "go").touch()
        waited = data(await direct.call_tool("py_wait_job", {"job_id": jobs[0]["id"]}))
        assert waited["job"]["result"]["stdout"] == "done\n"


@pytest.mark.parametrize("host", [thorough("192.0.2.1"), "nobody.invalid"])
def test_an_address_that_is_not_of_this_machine_is_refused(host: str):
    ended = run_python(*over_http(host))
    assert ended.returncode != 0
    assert f"host is '{host}'" in ended.stderr.splitlines()[-1]


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_python(*over_http(port=port))
        assert f"port is {port}" in ended.stderr.splitlines()[-1]


ODD_BODIES = [
    b'{"jsonrpc": "2.0", "id": null, "method": "ping"}',
    b'{"jsonrpc": "2.0", "id": 1.0, "method": "tools/list"}',
    b'{"jsonrpc": "2.0", "id": true, "method": "notifications/initialized"}',
    b'{"jsonrpc": "2.0", "id": [1], "method": "ping"}',
    b'{"jsonrpc": "2.0", "id": {}, "method": "tools/call", "params": {}}',
    b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]',
    b'{"jsonrpc": "2.0", "id": 1, "method": 7}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}',
    b"{",
    b"\xff",
    b'"ping"',
    b"[" * 50_000,
]


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
def test_a_body_that_is_no_request_is_answered_with_an_error(http: Served, version: str):
    headers = {
        "Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": version,
    }  # fmt: skip
    for body in ODD_BODIES:
        status, _, text = sent(http.port, "/mcp", "POST", body, headers)
        assert status == 400, body[:80]
        error = json.loads(text)["error"]
        assert error["code"] in (-32700, -32600, -32602)
        assert error["message"]


def test_a_request_over_http_without_an_id_gets_a_log_line(http: Served):
    headers = {
        "Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": MODERN,
    }  # fmt: skip
    said_before = http.server.errors
    body = b'{"jsonrpc": "2.0", "method": "tools/list"}'
    assert sent(http.port, "/mcp", "POST", body, headers)[0] in (202, 400)
    eventually(lambda: "has no id" in http.server.errors.removeprefix(said_before))


@pytest.mark.parametrize("blank", [thorough(""), " "])
def test_blank_variables_count_as_not_set_and_never_as_open_to_all(tmp_path: Path, blank: str):
    async def main(port: int, token: str) -> None:
        async with client_of(port, token, mode=MODERN) as client:
            arguments = script(tmp_path, "print('in time')")
            assert data(await client.call_tool("py_run_script_in_dir", arguments))["stdout"] == "in time\n"

    names = [*(variable(field.name) for field in fields(Settings)), BUDGET_VARIABLE]
    env = dict.fromkeys(names, blank) | {"HOME": str(tmp_path)}
    with serving(tmp_path, *over_http(), env=env) as server:
        port = port_of(server)
        made = eventually(lambda: re.search(r"access token, for this run: (\S+)\n", server.errors))[1]
        for wrong in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer " + blank}):
            assert asked(port, **wrong)[0] == 401
        run(main(port, made))
        stop(server)
    assert (tmp_path / ".python_mcp").is_dir()
