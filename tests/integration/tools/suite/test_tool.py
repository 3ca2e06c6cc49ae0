"""`run_tests` on small suites: counts against pytest's own, failures while it runs, ends of all kinds."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.jobs.request import Request
from python_mcp_server.model import Job, JobState
from python_mcp_server.tools.suite.tool import run_tests
from tests.helpers import environment, eventually, python, run
from tests.helpers.managers import manager
from tests.helpers.marks import thorough

EVERYTHING = """
import warnings, pytest
def test_passes(): warnings.warn("careful")
def test_fails(): print("printed"); assert 1 == 2
@pytest.fixture
def broken(): raise RuntimeError("no set-up")
@pytest.fixture
def untidy(): yield; raise RuntimeError("no tear-down")
def test_set_up(broken): pass
def test_tear_down(untidy): pass
@pytest.mark.skip
def test_skipped(): pass
@pytest.mark.xfail
def test_xfails(): assert 0
@pytest.mark.xfail
def test_xpasses(): pass
@pytest.mark.xfail(strict=True)
def test_xpasses_strictly(): pass
@pytest.mark.parametrize("n", ["a::b", "\\u00e9", "[x]"])
def test_many(n): pass
def test_unwanted(): pass
"""
LIVE = """
import os, time
def told():
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")
def test_first(): told(); assert "early" == "late"
def test_second(): told()
def test_waits():
    told()
    while not os.path.exists("go"):
        time.sleep(0.01)
def test_waits_too(): test_waits()
"""
PARAMETERS = """
import pytest
def test_good(): pass
@pytest.mark.parametrize("n", ["a::b", "[x]", ""])
def test(n): assert n == "a::b"
"""
DEADLY = """
import os
def test_good(): pass
def test_ends(): os._exit(0)
def test_kills(): os.kill(os.getpid(), 9)
"""
COUNTS = ("passed", "failed", "errors", "skipped", "xfailed", "xpassed", "deselected", "warnings")
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture(autouse=True)
def lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no plugin of this environment load itself into the suites, and leave no files in them."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., Path]:
    """Write a suite: its files by name without `.py`, or one as `test_it.py`."""

    def write(code: str = "", **files: str) -> Path:
        folder = tmp_path / "suite"
        folder.mkdir(exist_ok=True)
        for name, text in ({"test_it": code} if code else files).items():
            (folder / f"{name}.py").write_text(text, "utf-8")
        return folder

    return write


def own_counts(stdout: str) -> dict[str, int]:
    """What pytest's last line says."""
    line = next(line for line in reversed(stdout.splitlines()) if " in " in line)
    found = re.findall(r"(\d+) (\w+)", line.partition(" in ")[0])
    named = {"error": "errors", "warning": "warnings"}
    return {named.get(name) or name: int(count) for count, name in found}


def alive(pids: set[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def pids_of(folder: Path, count: int) -> set[int]:
    file = folder / "pids"
    eventually(lambda: file.exists() and len(set(file.read_text().split())) >= count)
    return set(map(int, file.read_text().split()))


@pytest.mark.parametrize("workers", [thorough(0), 2])
def test_the_counts_are_those_of_pytest_itself(suite: Callable[..., Path], workers: int) -> None:
    folder = suite(test_it=EVERYTHING, test_broken="import nothing_of_this_name")
    result = run_tests(
        str(folder),
        keyword="not unwanted",
        workers=workers,
        extra_args=["--continue-on-collection-errors"],
    )
    counts = {name: result[name] for name in COUNTS}
    own = own_counts(result["stdout"])
    if workers:
        own["deselected"] = 1  # xdist does not say
    assert {name: count for name, count in counts.items() if count} == own
    assert counts | {"warnings": 0} == {
        "passed": 5, "failed": 2, "errors": 3, "skipped": 1, "xfailed": 1, "xpassed": 1, "deselected": 1,
        "warnings": 0,
    }  # fmt: skip
    assert (result["collected"], result["collection_errors"], result["workers"]) == (11, 1, workers)
    assert (result["outcome"], result["exit_code"]) == ("failed", 1)
    failures = {each["id"]: each for each in result["failures"]}
    assert {(name, each["when"]) for name, each in failures.items()} == {
        ("test_broken.py", "collect"),
        ("test_it.py::test_fails", "call"),
        ("test_it.py::test_set_up", "setup"),
        ("test_it.py::test_tear_down", "teardown"),
        ("test_it.py::test_xpasses_strictly", "call"),
    }
    failed = failures["test_it.py::test_fails"]
    assert failed["message"] == "assert 1 == 2"
    assert failed["traceback"].endswith("test_it.py:4: AssertionError")
    assert failed.get("location", "").endswith("test_it.py:4")
    assert failed.get("output") == {"Captured stdout call": "printed\n"}
    assert "nothing_of_this_name" in failures["test_broken.py"]["message"]
    assert len(result["slowest"]) <= 10
    assert sorted(path.name for path in folder.iterdir()) == ["test_broken.py", "test_it.py"]


def test_errors_while_tests_are_collected_interrupt_the_run(suite: Callable[..., Path]) -> None:
    result = run_tests(str(suite(test_a="def test(): pass", test_b="1 / 0")), workers=0)
    assert (result["outcome"], result["exit_code"], result["collection_errors"]) == ("interrupted", 2, 1)
    assert result.get("stopped_because") == "1 error during collection"
    assert result["summary"].startswith("the run was interrupted (1 error during collection): 1 error")


def test_it_stops_after_as_many_failures_as_asked_for(suite: Callable[..., Path]) -> None:
    folder = suite("".join(f"def test_{n}(): assert 0\n" for n in range(5)))
    result = run_tests(str(folder), max_failures=2, workers=0)
    assert (result["failed"], result["collected"]) == (2, 5)
    assert result.get("stopped_because") == "stopping after 2 failures"
    assert "3 of 5 not run to their end" in result["summary"]


TOLD_ONCE = """
import pytest
@pytest.mark.xfail(reason="expected")
def test_xfails(): assert 0
def test_fails(): raise ValueError("first line of it" + chr(10) + "second line of it")
@pytest.fixture
def broken(): raise RuntimeError("no set-up")
def test_set_up(broken): pass
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [[], ["-ra", "--tb=short"]])
def test_each_failure_is_told_once(suite: Callable[..., Path], workers: int, options: list[str]) -> None:
    folder = suite(test_it=TOLD_ONCE, test_broken="raise OSError('no import')")
    arguments = [*options, "--continue-on-collection-errors"]
    result = run_tests(str(folder), workers=workers, extra_args=arguments)
    for text in ("ValueError", "RuntimeError", "no import", "FAILURES", "ERRORS", "FAILED", "ERROR "):
        assert text not in result["stdout"]
    assert ("XFAIL test_it.py::test_xfails" in result["stdout"]) == bool(options)
    failures = {each["id"]: each for each in result["failures"]}
    failed = failures["test_it.py::test_fails"]
    assert failed["message"] == "ValueError: first line of it"
    assert failed["traceback"].count("E   second line of it") == 1
    assert not any("[gw" in each["traceback"] for each in failures.values())
    assert failures["test_broken.py"]["message"] == "OSError: no import"


def test_long_tracebacks_are_cut_in_the_result_and_whole_in_the_stream(
    suite: Callable[..., Path], tmp_path: Path
) -> None:
    code = "import pytest\n@pytest.mark.parametrize('n', range(30))\ndef test(n):\n"
    code += "    raise ValueError('begin' + '\\nin the middle' * 1000 + f'\\nend of {n}')\n"
    answer = in_a_worker(tmp_path, directory=str(suite(code)), workers=0)
    result = answer["result"]
    assert (result["failed"], len(result["failures"]), result["failures_left_out"]) == (30, 20, 10)
    assert answer["kept"]
    assert result["job_id"] == answer["job_id"]
    for number, failure in enumerate(result["failures"]):
        assert len(failure["traceback"]) < 1100
        assert "characters left out" in failure["traceback"]
        assert failure["traceback"].endswith("test_it.py:4: ValueError")
        assert f"end of {number}" in failure["traceback"]
        assert failure["message"] == "ValueError: begin"
    stream = (tmp_path / "job" / "failures").read_text("utf-8")
    assert [int(n) for n in re.findall(r"E +end of (\d+)\n", stream)] == list(range(30))
    assert stream.count("in the middle") >= 30_000
    left = {path.name for path in (tmp_path / "job").iterdir()}
    assert left == {"failures", "stderr", "stdout"}
    assert (tmp_path / "job" / "failures").stat().st_mode & 0o077 == 0
    assert answer["progress"][-1] == "0 of 30 passed, 30 failed"
    assert not {"mcp", "pydantic", "starlette"} & set(answer["modules"])


def in_a_worker(tmp_path: Path, **kwargs: Any) -> Any:
    body = "python_mcp_server.tools.suite.tool:run_tests"
    arguments = ("-m", "tests.helpers.worker_call", str(tmp_path / "job"), body, json.dumps(kwargs))
    with python(*arguments, env=environment()) as process:
        out, err = process.communicate(timeout=90)
    assert err == ""
    return json.loads(out)


@linux
def test_failures_are_readable_while_it_runs_and_cancel_ends_its_workers(
    suite: Callable[..., Path],
) -> None:
    folder = suite(LIVE)

    async def main() -> None:
        async with manager() as made:
            job = await made.submit_request(Request(run_tests, (str(folder),), {"workers": 2}))
            while not (page := await made.output(job.id, "failures")).text:
                await asyncio.sleep(0.02)
            assert page.text.startswith("FAILED test_it.py::test_first\n")
            assert "test_it.py:6: AssertionError" in page.text
            assert not page.eof
            while (message := _message(await made.get(job.id))) != "1 of 4 passed, 1 failed":
                assert message is None or "failed" not in message or message.startswith("0 of 4")
                await asyncio.sleep(0.02)
            workers = await asyncio.to_thread(pids_of, folder, 2)
            controllers = {psutil.Process(pid).ppid() for pid in workers}
            assert (await made.cancel(job.id)).status is JobState.CANCELLED
            assert alive(workers | controllers) == []
            assert "test_first" in (await made.output(job.id, "failures")).text

    run(main(), deadline_s=90)
    again = run_tests(str(folder), only_failed=True, workers=0)
    assert (again["failed"], again["deselected"]) == (1, 3)


def _message(job: Job) -> str | None:
    return job.progress.message if job.progress else None


@linux
@pytest.mark.parametrize("workers", [0, thorough(2)])
def test_a_time_limit_returns_what_was_known_and_leaves_no_worker(
    suite: Callable[..., Path], workers: int
) -> None:
    folder = suite(LIVE)
    for limit_s in (3, 12, 48, 96):  # a busy machine may need longer to get so far
        result = run_tests(str(folder), workers=workers, timeout_seconds=limit_s)
        if result["passed"] and result["failed"]:
            break
    assert result.get("timed_out")
    assert (result["outcome"], result["passed"], result["failed"]) == ("timed_out", 1, 1)
    assert result.get("unfinished") == ["test_it.py::test_waits"]
    assert result["failures"][0]["id"] == "test_it.py::test_first"
    assert "2 of 4 not run to their end" in result["summary"]
    assert alive(pids_of(folder, max(workers, 1))) == []
    (folder / "go").touch()
    again = run_tests(str(folder), only_failed=True, workers=0)
    assert (again["failed"], again["deselected"]) == (1, 3)


def test_only_what_failed_last_is_run_again(suite: Callable[..., Path]) -> None:
    folder = suite(
        test_a=PARAMETERS,
        test_b="def test_other(): pass",
        test_c="1 / 0",
        test_d="def test_gone(): assert 0",
    )
    with pytest.raises(InvalidInput, match=r"no run in .* is known"):
        run_tests(str(folder), only_failed=True, workers=0)
    run_tests(str(folder), workers=0, extra_args=["--continue-on-collection-errors"])
    suite(test_c="def test_one(): pass\ndef test_two(): assert 0")
    (folder / "test_d.py").unlink()
    second = run_tests(str(folder), only_failed=True, workers=1)
    assert (second["collected"], second["failed"], second["passed"], second["deselected"]) == (4, 3, 1, 2)
    suite(test_c="def test_one(): pass\ndef test_two(): pass")
    third = run_tests(str(folder), only_failed=True, workers=0)
    assert {each["id"] for each in third["failures"]} == {"test_a.py::test[[x]]", "test_a.py::test[]"}
    run_tests(str(folder), paths=["test_b.py"], workers=0)
    fourth = run_tests(str(folder), only_failed=True, paths=["test_a.py"], workers=0)
    assert (fourth["collected"], fourth["failed"]) == (2, 2)
    suite(test_a="def test_good(): pass")
    with pytest.raises(InvalidInput, match="no tests were found"):
        run_tests(str(folder), only_failed=True, workers=0)
    assert run_tests(str(folder), workers=0)["outcome"] == "passed"
    with pytest.raises(InvalidInput, match="nothing failed in the last run"):
        run_tests(str(folder), only_failed=True, workers=0)


def test_a_suite_below_its_root_is_run_again_by_the_ids_of_its_root(suite: Callable[..., Path]) -> None:
    root = suite(conftest="")
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "tests").mkdir()
    (root / "tests" / "test_it.py").write_text("def test_a(): assert 0\ndef test_b(): pass")
    for only_failed in (False, True):
        result = run_tests(str(root / "tests"), only_failed=only_failed, workers=0)
        assert [each["id"] for each in result["failures"]] == ["tests/test_it.py::test_a"]
        assert result.get("rootdir") == str(root)
        assert result["passed"] == (0 if only_failed else 1)


def test_a_test_that_ends_the_process_is_named(suite: Callable[..., Path]) -> None:
    folder = suite(DEADLY)
    killed = run_tests(str(folder), workers=0, keyword="good or kills")
    assert (killed["outcome"], killed["passed"], killed.get("ended_by_signal")) == ("crashed", 1, "SIGKILL")
    assert killed.get("unfinished") == ["test_it.py::test_kills"]
    left = run_tests(str(folder), workers=0, keyword="ends")
    assert (left["outcome"], left["exit_code"], left.get("unfinished")) == (
        "crashed",
        0,
        ["test_it.py::test_ends"],
    )
    shared = run_tests(str(folder), workers=1)
    assert (shared["outcome"], shared["passed"], shared["failed"]) == ("failed", 1, 2)
    assert {each["id"] for each in shared["failures"]} == {"test_it.py::test_ends", "test_it.py::test_kills"}


HALF = """
import pytest
def test_a(): pass
def test_b(): pytest.exit("it is late", returncode=0)
def test_c(): assert 0
"""
MILD = """
import pytest
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session): session.exitstatus = 0
"""
FORGETFUL = "def pytest_runtest_protocol(item): return item.name == 'test_b' or None"
LEAVES = "import os, atexit\natexit.register(os._exit, 0)"
GOOD = "def test_a(): pass\ndef test_b(): assert 0"
SUITES: dict[str, tuple[dict[str, str], dict[str, Any], str, str]] = {
    "it ends at import": (
        {"test_it": "import os\nos.abort()"}, {}, "crashed", "while tests were looked for in test_it.py)"
    ),
    "it exits at import": (
        {"test_it": "import os\nos._exit(0)"}, {}, "crashed", "(exit code 0 while tests were looked for"
    ),
    "its conftest ends it": (
        {"conftest": "import os\nos._exit(0)", "test_it": GOOD}, {}, "not_run", "no test session was started"
    ),
    "it only collects": (
        {"test_it": GOOD}, {"env_vars": {"PYTEST_ADDOPTS": "--co"}}, "not_run", "(--collect-only was given)"
    ),
    "it only sets up": (
        {"test_it": GOOD}, {"extra_args": ["--setup-only"]}, "not_run", "(--setup-only was given)"
    ),
    "it shows its version": (
        {"test_it": GOOD}, {"extra_args": ["--version"]}, "not_run", "no test session was started"
    ),
    "it leaves half way": ({"test_it": HALF}, {}, "interrupted", "(it is late): 1 passed, 2 of 3 not run"),
    "it hides failures": ({"test_it": GOOD, "conftest": MILD}, {}, "failed", "tests failed: 1 failed"),
    "it ends well whatever was": ({"test_it": GOOD, "conftest": LEAVES}, {}, "failed", "1 failed, 1 passed"),
    "it passes tests by": (
        {"test_it": GOOD, "conftest": FORGETFUL}, {}, "interrupted", "not every test was run to its end: 1 p"
    ),
    "it skips all": (
        {"test_it": "import pytest\n@pytest.mark.skip\ndef test(): pass"}, {}, "not_run", "run: 1 skipped"
    ),
    "it has no terminal": (
        {"test_it": GOOD}, {"extra_args": ["-p", "no:terminal"]}, "failed", "tests failed: 1 failed, 1 passed"
    ),
    "its workers end at import": (
        {"test_it": "import os\nos.abort()"},
        {"workers": 2},
        "crashed",
        "(2 processes of pytest-xdist while tests were looked for in test_it.py)",
    ),
    "a worker ends after its tests": (
        {"test_it": "def test(): pass", "conftest": "import os\ndef pytest_sessionfinish(session):\n"
         "    if 'PYTEST_XDIST_WORKER' in os.environ: os._exit(0)"},
        {"workers": 1, "extra_args": ["--max-worker-restart=0"]},
        "crashed",
        "(1 process of pytest-xdist): 1 passed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SUITES)
def test_only_what_ran_to_its_end_has_passed(suite: Callable[..., Path], name: str) -> None:
    files, arguments, outcome, words = SUITES[name]
    result = run_tests(str(suite(**files)), **{"workers": 0, **arguments})
    assert result["outcome"] == outcome
    assert words in result["summary"]


def test_a_file_that_ends_the_process_is_named(suite: Callable[..., Path]) -> None:
    folder = suite(test_a="def test(): pass", test_b="import ctypes\nctypes.memset(1, 0, 9)")
    result = run_tests(str(folder), workers=0)
    assert (result.get("ended_by_signal"), result.get("unfinished")) == ("SIGSEGV", ["test_b.py"])


def test_files_that_were_all_skipped_are_no_tests(suite: Callable[..., Path]) -> None:
    folder = suite("import pytest\npytest.importorskip('nothing_of_this_name')\ndef test(): pass")
    with pytest.raises(InvalidInput, match=r"no tests were found for .*; 1 file was skipped"):
        run_tests(str(folder), workers=0)


SUBTESTS = """
import unittest
class T(unittest.TestCase):
    def test(self):
        for row in (1, 3):
            with self.subTest("rows", row=row):
                self.fail(f"row {row}")
def test(subtests):
    with subtests.test(size=3): raise ValueError(7)
    with subtests.test("last"): assert 1 == 2
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_each_failure_of_a_subtest_says_which_it_is(suite: Callable[..., Path], workers: int) -> None:
    result = run_tests(str(suite(SUBTESTS)), workers=workers)
    failures = {
        (each["id"], each.get("subtest"), each["message"], each.get("location", "").rpartition(":")[2])
        for each in result["failures"]
    }
    assert failures == {
        ("test_it.py::T::test", "[rows] (row=1)", "AssertionError: row 1", "7"),
        ("test_it.py::T::test", "[rows] (row=3)", "AssertionError: row 3", "7"),
        ("test_it.py::test", "(size=3)", "ValueError: 7", "9"),
        ("test_it.py::test", "[last]", "assert 1 == 2", "10"),
        ("test_it.py::test", None, "contains 2 failed subtests", ""),
    }


OFF = "pytest-xdist is switched off (-p no:xdist)"
NO_XDIST: list[tuple[str, list[str], str]] = [
    ("-p no:xdist", [], OFF),
    ("", ["-p", "no:xdist"], OFF),
    ("--disable-plugin-autoload", [], "pytest-xdist is not loaded, or too old"),
]


@pytest.mark.parametrize(("configured", "extra_args", "reason"), NO_XDIST)
def test_a_suite_without_xdist_runs_in_one_process_and_says_why(
    suite: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    configured: str,
    extra_args: list[str],
    reason: str,
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    folder = suite("def test_a(): pass\ndef test_b(): pass")
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = {configured}\n")
    result = run_tests(str(folder), extra_args=extra_args)
    assert (result["outcome"], result["workers"], result.get("one_process_because")) == ("passed", 0, reason)
    with pytest.raises(InvalidInput, match=re.escape(f"workers is 2, but {reason}; set workers to 0")):
        run_tests(str(folder), extra_args=extra_args, workers=2)


def test_a_suite_that_says_how_many_workers_it_wants_gets_them(suite: Callable[..., Path]) -> None:
    folder = suite("def test_a(): pass\ndef test_b(): pass")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -n 1 --dist loadscope\n")
    assert run_tests(str(folder))["workers"] == 1
    assert run_tests(str(folder), workers=0)["workers"] == 0
    assert run_tests(str(folder), workers=2)["workers"] == 2
    assert run_tests(str(folder), workers=2, extra_args=["-n", "1"])["workers"] == 1


@linux
def test_tests_that_change_their_process_lose_no_event(suite: Callable[..., Path]) -> None:
    code = """
import builtins, json, os, time, pytest
@pytest.mark.parametrize("module, name", [(os, "open"), (os, "write"), (os, "getpid"), (json, "dumps"),
                                          (builtins, "open"), (time, "time")])
def test_replaces(monkeypatch, module, name):
    monkeypatch.setattr(module, name, lambda *a, **k: 1 / 0)
def test_moves(tmp_path, monkeypatch): monkeypatch.chdir(tmp_path)
def test_closes():
    os.closerange(20, 200)
def test_forks():
    if os.fork() == 0:
        raise KeyboardInterrupt
    os.wait()
def test_odd(): assert "\\ud800" == "\\udfff"
def test_last(): pass
"""
    result = run_tests(str(suite(code)), workers=0)
    assert (result["outcome"], result["passed"], result["failed"]) == ("failed", 10, 1)
    json.dumps(result, ensure_ascii=False).encode()


def _venv(folder: Path) -> None:
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")]
    subprocess.run(command, check=True, capture_output=True)


def test_an_environment_without_pytest_is_named_with_what_to_do(suite: Callable[..., Path]) -> None:
    folder = suite("def test(): pass")
    _venv(folder)
    with pytest.raises(InvalidInput) as caught:
        run_tests(str(folder))
    assert str(caught.value) == (
        f"pytest is not installed in the environment {folder / '.venv'}; install it there, "
        "or set with_pytest to true, and uv brings it in beside it"
    )


@pytest.mark.network
def test_uv_brings_in_pytest_and_xdist_beside_the_environment(
    suite: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    folder = suite("import sys\ndef test_a(): assert sys.prefix.endswith('.venv')\ndef test_b(): pass")
    _venv(folder)
    result = run_tests(str(folder), with_pytest=True, with_xdist=True, workers=1)
    assert (result["passed"], result["failed"], result["workers"]) == (2, 0, 1)
    assert "with pytest-xdist and pytest brought in by uv (set up " in result.get("strategy_detail", "")
    assert not list((folder / ".venv").rglob("_pytest"))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"directory": "/no/such/place"}, "directory '/no/such/place' is no directory"),
    ({"paths": ["test_none.py"]}, "paths has 'test_none.py', but there is no "),
    ({"paths": ["--co"]}, "paths has '--co'; each must be a file, a directory or a test id"),
    ({"paths": ["test_it.py::test_none"], "workers": 0}, "paths 'test_it.py::test_none': not found: "),
    ({"keyword": " "}, "keyword is ' '; write an expression"),
    ({"markers": "a or", "workers": 0}, "markers 'a or': Wrong expression passed to '-m'"),
    (
        {"keyword": "nothing", "workers": 0},
        "no tests were found .* keyword 'nothing'; 1 were deselected",
    ),
    ({"workers": -1}, "workers is -1; it must be 'auto'"),
    ({"max_failures": 0}, "max_failures is 0; it must be 1 or more"),
]
LOST_BY_XDIST = ({"markers": "a or", "workers": 2}, "markers 'a or': Wrong expression passed to '-m'")


@pytest.mark.parametrize(("arguments", "words"), [*REFUSED, thorough(*LOST_BY_XDIST)])
def test_what_cannot_be_run_is_refused_in_one_sentence(
    suite: Callable[..., Path], arguments: dict[str, Any], words: str
) -> None:
    folder = suite("def test(): pass")
    with pytest.raises(InvalidInput, match=words) as caught:
        run_tests(**{"directory": str(folder), **arguments})
    assert "\n" not in str(caught.value)


def test_a_conftest_that_cannot_be_imported_is_named_with_its_error(suite: Callable[..., Path]) -> None:
    folder = suite(conftest="import nothing_of_this_name", test_it="def test(): pass")
    with pytest.raises(InvalidInput, match=r"conftest.py' - ModuleNotFoundError: No module named"):
        run_tests(str(folder), workers=0)


def test_variables_of_the_caller_reach_the_tests(suite: Callable[..., Path]) -> None:
    folder = suite("import os\ndef test(): assert os.environ['A'] + os.environ['B'] == '12'")
    (folder / "vars").write_text("A=0\nB=2\n")
    assert run_tests(str(folder), workers=0, env_vars={"A": "1"}, env_file="vars")["outcome"] == "passed"
