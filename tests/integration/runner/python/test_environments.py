"""Scripts with packages: environments that uv makes, offline from wheels built here."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.context import JobContext, enter_job, leave_job
from python_mcp_server.errors import InvalidInput
from python_mcp_server.runner.python import environments, unused
from python_mcp_server.runner.python.unused import remove_unused
from python_mcp_server.tools.benchmark.tool import benchmark_script
from python_mcp_server.tools.saved import run_saved_script, save_script
from python_mcp_server.tools.scripts import run_script_in_dir, run_script_with_dependencies
from tests.helpers.wheels import wheel

SHOW = "import sample_a, sys; print(sample_a.VALUE, sys.prefix != sys.base_prefix)"


@pytest.fixture(autouse=True)
def offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uv reach nothing but this machine, except in the one test that says so."""
    if "network" not in request.keywords:
        monkeypatch.setenv("UV_OFFLINE", "1")
        monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")


@pytest.fixture
def sample(tmp_path: Path) -> str:
    """A requirement that a wheel on this disk meets."""
    return wheel(tmp_path, "sample_a", "1.5")


def test_a_script_gets_its_packages_and_says_which(sample: str, home: Path) -> None:
    result = run_script_with_dependencies(SHOW, dependencies=[sample])
    assert (result["stdout"], result["stderr"]) == ("1.5 True\n", "")
    assert result["execution_strategy"] == "uv-run"
    assert [line.partition(" @ ")[0] for line in result["resolved_dependencies"]] == ["sample-a"]
    assert result["python_version_used"] == ".".join(map(str, sys.version_info[:3]))
    assert result.get("install_seconds", 0) > 0
    assert result.get("strategy_detail", "").endswith(
        " with 1 package, in an environment of its own (set up for this call)"
    )
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_second_run_starts_no_uv(sample: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_script_with_dependencies(SHOW, dependencies=[sample])
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "")
    second = run_script_with_dependencies(SHOW, dependencies=[sample])
    assert second["stdout"] == first["stdout"]
    assert second["resolved_dependencies"] == first["resolved_dependencies"]
    assert "install_seconds" not in second
    assert second.get("strategy_detail", "").endswith(" (set up before)")


def test_a_package_that_changed_on_disk_is_installed_again(tmp_path: Path, sample: str) -> None:
    code = "from importlib.metadata import version; print(version('sample_b'))"
    requirement = wheel(tmp_path, "sample_b", "1.0")
    assert run_script_with_dependencies(code, dependencies=[requirement])["exit_code"] == 0
    count = len(list((tmp_path / "home" / "environments").glob("*/ready.json")))
    path = tmp_path / "sample_b-1.0-py3-none-any.whl"
    path.touch()
    assert run_script_with_dependencies(code, dependencies=[requirement])["exit_code"] == 0
    assert len(list((tmp_path / "home" / "environments").glob("*/ready.json"))) == count + 1


def test_the_environment_holds_nothing_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(environments.__file__).parents[2]))
    code = "import importlib.util as u; print(u.find_spec('psutil'), u.find_spec('python_mcp_server'))"
    assert run_script_with_dependencies(code)["stdout"] == "None None\n"


def test_children_of_a_script_find_the_environments_programs_first() -> None:
    code = "import shutil, sys; print(shutil.which('python') == sys.executable)"
    assert run_script_with_dependencies(code)["stdout"] == "True\n"


def test_the_header_is_honoured_in_every_way_to_run_a_script(tmp_path: Path, sample: str) -> None:
    code = f"# /// script\n# dependencies = ['{sample}']\n# ///\n{SHOW}\n"
    (tmp_path / "script.py").write_text(code, "utf-8")
    save_script("saved", SHOW, [sample])
    results: list[Any] = [
        run_script_with_dependencies(code),
        run_script_with_dependencies(script_path=str(tmp_path / "script.py")),
        run_script_in_dir(str(tmp_path), script_path="script.py"),
        run_script_in_dir(str(tmp_path), script_content=code),
        run_saved_script("saved"),
        benchmark_script(code, max_runs=1),
    ]
    assert [(r["stdout"], r["execution_strategy"]) for r in results] == [("1.5 True\n", "uv-run")] * 6


def test_what_the_header_tells_uv_is_heard(tmp_path: Path) -> None:
    wheel(tmp_path, "sample_a", "1.5")
    path = tmp_path / "sample_a-1.5-py3-none-any.whl"
    code = f"""
# /// script
# dependencies = ["sample-a"]
#
# [tool.uv.sources]
# sample-a = {{ path = "{path}" }}
# ///
{SHOW}
"""
    assert run_script_with_dependencies(code)["stdout"] == "1.5 True\n"


def test_without_uv_the_header_is_ignored(tmp_path: Path, sample: str) -> None:
    code = f"# /// script\n# dependencies = ['{sample}']\n# ///\n{SHOW}\n"
    result = run_script_in_dir(str(tmp_path), script_content=code, use_uv=False)
    assert "No module named 'sample_a'" in result["stderr"]
    assert result["execution_strategy"] == "system-python"


def test_calls_at_once_share_one_installation(sample: str, home: Path) -> None:
    results: list[str] = []

    def run() -> None:
        results.append(run_script_with_dependencies(SHOW, dependencies=[sample])["stdout"])

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["1.5 True\n"] * 4
    assert len(list((home / "environments").glob("*/ready.json"))) == 1


def test_an_environment_that_was_never_finished_is_made_again(sample: str, home: Path) -> None:
    run_script_with_dependencies(SHOW, dependencies=[sample])
    (ready,) = (home / "environments").glob("*/ready.json")
    ready.unlink()
    (ready.parent / "pyvenv.cfg").write_text("half", "utf-8")
    assert run_script_with_dependencies(SHOW, dependencies=[sample])["stdout"] == "1.5 True\n"


def test_installing_is_a_phase_that_progress_names(sample: str, tmp_path: Path) -> None:
    messages: list[str | None] = []
    second = wheel(tmp_path, "sample_b", "2.0")
    job = JobContext("a-job", "", str(tmp_path / "job"), lambda progress: messages.append(progress.message))
    token = enter_job(job, whole_process=False)
    try:
        result = run_script_with_dependencies(
            "open('left.txt', 'w').write('x')", dependencies=[sample, second]
        )
    finally:
        leave_job(token)
    assert messages[0] == f"installing 2 dependencies: {sample}, {second}"
    assert messages[-1] == "running"
    assert Path(result.get("working_directory", ""), "left.txt").read_text("utf-8") == "x"
    assert job.wants_record


def test_the_time_limit_covers_installing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: str
) -> None:
    slow = tmp_path / "uv"
    slow.write_text("#!/bin/sh\necho at work >&2\nsleep 600\n", "utf-8")
    slow.chmod(0o700)
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    result = run_script_with_dependencies(SHOW, dependencies=[sample], timeout_seconds=1)
    assert result.get("timed_out")
    assert result["exit_code"] < 0
    assert result["stderr"] == "the time limit came while uv was at work (venv --clear)\n[TIMEOUT]"


def test_unused_environments_go_beside_the_call_once_its_script_has_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch, sample: str
) -> None:
    old = home / "environments" / "old"
    (old / "bin").mkdir(parents=True)
    os.utime(old, (0, 0))
    answered, removed = threading.Event(), threading.Event()

    def remove_later(*where: Any) -> None:
        assert answered.wait(60)
        remove_unused(*where)
        removed.set()

    monkeypatch.setattr(unused, "remove_unused", remove_later)
    code = f"import os; print(os.path.exists({str(old)!r}))"
    assert run_script_with_dependencies(code, dependencies=[sample])["stdout"] == "True\n"
    answered.set()
    assert removed.wait(60)
    assert not old.exists()


def test_a_dependency_that_does_not_exist_is_one_sentence_of_the_resolver() -> None:
    with pytest.raises(InvalidInput) as refused:
        run_script_with_dependencies("x = 1", dependencies=["no-such-package-here"])
    assert "no-such-package-here" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.thorough  # `test_an_unknown_python_is_refused_with_those_that_are_installed` asks uv the same
def test_a_version_that_the_script_cannot_have_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"python_version '3\.99' cannot be had"):
        run_script_with_dependencies("x = 1", python_version="3.99")


def test_the_environment_of_the_directory_is_used_and_named(tmp_path: Path, sample: str) -> None:
    made = run_script_with_dependencies("import sys; print(sys.prefix)", dependencies=[sample])
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / ".venv").symlink_to(made["stdout"].strip())
    result = run_script_in_dir(str(tmp_path / "dir"), script_content=SHOW)
    assert (result["stdout"], result["execution_strategy"]) == ("1.5 True\n", "uv-run")
    assert str(tmp_path / "dir" / ".venv") in result.get("strategy_detail", "")


def test_a_project_is_brought_up_to_date_and_used(tmp_path: Path, sample: str) -> None:
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["{sample}"]\n',
        "utf-8",
    )
    first, second = (run_script_in_dir(str(tmp_path), script_content=SHOW) for _ in range(2))
    assert (first["stdout"], first["execution_strategy"]) == ("1.5 True\n", "uv-run")
    assert first.get("strategy_detail") == f"the project {tmp_path} (set up for this call)"
    assert second.get("strategy_detail") == f"the project {tmp_path} (set up before)"


def test_the_env_beside_the_saved_scripts_is_read_unless_another_is_given(home: Path, tmp_path: Path) -> None:
    save_script("show", "import os, sys; print(os.environ.get('A'), os.getcwd(), sys.argv[1:])")
    (home / "scripts" / ".env").write_text("A=beside\n", "utf-8")
    (tmp_path / "other.env").write_text("B=1\n", "utf-8")
    assert run_saved_script("show.py", ["x"])["stdout"] == f"beside {home / 'scripts'} ['x']\n"
    other = run_saved_script("show", env_file=str(tmp_path / "other.env"))
    assert other["stdout"].startswith("None ")


@pytest.mark.network
def test_a_package_of_the_registry_is_installed() -> None:
    code = "from importlib.metadata import version; print(version('iniconfig'))"
    result = run_script_with_dependencies(code, dependencies=["iniconfig>=2"])
    assert result["resolved_dependencies"] == [f"iniconfig=={result['stdout'].strip()}"]
