"""A server over stdio whose jobs are on a Redis server, which is killed and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_process import RedisProcess
from tests.acceptance.support import serving
from tests.helpers import eventually
from tests.helpers.command_line import command

WAITS = """
import pathlib, time
pathlib.Path("begun").touch()
while not pathlib.Path("end").exists():
    time.sleep(0.01)
print("done")
"""


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisProcess]:
    options = {"appendonly": "yes", "appendfsync": "always", "requirepass": "sesame"}
    with RedisProcess(**options) as process:
        monkeypatch.setenv("PYTHON_MCP_STORE", process.url(secret="sesame"))
        yield process


def test_a_job_outlasts_its_redis_server_and_new_ones_are_refused(
    redis: RedisProcess, home: Path, tmp_path: Path
):
    with serving(tmp_path) as server:
        server.open()
        waits = {"directory": str(tmp_path), "script_content": WAITS, "async_mode": True}
        job_id = server.call("py_run_script_in_dir", waits)["structuredContent"]["job_id"]
        eventually((tmp_path / "begun").exists)
        redis.kill()
        refused = server.call("py_run_script_in_dir", waits)
        assert refused["isError"]
        assert "does not answer" in refused["content"][0]["text"]
        answers = {"directory": str(tmp_path), "script_content": "print(6 * 7)"}
        assert server.call("py_run_script_in_dir", answers)["structuredContent"]["stdout"] == "42\n"
        (tmp_path / "end").touch()
        redis.start()
        eventually(lambda: not server.call("py_list_jobs", {}).get("isError"))
        job = server.call("py_wait_job", {"job_id": job_id})["structuredContent"]["job"]
        assert (job["status"], job["result"]["stdout"]) == ("completed", "done\n")
        listed = command("jobs", "list", "--json")
        assert (listed.returncode, job_id in listed.stdout) == (0, True)
        assert server.leave() == 0
        told = [
            server.errors,
            listed.stdout,
            listed.stderr,
            *(log.read_text() for log in home.rglob("*.log")),
        ]
    assert not [text for text in told if "sesame" in text]
