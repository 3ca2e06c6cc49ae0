"""Scripts, modules and snippets measured in turns, by the body of the command `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput, LimitExceeded
from python_mcp_server.tools.benchmark.contenders import benchmark_contenders

THREE: dict[str, Any] = {"warmup": 1, "min_runs": 3, "max_runs": 3, "max_seconds": 600}


def snippet(code: str, name: str = "") -> dict[str, Any]:
    return {"name": name or code, "code": code}


def test_scripts_and_modules_run_in_turns_in_one_directory(tmp_path: Path) -> None:
    source = "import sys\nopen('order', 'a').write(sys.argv[1])\nprint('kept by nobody')\n"
    (tmp_path / "one.py").write_text(source)
    (tmp_path / "two.py").write_text(source)
    contenders = [
        {"name": "one", "start": [str(tmp_path / "one.py")], "args": ["1"]},
        {"name": "two", "start": ["-m", "two"], "args": ["2"]},
    ]
    result = benchmark_contenders(str(tmp_path), contenders, THREE)
    order = (tmp_path / "order").read_text()
    assert (order[:2], order.count("1"), order.count("2")) == ("12", 4, 4)
    assert [each["name"] for each in result["contenders"]] == ["one", "two"]
    assert [len(each["times"]) for each in result["contenders"]] == [3, 3]
    assert min(each["ratio"] for each in result["contenders"]) == 1
    assert (result["warmup_runs"], result["stopped"]) == (1, "max_runs")
    assert result.get("startup_seconds", 0) > 0


def test_a_snippet_is_timed_by_the_loop_without_the_start_of_python(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import time\n\ndef rest(s):\n    time.sleep(s)\n")
    result = benchmark_contenders(
        str(tmp_path),
        [snippet("rest(0.002)", "short"), snippet("rest(0.2)", "long")],
        THREE,
        setup="from mine import rest",
    )
    short, long = result["contenders"]
    assert 0.002 <= short["wall"]["median"] < 0.1
    assert 0.2 <= long["wall"]["median"] < 2
    assert short.get("loops", 0) > 1
    assert long.get("loops") == 1
    assert short["cpu"]["median"] < short["wall"]["median"]
    assert long["ratio"] > 1
    assert long.get("ratio_low", 0) <= long["ratio"] <= long.get("ratio_high", 0)
    assert "startup_seconds" not in result


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x +", "SyntaxError: invalid syntax"),
        ("import nowhere", "No module named 'nowhere'"),
        ("1 / 0", "1 / 0"),
    ],
)
def test_a_snippet_that_fails_ends_it_and_shows_its_own_lines(tmp_path: Path, code: str, said: str) -> None:
    result = benchmark_contenders(str(tmp_path), [snippet("pass"), snippet(code)], THREE)
    failed = result.get("failed")
    assert failed
    assert (failed["name"], failed["sentence"]) == (code, "ended with exit code 1")
    assert said in failed["stderr"]
    assert "snippet" not in failed["stderr"], "nothing of ours is shown"
    assert result["stopped"] == "failed"


def test_a_first_contender_that_fails_leaves_no_figures(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise SystemExit('not today')\n")
    contenders = [{"name": "bad", "start": ["bad.py"], "args": []}, snippet("pass")]
    result = benchmark_contenders(str(tmp_path), contenders, THREE)
    assert (result["contenders"], result["summary"]) == ([], "")
    assert result.get("failed") == {
        "name": "bad",
        "sentence": "ended with exit code 1",
        "stderr": "not today",
    }


def test_a_limit_holds_for_each_run_of_each_contender(tmp_path: Path) -> None:
    code = "x = bytearray(300_000_000)\nwhile True: pass"
    with pytest.raises(LimitExceeded, match="the limit is 100 MB"):
        benchmark_contenders(
            str(tmp_path), [snippet("pass"), snippet(code)], THREE, limits={"memory_limit_mb": 100}
        )


@pytest.mark.parametrize(
    ("contenders", "plan", "said"),
    [
        ([], THREE, "at least one"),
        ([snippet("1"), snippet("1")], THREE, "another name"),
        ([{"name": "a", "start": ["no.py"], "args": []}], THREE, "'no.py'"),
        ([snippet("1")], {"max_runs": 0}, "max_runs is 0"),
    ],
)
def test_a_benchmark_without_meaning_is_refused(
    tmp_path: Path, contenders: list[dict[str, Any]], plan: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        benchmark_contenders(str(tmp_path), contenders, plan)
