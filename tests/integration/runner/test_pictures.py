"""Figures of a real script, drawn by a matplotlib that is none, and once by the real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.context import JobContext, enter_job, leave_job
from python_mcp_server.tools.scripts import run_script_in_dir, run_script_with_dependencies
from tests.helpers.fake_matplotlib import PNG, write_fake_matplotlib


@pytest.fixture
def job(tmp_path: Path) -> Iterator[JobContext]:
    """The job that the tool's body is called for."""
    context = JobContext("testjob", "label", str(tmp_path / "job"), lambda _progress: None)
    token = enter_job(context, whole_process=False)
    yield context
    leave_job(token)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    write_fake_matplotlib(path)
    return path


def run(folder: Path, code: str, **more: Any) -> Any:
    result: Any = run_script_in_dir(str(folder), script_content=code, timeout_seconds=60, **more)
    assert result["exit_code"] == 0, result["stderr"]
    return result


def test_figures_that_are_shown_or_left_open_become_pictures(folder: Path, job: JobContext) -> None:
    code = """
import os
import matplotlib.pyplot as plt
plt.figure(b"shown"); plt.show()
print(plt.Gcf.get_all_fig_managers())
plt.figure(b"saved elsewhere").savefig("/dev/null")
plt.figure(b"saved here").savefig("here.png")
plt.figure(b"open"); plt.show(block=False)
plt.figure(b"large" * 1000)
plt.matplotlib = __import__("matplotlib"); plt.matplotlib.interactive = True
plt.show()
plt.figure(b"last").show()
if os.fork() == 0:
    raise SystemExit
os.wait()
"""
    result = run(folder, code)
    assert (result["stdout"], result["stderr"]) == ("[]\n", "")
    shown = [Path(each["path"]) for each in result["pictures"]]
    contents = [path.read_bytes().removeprefix(PNG)[:5] for path in shown]
    assert contents == [b"shown", b"saved", b"openo", b"large", b"lastl", b"saved"]
    assert shown[1].read_bytes().startswith(PNG + b"saved elsewhere")
    assert shown[-1] == folder / "here.png"
    assert {path.parent for path in shown[:-1]} == {job.folder / "pictures"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (job.folder / "pictures").iterdir())
    large = result["pictures"][3]
    assert large["attached"]
    assert large["size_bytes"] > 500_000 > Path(large["preview"]).stat().st_size
    assert job.wants_record


def test_the_number_of_pictures_of_a_script_is_limited(folder: Path, job: JobContext) -> None:
    code = """
import matplotlib.pyplot as plt
for number in range(102):
    plt.figure(str(number).encode()); plt.show()
"""
    result = run(folder, code)
    assert result["stderr"].count("More than 100 figures") == 2
    assert (len(result["pictures"]), result["pictures_left_out"]) == (20, 80)


def test_a_script_without_pictures_has_no_pictures_field_and_no_record(folder: Path, job: JobContext) -> None:
    result = run(folder, "import sys; print('matplotlib' in sys.modules)")
    assert result["stdout"] == "False\n"
    assert "pictures" not in result
    assert not job.wants_record


@pytest.mark.network
@pytest.mark.thorough
def test_the_real_matplotlib_shows_figures_without_a_screen(job: JobContext) -> None:
    code = """
import matplotlib, matplotlib.pyplot as plt
plt.plot([1, 2, 3]); plt.show()
fig, axes = plt.subplots()
axes.bar([1, 2], [3, 4]); plt.pause(0.01)
fig.savefig("saved.png")
plt.figure().show()
print(matplotlib.get_backend())
"""
    result: Any = run_script_with_dependencies(code, dependencies=["matplotlib"], timeout_seconds=0)
    assert (result["stdout"], result["stderr"]) == ("module://python_mcp_pictures\n", "")
    names = [Path(each["path"]).name for each in result["pictures"]]
    assert names == ["figure-1.png", "figure-2.png", "saved.png"]
    assert all(Path(each["path"]).read_bytes().startswith(PNG) for each in result["pictures"])
