"""A cancel over stdio, and of the same job from another process: the script has the server's grace."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.support import Server, serving
from tests.helpers import eventually
from tests.helpers.command_line import command
from tests.helpers.marks import thorough

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")

GRACE = {"PYTHON_MCP_CANCEL_GRACE_SECONDS": "100"}
SCRIPT = """
import time
try:
    open("up", "w").close()
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(3)  # longer than the grace of whoever has not set one
    print("cleaned up")
"""


def begun(server: Server, directory: Path) -> str:
    arguments = {
        "directory": str(directory),
        "script_content": SCRIPT,
        "async_mode": True,
        "timeout_seconds": 0,
    }
    job_id = server.call("py_run_script_in_dir", arguments)["structuredContent"]["job_id"]
    eventually((directory / "up").exists)
    return job_id


def shown(*words: str) -> dict[str, Any]:
    return json.loads(command("jobs", *words).stdout)


def test_a_script_that_ends_well_in_its_grace_is_cancelled(tmp_path: Path):
    with serving(tmp_path, env=GRACE) as server:
        job_id = begun(server.open(), tmp_path)
        told = server.call("py_cancel_job", {"job_id": job_id})["structuredContent"]
        assert told["status"] == "cancelled"
        page = server.call("py_job_output", {"job_id": job_id})["structuredContent"]
        assert page["text"] == "cleaned up\n"


@pytest.mark.parametrize("server_lives", [True, thorough(False)])
def test_another_process_that_cancels_gives_the_grace_of_the_server(tmp_path: Path, server_lives: bool):
    with serving(tmp_path, env=GRACE) as server:
        job_id = begun(server.open(), tmp_path)
        if not server_lives:
            server.end()
        assert command("jobs", "cancel", job_id).returncode == 0
        assert command("jobs", "output", job_id).stdout == "cleaned up\n"
        assert shown("show", job_id, "--json")["job"]["status"] == "cancelled"
