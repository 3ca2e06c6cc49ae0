"""Over real stdio: pictures beside results, output by line and by pattern, long results of a set size."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.shared import Shared
from tests.acceptance.support import data, refusal
from tests.helpers.fake_matplotlib import PNG, PNG_END, write_fake_matplotlib
from tests.helpers.marks import thorough

if TYPE_CHECKING:
    from mcp import Client

DRAW = """
import matplotlib.pyplot as plt
plt.figure(b"shown").savefig("saved.svg")
plt.show()
open("chart.png", "wb").write(b"\\x89PNG\\r\\n\\x1a\\nsavedIEND\\xaeB`\\x82")
"""
LINES = """
import os, sys, time
for number in range(100):
    print(f"\\router 9\\n\\rinner {number}", end="\\x1b[A", file=sys.stderr)
for number in range(1, 50_001):
    print("\\x1b[32mline", number, end="\\x1b[0m\\n")
print("half", end="", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
print(" done")
"""


def images(result: Any) -> list[bytes]:
    return [base64.b64decode(part.data) for part in result.content if part.type == "image"]


@pytest.mark.parametrize("ours", [thorough("legacy"), "auto"], indirect=True)
def test_pictures_are_images_and_output_is_read_by_line_and_pattern(ours: Shared, tmp_path: Path):
    async def main(client: Client):
        await pictures_come_at_once_and_with_the_end_of_a_job(client, tmp_path)
        await output_is_read_by_line_and_by_pattern_while_the_job_runs(client, tmp_path)

    ours.run(main)


async def pictures_come_at_once_and_with_the_end_of_a_job(client: Client, tmp_path: Path) -> None:
    write_fake_matplotlib(tmp_path)
    arguments: Any = {"directory": str(tmp_path), "script_content": DRAW}
    result = await client.call_tool("py_run_script_in_dir", arguments)
    figure, chart = data(result)["pictures"]
    drawn, saved = PNG + 100 * b"shown" + PNG_END, PNG + b"saved" + PNG_END
    assert images(result) == [drawn, saved]
    assert (figure["size_bytes"], figure["attached"]) == (len(drawn), True)
    assert Path(figure["path"]).read_bytes() == drawn
    assert chart["path"] == str(tmp_path / "chart.png")

    job_id = data(await client.call_tool("py_run_script_in_dir", arguments | {"async_mode": True}))["job_id"]
    waited = await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60})
    assert images(waited) == [drawn, saved]
    assert images(await client.call_tool("py_job_status", {"job_id": job_id})) == [drawn, saved]
    (tmp_path / "chart.png").unlink()
    again = await client.call_tool("py_wait_job", {"job_id": job_id})
    assert images(again) == [drawn]
    assert len(data(again)["job"]["result"]["pictures"]) == 2


async def output_is_read_by_line_and_by_pattern_while_the_job_runs(client: Client, tmp_path: Path) -> None:
    arguments = {
        "directory": str(tmp_path),
        "script_content": LINES,
        "output_chars": 500,
        "async_mode": True,
    }
    job_id = data(await client.call_tool("py_run_script_in_dir", arguments))["job_id"]

    async def read(**wanted: Any) -> dict[str, Any]:
        return data(await client.call_tool("py_job_output", {"job_id": job_id} | wanted))

    while (page := await read(line=-1, wait_seconds=1)).get("unfinished") != "half":
        assert not page["eof"]
    page = await read(line=31_415, limit=50)
    assert (page["text"], page["first_line"]) == ("line 31415\nline 31416\n", 31_415)
    page = await read(pattern="^line 4999[89]$")
    assert (page["text"], page["matches"]) == ("49998: line 49998\n49999: line 49999\n", 2)
    assert (await read(offset=-30))["text"] == "line 50000\n"
    assert (await read(line=60_000))["total_lines"] == 50_001
    wrong = {"job_id": job_id, "pattern": "("}
    text = refusal(await client.call_tool("py_job_output", wrong))
    assert text.startswith("pattern is '(', no regular expression")

    (tmp_path / "go").touch()
    waited = data(await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60}))
    shown = waited["job"]["result"]["stdout"]
    assert len(shown) <= 500
    assert waited["job"]["result"]["stderr"] == "outer 9\ninner 99"
    assert shown.startswith("line 1\nline 2\n")
    assert shown.endswith("line 50000\nhalf done\n")
    total = page["total_bytes"] + len(" done\n")
    assert await read(line=-1) == {
        "text": "half done\n",
        "next_offset": total,
        "total_bytes": total,
        "eof": True,
        "first_line": 50_001,
    }
