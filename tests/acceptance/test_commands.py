"""`py_run_command` over real stdio: off unless it is named; its answers; the end of its whole tree."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.support import Server, serving
from tests.helpers import eventually

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the command lines are those of a POSIX shell")

COMMANDS = {"PYTHON_MCP_TOOLS": "commands"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, env=COMMANDS) as made:
        yield made.open()
        assert made.leave() == 0


def answer(server: Server, tool: str, **arguments: Any) -> dict[str, Any]:
    result = server.call(tool, arguments)
    assert not result.get("isError"), result["content"]
    return result["structuredContent"]


def refused(server: Server, **arguments: Any) -> str:
    result = server.call("py_run_command", arguments)
    assert result["isError"]
    return result["content"][0]["text"]


def test_a_server_runs_commands_only_where_that_group_is_named(tmp_path: Path):
    with serving(tmp_path) as server:
        tools = server.open().request("tools/list")["result"]["tools"]
        assert "py_run_command" not in {tool["name"] for tool in tools}
        answered = server.request(
            "tools/call", {"name": "py_run_command", "arguments": {"command": "true", "directory": "/"}}
        )
        assert "error" in answered or answered["result"]["isError"]
        assert server.leave() == 0


def test_a_text_goes_to_the_shell_and_a_list_does_not(server: Server, tmp_path: Path):
    given = {"directory": str(tmp_path), "env_vars": {"WORD": "a b"}}
    shell = answer(server, "py_run_command", command='echo "$WORD" && pwd; exit 3', **given)
    assert shell["stdout"] == f"a b\n{tmp_path}\n"
    assert shell["exit_code"] == 3
    assert shell["elapsed_seconds"] > 0
    plain = answer(server, "py_run_command", command=["echo", "$WORD; x"], **given)
    assert (plain["stdout"], plain["stderr"], plain["exit_code"]) == ("$WORD; x\n", "", 0)


def test_a_command_in_the_background_answers_as_in_time(server: Server, tmp_path: Path):
    given = {"command": "echo out; echo err >&2", "directory": str(tmp_path)}
    handle = answer(server, "py_run_command", **given, async_mode=True, job_label="both")
    ended = answer(server, "py_wait_job", job_id=handle["job_id"], timeout_seconds=60)["job"]
    assert (ended["label"], ended["status"], ended["ran"]) == ("both", "completed", given["command"])
    late, soon = ended["result"], answer(server, "py_run_command", **given)
    assert late.keys() == soon.keys()
    assert (late["stdout"], late["stderr"], late["exit_code"]) == ("out\n", "err\n", 0)


def test_a_time_limit_and_other_limits_end_a_command(server: Server, tmp_path: Path):
    given = {"directory": str(tmp_path)}
    timed = answer(server, "py_run_command", command="echo begun; sleep 600", timeout_seconds=0.5, **given)
    assert timed["stdout"] == "begun\n"
    assert timed["timed_out"] is True
    grows = [sys.executable, "-c", "import time; x = bytearray(2 * 10**8); time.sleep(600)"]
    assert "memory" in refused(server, command=grows, memory_limit_mb=100, **given)


@pytest.mark.parametrize(
    ("command", "words"),
    [("  ", "the command is empty"), ([], "the command is empty"), (["a\0"], "without NUL")],
)
def test_what_is_no_command_is_refused_in_a_sentence(
    server: Server, tmp_path: Path, command: Any, words: str
):
    assert words in refused(server, command=command, directory=str(tmp_path))
    missing = refused(server, command="true", directory=str(tmp_path / "no"))
    assert "is no directory" in missing


CLEANS_UP = "trap 'sleep 3; echo cleaned > done; exit 0' TERM; touch up; while :; do sleep 0.1; done"
DEAF = """
trap '' TERM
python - <<'END' &
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.setsid()
open("child", "w").write(str(os.getpid()) + "\\n")
time.sleep(600)
END
echo $$ > parent
while [ ! -s child ]; do sleep 0.1; done
touch up; while :; do sleep 0.1; done
""".replace("python -", f"{sys.executable} -")


def cancelled(server: Server, tmp_path: Path, command: str) -> None:
    """Start a command, cancel it when it is up, and see that it counts as cancelled."""
    given = {"command": command, "directory": str(tmp_path), "async_mode": True}
    job_id = answer(server, "py_run_command", **given)["job_id"]
    eventually((tmp_path / "up").exists)
    assert answer(server, "py_cancel_job", job_id=job_id)["status"] == "cancelled"


def test_a_cancelled_command_has_five_seconds_to_clean_up(server: Server, tmp_path: Path):
    cancelled(server, tmp_path, CLEANS_UP)
    assert (tmp_path / "done").read_text() == "cleaned\n"


def test_a_cancelled_command_that_hears_nothing_is_killed_with_its_tree(server: Server, tmp_path: Path):
    cancelled(server, tmp_path, DEAF)
    pids = [int((tmp_path / name).read_text()) for name in ("parent", "child")]
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
