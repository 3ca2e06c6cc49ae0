"""`serve`, and the commands that stand on a server of their own: `doctor` and `demo`."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from python_mcp_server.cli import checks as trials
from python_mcp_server.settings import BUDGET_VARIABLE
from python_mcp_server.store.sqlite import SqliteJobStore
from tests.acceptance.support import serving
from tests.helpers import environment, python, run_python
from tests.helpers.command_line import command
from tests.helpers.marks import thorough

PROGRAM = ("-m", "python_mcp_server")
SHORT_GRACE = {"PYTHON_MCP_CANCEL_GRACE_SECONDS": "0.2"}  # two processes take a core each until it is over


@pytest.mark.parametrize(("words", "number"), [([], signal.SIGINT), thorough(["serve"], signal.SIGTERM)])
def test_serve_over_a_pipe_ends_at_a_signal_without_a_traceback(
    tmp_path: Path, words: list[str], number: signal.Signals
) -> None:
    with serving(tmp_path, *PROGRAM, *words) as server:
        script = {"directory": str(tmp_path), "script_content": "print('hello')"}
        result = server.open().call("py_run_script_in_dir", script)
        assert result["structuredContent"]["stdout"] == "hello\n"
        server.process.send_signal(number)
        server.process.wait(60)
        assert "Traceback" not in server.errors


def test_serving_loads_no_rich() -> None:
    code = (
        "import sys; from python_mcp_server.server import serve\n"
        "serve.run_stdio = lambda: print('rich' in sys.modules) or 0\n"
        "from python_mcp_server.cli import main; main(['serve'])\n"
    )
    assert run_python("-c", code).stdout == "False\n"


def test_the_first_answer_waits_for_no_module_that_it_does_not_need(tmp_path: Path) -> None:
    program = (
        "import asyncio, json, sys; from python_mcp_server.server import serve\n"
        "async def note(manager, answered):\n"
        "    await answered.wait()\n"
        "    print(json.dumps(sorted(sys.modules)), file=sys.stderr, flush=True)\n"
        "serve._start = note\n"
        "from python_mcp_server.cli import main; main(['serve'])\n"
    )
    with serving(tmp_path, "-c", program) as server:
        server.open("2025-11-25").leave()
        loaded = json.loads(server.errors.splitlines()[-1])
    ours = [
        "cli.jobs", "cli.run", "jobs.engine", "pool.process", "runner.child", "server.transports.access",
        "server.transports.http", "tools.scripts",
    ]  # fmt: skip
    late = ["filelock", "loky", "psutil", *(f"python_mcp_server.{name}" for name in ours)]
    assert [name for name in late if name in loaded] == []


def test_a_signal_before_the_late_start_leaves_the_manager_closed(tmp_path: Path) -> None:
    program = (
        "import signal, sys; from python_mcp_server.jobs.manager import JobManager\n"
        "from python_mcp_server.server import serve\n"
        "serve._WITH_WORKERS = ('sys',) * 100\n"
        "serve.import_module = lambda _: signalled or signalled.append(signal.raise_signal(15))\n"
        "signalled, opened, close = [], JobManager._engine, JobManager.close\n"
        "async def noted(self):\n"
        "    print('asked for an engine', file=sys.stderr, flush=True)\n"
        "    engine = await opened(self)\n"
        "    print('opened one', file=sys.stderr, flush=True)\n"
        "    return engine\n"
        "async def slow(self, **how):\n"
        "    await close(self, **how)\n"
        "    await __import__('asyncio').sleep(0.3)\n"
        "JobManager._engine, JobManager.close = noted, slow\n"
        "from python_mcp_server.cli import main; main(['serve'])\n"
    )
    with serving(tmp_path, "-c", program) as server:
        server.open("2025-11-25")
        assert server.process.wait(60) == 128 + signal.SIGTERM
        assert server.errors == "asked for an engine\n"


def test_an_address_that_is_not_of_this_machine_is_refused() -> None:
    told = run_python(*PROGRAM, "serve", "--http", "--host", "192.0.2.1", "--port", "0")
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1].startswith("python-mcp-server: --host is '192.0.2.1'")


def test_the_doctor_finds_a_healthy_machine_healthy_and_leaves_nothing(home: Path) -> None:
    few_tools = environment(PYTHON_MCP_TOOLS="jobs")  # its own server has all
    told = run_python(*PROGRAM, "doctor", "--json", env=few_tools, deadline_s=120)
    found = json.loads(told.stdout)
    assert (told.returncode, found["ok"]) == (0, True), told
    names = [check["name"] for check in found["checks"]]
    assert names == ["python", "uv", "home", "space", "file system", "store", "worker", "server"]
    assert not home.exists()
    assert not list(home.parent.glob(".doctor*"))


def test_the_doctor_tries_the_store_that_is_set_and_says_which(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "there" / "jobs.db"
    told = run_python(
        *PROGRAM, "doctor", env=environment(PYTHON_MCP_STORE=f"sqlite://{path}"), deadline_s=120
    )
    assert told.returncode == 0, told
    assert f"two processes share it; jobs are in sqlite://{path}" in told.stdout
    assert not path.parent.exists()
    SqliteJobStore(path).close()
    path.write_bytes(b"x" * 5000)
    told = run_python(
        *PROGRAM, "doctor", env=environment(PYTHON_MCP_STORE=f"sqlite://{path}"), deadline_s=120
    )
    assert told.returncode == 1, told
    assert "problem records: Could not" in told.stdout


def test_the_doctor_says_in_sentences_what_is_wrong(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for trial in ("share_a_store", "start_and_kill_a_worker", "run_a_script_over_stdio"):
        monkeypatch.setattr(trials, trial, lambda _home: "as it should be")
    home.touch()
    monkeypatch.setenv("PYTHON_MCP_MAX_WORKER", "4")
    told = command("doctor")
    assert told.returncode == 1
    assert f"problem home: {home} is not a directory. Make it" in told.stdout
    words = "PYTHON_MCP_MAX_WORKER is set, and no setting has this name. Set PYTHON_MCP_MAX_WORKERS instead."
    assert f"warning settings: {words}" in " ".join(told.stdout.split())


def test_a_server_tells_of_a_setting_that_is_misspelt(tmp_path: Path) -> None:
    misspelt = {"PYTHON_MCP_ON_EXT": "cancel", "PYTHON_MCP_ON_EXIT": "cancel"}
    with serving(tmp_path, *PROGRAM, "serve", env=misspelt) as server:
        server.open().leave()
        assert (
            "PYTHON_MCP_ON_EXT is set, and no setting has this name; PYTHON_MCP_ON_EXIT is" in server.errors
        )
        assert "PYTHON_MCP_ON_EXIT is set" not in server.errors


def test_the_start_log_and_the_doctor_tell_of_a_wrong_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = f"{BUDGET_VARIABLE} is 'soon'; it must be a positive number of seconds"
    with serving(tmp_path, *PROGRAM, "serve", env={BUDGET_VARIABLE: "soon"}) as server:
        server.open().leave()
        assert told in server.errors
    monkeypatch.setenv(BUDGET_VARIABLE, "soon")
    for trial in ("share_a_store", "start_and_kill_a_worker", "run_a_script_over_stdio"):
        monkeypatch.setattr(trials, trial, lambda _home: "as it should be")
    found = command("doctor")
    assert found.returncode == 1
    assert f"problem settings: {told}. Each call" in found.stdout


def test_the_demonstration_holds_and_leaves_nothing(tmp_path: Path) -> None:
    env = environment(TMPDIR=str(tmp_path), **SHORT_GRACE)
    told = run_python(*PROGRAM, "demo", "--budget", "1", env=env, deadline_s=170)
    assert told.returncode == 0, told
    assert "All 7 steps held" in told.stdout
    assert not list(tmp_path.glob("python-mcp-demo-*"))


@pytest.mark.thorough
def test_ctrl_c_ends_the_demonstration_with_all_it_began(tmp_path: Path) -> None:
    env = environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1", **SHORT_GRACE)
    with python(*PROGRAM, "demo", "--budget", "1", env=env) as process:
        assert process.stdout is not None
        while "with the id of a job" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not list(tmp_path.glob("python-mcp-demo-*"))
