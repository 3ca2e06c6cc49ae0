"""Hints over real stdio: with each tool's own way out, in time and after a hand-off, and once per batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.acceptance.shared import Shared
from tests.acceptance.support import data, refusal

if TYPE_CHECKING:
    from mcp import Client

LACKS = "import skimage"
"""No environment of these tests has it."""


async def result_of(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Return what a tool answers in the end: on a busy machine any call may outlast its budget."""
    found = data(await client.call_tool(tool, arguments))
    while found.get("status") in ("running", "pending"):
        waited = data(await client.call_tool("py_wait_job", {"job_id": found["job_id"]}))
        found = waited["job"] if waited["timed_out"] else waited["job"]["result"]
        found.setdefault("job_id", found.get("id"))
    return found


async def hint_of(client: Client, tool: str, **arguments: Any) -> str | None:
    return (await result_of(client, tool, **arguments)).get("hint")


def test_each_tool_names_its_own_way_to_a_package(ours: Shared, tmp_path: Path):
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_lacks.py").write_text(f"{LACKS}\ndef test_it(): pass\n")

    async def main(client: Client):
        here: dict[str, Any] = {"directory": str(tmp_path), "script_content": LACKS}
        header = await hint_of(client, "py_run_script_in_dir", **here)
        assert header is not None
        assert '"scikit-image" in a PEP 723 header' in header
        plain = await hint_of(client, "py_run_script_in_dir", **here, use_uv=False)
        assert 'py_run_script_with_dependencies brings it: dependencies=["scikit-image"]' in str(plain)
        for tool, arguments in (
            ("py_run_script_with_dependencies", {"script_content": LACKS}),
            ("py_benchmark_script", {"script_content": LACKS, "max_runs": 1}),
            ("py_map_script", here | {"args_list": [[str(n)] for n in range(5)]}),
        ):
            assert 'Add "scikit-image" to dependencies' in str(await hint_of(client, tool, **arguments))
        saved: dict[str, Any] = {"script_name": "lacks", "source": LACKS, "directory": str(tmp_path)}
        data(await client.call_tool("py_save_script", saved))
        kept = {"script_name": "lacks", "directory": str(tmp_path)}
        assert "py_save_script" in str(await hint_of(client, "py_run_saved_script", **kept))
        tested = await hint_of(client, "py_run_tests", directory=str(suite), workers=0)
        assert "skimage is not installed where the tests run" in str(tested)

    ours.run(main)


def test_the_hint_for_a_directory_with_an_environment_names_that(ours: Shared, tmp_path: Path):
    (tmp_path / "requirements.txt").write_text("# nothing\n")

    async def main(client: Client):
        here: dict[str, Any] = {"directory": str(tmp_path), "script_content": LACKS}
        assert "requirements.txt or .venv" in str(await hint_of(client, "py_run_script_in_dir", **here))

    ours.run(main)


def test_runs_that_go_well_or_fail_by_themselves_have_no_hint(ours: Shared, tmp_path: Path):
    codes = [
        "print('well')",
        "pass",
        f"try: {LACKS}\nexcept ImportError: print('done without')",
        "import helpers_of_mine",
        "raise ValueError('input')",
        "import sys; sys.exit('no stdin needed')",
    ]

    async def main(client: Client):
        for code in codes:
            here: dict[str, Any] = {"directory": str(tmp_path), "script_content": code, "use_uv": False}
            assert "hint" not in await result_of(client, "py_run_script_in_dir", **here), code
        batch: dict[str, Any] = {
            "directory": str(tmp_path), "script_content": "import sys; sys.exit(1)", "args_list": [["a"]],
        }  # fmt: skip
        assert "hint" not in await result_of(client, "py_map_script", **batch)

    ours.run(main)


def test_a_batch_has_one_hint_for_all_and_short_names(ours: Shared, tmp_path: Path):
    async def main(client: Client):
        batch: dict[str, Any] = {
            "directory": str(tmp_path), "script_content": "input()", "args_list": [["a"]] * 9,
        }  # fmt: skip
        result = await result_of(client, "py_map_script", **batch)
        assert "no stdin" in result["hint"]
        assert str(result).count("no stdin") == 1
        assert all('File "script.py", line 1' in item["stderr"] for item in result["items"])

    ours.run(main)


def test_inline_code_has_a_short_name_in_tracebacks_and_a_true_file(ours: Shared, tmp_path: Path):
    code = "print(__file__)\ndef f(n):\n    if n: f(n - 1)\n    else: open(__file__).close(); 1 / 0\nf(20)"

    async def main(client: Client):
        here: dict[str, Any] = {"directory": str(tmp_path), "script_content": code}
        result = await result_of(client, "py_run_script_in_dir", **here)
        path = result["stdout"].strip()
        assert Path(path).is_absolute()
        assert path.endswith("script.py")
        assert path not in result["stderr"]
        assert 'File "script.py", line 3, in f' in result["stderr"]
        assert "ZeroDivisionError" in result["stderr"]

    ours.run(main)


def test_hints_are_there_after_a_hand_off_and_at_limits(ours: Shared, tmp_path: Path):
    async def main(client: Client):
        here: dict[str, Any] = {"directory": str(tmp_path), "script_content": "input()", "async_mode": True}
        job_id = data(await client.call_tool("py_run_script_in_dir", here))["job_id"]
        waited = data(await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60}))
        assert "no stdin" in waited["job"]["result"]["hint"]

        slow = here | {"script_content": "import time; time.sleep(600)", "async_mode": False}
        timed_out = await result_of(client, "py_run_script_in_dir", **slow, timeout_seconds=0.5)
        assert "timeout_seconds" in timed_out["hint"]

        large = here | {"script_content": "x = bytearray(10**9); input()", "memory_limit_mb": 100}
        told = refusal(await client.call_tool("py_run_script_in_dir", large | {"async_mode": False}))
        assert "A larger memory_limit_mb, or none, lets it go on." in told
        job_id = data(await client.call_tool("py_run_script_in_dir", large))["job_id"]
        waited = data(await client.call_tool("py_wait_job", {"job_id": job_id, "timeout_seconds": 60}))
        assert "A larger memory_limit_mb, or none, lets it go on." in waited["job"]["error"]

    ours.run(main)
