"""Over real stdio: what a model is shown of each tool's answer, whichever client it sits in.

`docs/clients.md` tells of the clients, `tests/helpers/clients.py` has their doubles.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.support import LEGACY, MODERN, Server, serving
from tests.helpers import eventually
from tests.helpers.clients import CLIENTS, Shown, check_list
from tests.helpers.fake_matplotlib import PNG, PNG_END, write_fake_matplotlib
from tests.helpers.leftovers import outliving
from tests.helpers.marks import thorough
from tests.helpers.task_client import TASKS

AUTHOR = """
import os, time
from python_mcp_server import create_server, request_input, smart_async

mcp = create_server()

@mcp.tool()
@smart_async(default_timeout=60)
def adds(a: int, b: int) -> int:
    return a + b

@mcp.tool()
@smart_async(default_timeout=0.2)
def waits(path: str) -> dict[str, str]:
    while not os.path.exists(path):
        time.sleep(0.02)
    return {"path": path}

@mcp.tool()
@smart_async(default_timeout=60)
def refuses(word: str) -> str:
    raise ValueError(f"{word} is not wanted")

@mcp.tool()
@smart_async(default_timeout=60)
def asks() -> str:
    return str(request_input("Which colour?", key="colour").content)

if __name__ == "__main__":
    mcp.run()
"""
DRAW = """
import matplotlib.pyplot as plt
plt.figure(b"shown")
plt.show()
open("chart.png", "wb").write(b"\\x89PNG\\r\\n\\x1a\\nsavedIEND\\xaeB`\\x82")
print("drawn")
"""
DRAWN = (PNG + 100 * b"shown" + PNG_END, PNG + b"saved" + PNG_END)
LONG = "for n in range(30_000):\n    print('line', n)\n"
CAPABLE = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}}}
PYTEST = {"use_uv": False, "workers": 0, "env_vars": {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}}


@dataclass
class Desk:
    """A server with our tools and an author's, and what every client shows of its answers."""

    server: Server
    tools: dict[str, Any]
    folder: Path
    has_tasks: bool

    def shown(self, tool: str, **arguments: Any) -> Shown:
        """Call a tool; return what all clients show to their models, which must be the same."""
        return self.of(tool, self.server.call(tool, arguments))

    def of(self, tool: str, result: dict[str, Any]) -> Shown:
        """Return what all clients show of a result, which must be the same."""
        each = {name: show(self.tools[tool], result) for name, show in CLIENTS.items()}
        first = each["Claude Desktop"]
        for name, shown in each.items():
            assert shown.said == first.said, f"{name} shows something else of {tool}"
            assert shown.images == first.images, f"{name} shows other images of {tool}"
        return first

    def job(self, tool: str, **arguments: Any) -> dict[str, str]:
        """Start a job; its handle is what all clients show."""
        handle = self.shown(tool, async_mode=True, **arguments).said
        assert (set(handle), handle["status"]) == ({"job_id", "status", "message"}, "pending")
        assert "py_wait_job" in handle["message"]
        return {"job_id": handle["job_id"]}

    def ended(self, job: dict[str, str]) -> Shown:
        """Wait for a job's end."""
        return self.shown("py_wait_job", timeout_seconds=60, **job)

    @property
    def here(self) -> dict[str, str]:
        """The directory that scripts run in."""
        return {"directory": str(self.folder)}


@pytest.fixture(scope="module", params=[MODERN, thorough(LEGACY[0]), thorough(LEGACY[-1])])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("clients")
    program = folder / "author.py"
    program.write_text(AUTHOR)
    write_fake_matplotlib(folder)
    with ExitStack() as stack:
        home = stack.enter_context(outliving(folder / "home"))
        server = stack.enter_context(serving(folder, program, env=home))
        listed = server.open(request.param).request("tools/list")["result"]["tools"]
        check_list(listed)
        yield Desk(server, {tool["name"]: tool for tool in listed}, folder, request.param == MODERN)


def has(shown: Shown, **facts: Any) -> None:
    """Check that these facts are among what is shown, and no image is."""
    assert {name: shown.said.get(name) for name in facts} == facts, shown.said
    assert shown.images == ()


def test_every_client_reads_results_jobs_and_errors_of_each_tool(desk: Desk):
    in_time = {
        "py_run_script_in_dir": (desk.here | {"script_content": "print('hello')"}, {"stdout": "hello\n"}),
        "py_run_script_with_dependencies": ({"script_content": "print(1)"}, {"resolved_dependencies": []}),
        "py_map_script": (
            desk.here | {"script_content": "print(1)", "args_list": [["a"], ["b"]]},
            {"succeeded": 2, "failed_indexes": []},
        ),
        "py_save_script": ({"script_name": "kept", "source": "print('kept')"}, {"written": True}),
        "py_run_saved_script": ({"script_name": "kept"}, {"stdout": "kept\n", "exit_code": 0}),
    }
    for tool, (arguments, facts) in in_time.items():
        has(desk.shown(tool, **arguments), **facts)
        ended = desk.ended(desk.job(tool, **arguments))
        job = ended.said["job"]
        assert (job["tool"], job["status"], ended.said["timed_out"]) == (tool, "completed", False)
        assert set(facts) <= set(job["result"])
    assert desk.shown("py_list_scripts").said["scripts"][0]["name"] == "kept"
    assert desk.shown("adds", a=1, b=2).said == 3
    assert desk.ended(desk.job("adds", a=1, b=2)).said["job"]["result"] == 3


def test_a_suite_of_tests_is_read_with_its_failures(desk: Desk):
    suite = desk.folder / "suite"
    suite.mkdir(exist_ok=True)
    (suite / "test_it.py").write_text("def test_fails(): assert 'this' == 'that'\n")
    answer = desk.shown("py_run_tests", directory=str(suite), **PYTEST)
    has(answer, outcome="failed", failed=1)
    assert "test_it.py::test_fails" in answer.said["failures"][0]["id"]


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("py_run_script_in_dir", {"directory": "/not/there", "script_content": "1"}, "/not/there"),
        ("py_run_script_with_dependencies", {}, "script_content"),
        ("py_benchmark_script", {"script_content": "1", "max_runs": 0}, "max_runs"),
        ("py_map_script", {"resume": "no-such-job"}, "Job no-such-job not found"),
        ("py_run_tests", {"directory": "/not/there"}, "/not/there"),
        ("py_save_script", {"script_name": "a/b", "source": "1"}, "'a/b'"),
        ("py_run_saved_script", {"script_name": "nobodys"}, "'nobodys'"),
        ("py_list_scripts", {"directory": "/not/there"}, "/not/there"),
        ("py_job_status", {"job_id": "no-such-job"}, "Job no-such-job not found"),
        ("py_wait_job", {"job_id": "no-such-job"}, "Job no-such-job not found"),
        ("py_job_output", {"job_id": "no-such-job"}, "Job no-such-job not found"),
        ("py_list_jobs", {"status_filter": "gone"}, "'gone'"),
        ("py_cancel_job", {"job_id": "no-such-job"}, "Job no-such-job not found"),
        ("py_prune_jobs", {"max_age_hours": -1}, "max_age_hours"),
        ("py_answer_job", {"job_id": "no-such-job", "key": "x"}, "Job no-such-job not found"),
        ("refuses", {"word": "this"}, "this is not wanted"),
    ],
)
def test_the_sentence_of_an_error_is_read(desk: Desk, tool: str, arguments: dict[str, Any], words: str):
    result = desk.server.call(tool, arguments)
    assert result["isError"]
    assert words in desk.of(tool, result).texts[0]


def test_answers_about_a_job_are_read(desk: Desk):
    go = desk.folder / "go"
    desk.ended(desk.job("refuses", word="this"))  # a worker is warm: else the budget may end before one is
    answer = desk.shown("waits", path=str(go))
    assert answer.said["status"] == "running"
    assert "running in background" in answer.said["message"]
    job = {"job_id": answer.said["job_id"]}
    assert desk.shown("py_job_status", **job).said["job"]["status"] == "running"
    assert desk.shown("py_wait_job", timeout_seconds=0, **job).said["timed_out"]
    assert [one["id"] for one in desk.shown("py_list_jobs", status_filter="running").said["jobs"]] == [
        job["job_id"]
    ]
    go.touch()
    assert desk.ended(job).said["job"]["result"] == {"path": str(go)}
    go.unlink()
    endless = {"job_id": desk.shown("waits", path=str(go)).said["job_id"]}
    has(desk.shown("py_cancel_job", **endless), status="cancelled")
    failed = desk.ended(desk.job("refuses", word="that")).said["job"]
    assert "that is not wanted" in failed["error"]
    assert desk.shown("py_prune_jobs", keep_failed=False, max_age_hours=0).said["removed"] >= 2


def test_a_question_is_read_and_answered(desk: Desk):
    job = desk.job("asks")
    [question] = desk.ended(job).said["job"]["questions"]
    assert question["message"] == "Which colour?"
    has(desk.shown("py_answer_job", key=question["key"], response="red", **job), **job)
    assert "red" in desk.ended(job).said["job"]["result"]


def test_pictures_are_seen_from_every_tool(desk: Desk):
    desk.shown("py_save_script", script_name="draws", source=DRAW, directory=str(desk.folder))
    calls: dict[str, dict[str, Any]] = {
        "py_run_script_in_dir": desk.here | {"script_content": DRAW},
        "py_run_saved_script": desk.here | {"script_name": "draws"},
        "py_run_script_with_dependencies": {"script_content": DRAW},
    }
    for tool, arguments in calls.items():
        arguments["env_vars"] = {"PYTHONPATH": str(desk.folder)}
        seen(desk.shown(tool, **arguments), DRAWN, "pictures")
        job = desk.job(tool, **arguments)
        seen(desk.ended(job), DRAWN, "job", "result", "pictures")
        seen(desk.shown("py_job_status", **job), DRAWN, "job", "result", "pictures")


def test_the_plot_of_a_benchmark_is_seen(desk: Desk):
    answer = desk.shown("py_benchmark_script", script_content="x = 1", max_runs=2, min_runs=1, warmup=0)
    assert answer.said["runs"] >= 1
    plot = Path(answer.said["pictures"][0]["path"]).read_bytes()
    seen(answer, (plot,), "pictures")


def test_a_task_brings_the_pictures_of_its_call(desk: Desk):
    if not desk.has_tasks:
        return
    arguments: Any = desk.here | {"script_content": DRAW, "async_mode": True}
    params = {"name": "py_run_script_in_dir", "arguments": arguments}
    task = desk.server.request("tools/call", params, **CAPABLE)["result"]

    def found() -> Any:
        state = desk.server.request("tasks/get", {"taskId": task["taskId"]}, **CAPABLE)["result"]
        return state.get("result")

    seen(desk.of("py_run_script_in_dir", eventually(found)), DRAWN, "pictures")


def seen(shown: Shown, images: tuple[bytes, ...], *where: str) -> None:
    """Check that these images are shown, and that the path of each is readable."""
    listed = shown.said
    for name in where:
        listed = listed[name]
    assert shown.images == images
    assert [Path(each["path"]).read_bytes() for each in listed] == list(images)


def test_long_pages_and_results_that_were_asked_for_come_whole(desk: Desk):
    wanted = desk.here | {"script_content": LONG, "output_chars": 400_000}
    answer = desk.shown("py_run_script_in_dir", **wanted).said
    assert answer["stdout"].endswith("line 29999\n")
    job = desk.job("py_run_script_in_dir", **wanted)
    assert desk.ended(job).said["job"]["result"]["stdout"] == answer["stdout"]
    page = desk.shown("py_job_output", limit=400_000, **job).said
    assert (page["text"], page["eof"]) == (answer["stdout"], True)


def test_a_list_of_jobs_is_short_and_says_how_each_ended(desk: Desk):
    script = "import sys; print('x' * 30_000); sys.exit(int(sys.argv[1]))"
    wanted = desk.here | {"script_content": script, "output_chars": 40_000}
    jobs = [desk.job("py_run_script_in_dir", **wanted, args=[code]) for code in "03"]
    for job in jobs:
        desk.ended(job)
    listed = {one["id"]: one for one in desk.shown("py_list_jobs").said["jobs"]}
    well, badly = (listed[job["job_id"]] for job in jobs)
    assert (well["status"], "ended" in well, badly["ended"]) == ("completed", False, "exit code 3")
    assert len(json.dumps(well)) < 300


def test_every_tool_is_called_here(desk: Desk):
    """Whoever adds a tool adds what is read of it."""
    source = Path(__file__).read_text("utf-8")
    assert {name for name in desk.tools if f'"{name}"' not in source} == set()
