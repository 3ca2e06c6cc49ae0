"""Our server over streamable HTTP: the same answers, on this machine only, and a stop that stops."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.acceptance.support import MODERN, Server, data, refusal, serving
from tests.helpers import eventually, run, run_python

OVER_HTTP = "from python_mcp_server.server.serve import run_http; run_http({host!r}, {port})"


def address(server: Server) -> str:
    found = eventually(lambda: re.search(r"http://\S+/mcp", server.errors))
    assert found is not None
    return found.group()


@pytest.mark.parametrize(("host", "mode"), [("127.0.0.1", "legacy"), ("localhost", MODERN)])
def test_scripts_run_and_bad_input_is_refused(tmp_path: Path, host: str, mode: Any):
    async def main(url: str) -> None:
        async with Client(url, mode=mode) as client:
            arguments = {"directory": str(tmp_path), "script_content": 'print("hello")'}
            assert data(await client.call_tool("py_run_script_in_dir", arguments))["stdout"] == "hello\n"
            unknown = await client.call_tool("py_job_status", {"job_id": "nobody"})
            assert refusal(unknown) == "Job nobody not found"

    with serving(tmp_path, "-c", OVER_HTTP.format(host=host, port=0)) as server:
        run(main(address(server)))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) in (0, -signal.SIGTERM)


def test_it_stops_though_a_client_is_connected(tmp_path: Path):
    async def main(url: str, server: Server) -> None:
        async with Client(url, mode="legacy") as client:
            await client.list_tools()
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: server.process.poll() is not None)

    with serving(tmp_path, "-c", OVER_HTTP.format(host="127.0.0.1", port=0)) as server:
        run(main(address(server), server), blocked_s=30)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
def test_an_address_that_others_could_reach_is_refused(host: str):
    ended = run_python("-c", OVER_HTTP.format(host=host, port=0))
    assert ended.returncode != 0
    assert f"host is '{host}'" in ended.stderr.splitlines()[-1]


def test_a_port_that_is_taken_is_named(tmp_path: Path):
    with serving(tmp_path, "-c", OVER_HTTP.format(host="127.0.0.1", port=0)) as server:
        port = int(re.findall(r":(\d+)/mcp", address(server))[0])
        ended = run_python("-c", OVER_HTTP.format(host="127.0.0.1", port=port))
        assert f"port is {port}" in ended.stderr.splitlines()[-1]
