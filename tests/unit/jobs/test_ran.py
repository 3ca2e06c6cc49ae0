"""A job says what it runs, in a line, and without secrets."""

from __future__ import annotations

import time
from typing import Any

import pytest

from python_mcp_server import CommandJob
from python_mcp_server.jobs.request import request_of
from python_mcp_server.jobs.rows import Ran, first_line, what_ran
from python_mcp_server.tools.batch.tool import map_script
from python_mcp_server.tools.saved import run_saved_script
from python_mcp_server.tools.scripts import run_script_in_dir, run_script_with_dependencies
from python_mcp_server.tools.suite.tool import run_tests


@pytest.mark.parametrize(
    ("body", "arguments", "program", "directory"),
    [
        (
            run_script_in_dir,
            {"directory": "/p", "script_path": "src/train.py", "args": ["--epochs", "3", "two words"]},
            "train.py --epochs 3 'two words'",
            "/p",
        ),
        (run_script_with_dependencies, {"script_content": "import a\n\nprint(1)\n"}, "print(1)", None),
        (run_saved_script, {"script_name": "report", "args": ["2024"]}, "report 2024", None),
        (run_tests, {"directory": "/p", "paths": ["tests/a.py"]}, "pytest tests/a.py", "/p"),
        (run_tests, {"directory": "/p"}, "pytest", "/p"),
        (
            map_script,
            {"directory": "/p", "script_path": "c.py", "args_list": [["a"], ["b"]]},
            "c.py (2 times)",
            "/p",
        ),
        (map_script, {"script_path": "c.py", "args_file": "/x/l"}, "c.py (for each line of l)", None),
        (map_script, {"resume": "0abc"}, "(the rest of 0abc)", None),
        (time.sleep, {"secs": 1}, None, None),
    ],
)
def test_a_call_is_told_in_a_line(
    body: Any, arguments: dict[str, Any], program: str | None, directory: str | None
) -> None:
    assert what_ran(body, (), arguments) == Ran(program, directory)


def test_a_command_is_told_with_its_directory() -> None:
    request = request_of(CommandJob(("make", "-j", "all"), cwd="/p"))
    assert what_ran(request.body, request.args, request.kwargs) == Ran("make -j all", "/p")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--token=abc", "x"], "--token=… x"),
        (["--password", "abc", "x"], "--password … x"),
        (["--api-key", "--fast"], "--api-key --fast"),
        (["https://me:abc@host/x"], "…"),
        (["-v", "abc"], "-v abc"),
        (["TOKEN=abc", "x=1"], "… x=1"),
        (["-H", "Authorization: Bearer abc"], "-H …"),
        (["--header=Authorization: abc"], "…"),
        (["https://host/?token=abc"], "…"),
        (["https://abc@host/x"], "…"),
        (['{"password": "abc"}'], "…"),
        (["--set", "db.password=abc"], "--set …"),
        (["-pabc", "-p8080", "-p", "x"], "-p… -p8080 -p x"),
        (["mysql --password abc", "two words"], "… 'two words'"),
    ],
)
def test_secrets_of_a_command_line_are_left_out(words: list[str], told: str) -> None:
    ran = what_ran(run_script_in_dir, (), {"directory": "/p", "script_path": "a.py", "args": words})
    assert ran.program == f"a.py {told}"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("# /// script\n# ///\n'''Doc.'''\nimport os\nos.getcwd()\n", "os.getcwd()"),
        ("import os\n", "import os"),
        ("API_KEY = 'abc'\nprint(2)\n", "print(2)"),
        ("token = 'abc'", "…"),
        ("connect('postgres://me:abc@host')", "…"),
        ("auth = ('me',\n  'abc')\nprint(2)", "…"),
        ("key = '''\nabc\n'''\nprint(2)", "…"),
        ("start()\npassword = (\n'abc')", "start()"),
        ("pass", "pass"),
        ("for i in range(9): pass", "for i in range(9): pass"),
        ("use(my.pass)", "…"),
        ("", "…"),
    ],
)
def test_the_first_line_that_says_something_stands_for_code(code: str, line: str) -> None:
    assert first_line(code) == line


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"directory": 5, "script_path": 7, "args": 3},
        {"directory": "/p", "script_content": None, "args": [1, None]},
        {"directory": "/p", "unknown": 1},
    ],
)
def test_arguments_that_will_be_refused_do_no_harm(arguments: dict[str, Any]) -> None:
    assert isinstance(what_ran(run_script_in_dir, (), arguments), Ran)


def test_what_is_told_is_short_and_steers_no_terminal() -> None:
    code = "print('\x1b[2J\u202e" + "x" * 100_000
    program = what_ran(run_script_in_dir, (), {"directory": "/p", "script_content": code}).program
    assert program is not None
    assert len(program) == 300
    assert program.isprintable()
