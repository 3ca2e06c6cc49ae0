"""Over real stdio: a home that was damaged by hand: links in the place of directories, and cut lines."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.store.files import FileJobStore
from tests.acceptance.support import Server, serving

pytestmark = pytest.mark.skipif(os.name != "posix", reason="elsewhere an account may not make links")
ALL = {"keep_completed": False, "keep_failed": False, "max_age_hours": 0}


def text_of(result: dict[str, Any]) -> str:
    return result["content"][0]["text"]


def in_background(server: Server, folder: Path) -> str:
    call = {"directory": str(folder), "script_content": "print('out')", "async_mode": True}
    job_id = server.call("py_run_script_in_dir", call)["structuredContent"]["job_id"]
    wait = {"job_id": job_id, "timeout_seconds": 60}
    assert server.call("py_wait_job", wait)["structuredContent"]["job"]["status"] == "completed"
    return job_id


def test_output_behind_a_link_is_not_read_and_no_prune_removes_it(home: Path, tmp_path: Path):
    with serving(tmp_path) as server:
        server.open()
        job_id = in_background(server, tmp_path)
        shard = Path(FileJobStore(home).folder_text(job_id)).parent
        shutil.move(shard, tmp_path / "elsewhere")
        shard.symlink_to(tmp_path / "elsewhere")
        for pattern in (None, "out"):
            result = server.call("py_job_output", {"job_id": job_id, "pattern": pattern})
            assert result["isError"]
            assert text_of(result) == (
                f"{shard} is a symbolic link, which is not followed; put a directory there"
            )
        assert server.call("py_prune_jobs", ALL)["structuredContent"] == {"removed": 0, "remaining": 1}
        assert (tmp_path / "elsewhere" / job_id / "stdout").read_text() == "out\n"
        shard.unlink()
        shutil.move(tmp_path / "elsewhere", shard)
        assert server.call("py_job_output", {"job_id": job_id})["structuredContent"]["text"] == "out\n"
        assert server.leave() == 0


def test_a_resumed_batch_runs_again_what_a_damaged_line_said(home: Path, tmp_path: Path):
    batch = {
        "directory": str(tmp_path),
        "script_content": "import sys; print(sys.argv[1]); sys.exit(sys.argv[1] == 'b')",
        "args_list": [["a"], ["b"], ["c"]],
        "max_parallel": 1,
    }
    with serving(tmp_path) as server:
        server.open()
        first = server.call("py_map_script", batch)["structuredContent"]
        items = Path(FileJobStore(home).folder_text(first["job_id"])) / "items"
        lines = items.read_bytes().splitlines(keepends=True)
        assert [json.loads(line)["index"] for line in lines] == [0, 1, 2]
        items.write_bytes(lines[0][:20] + b"\n" + b"".join(lines[1:]))
        again = server.call("py_map_script", {"resume": first["job_id"]})["structuredContent"]
        assert (again["reused"], again["succeeded"], again["failed"]) == (2, 2, 1)
        assert again["problem"] == (
            "1 line of the earlier results could not be read; items without a result ran again"
        )
        assert server.leave() == 0
