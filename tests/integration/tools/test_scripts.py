"""A script of a directory, run by a real child: what it sees, what it gives back."""

from __future__ import annotations

import json
import platform
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.tools.scripts import run_script_in_dir

SPAWN = """
import multiprocessing, neighbour, sys

def double(n):
    return 2 * n + neighbour.OFFSET

class Kind:
    pass

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(pool.map(double, [1, 2, 3]), type(pool.apply(Kind)).__module__)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a neighbour to import, and a name that is hard to handle."""
    path = tmp_path / "a dir \N{SNOWMAN} 'q'"
    path.mkdir()
    (path / "neighbour.py").write_text("OFFSET = 10\n", "utf-8")
    return path


def run(folder: Path, content: str | None = None, **more: Any) -> Any:
    more.setdefault("timeout_seconds", 60)
    return run_script_in_dir(str(folder), script_content=content, **more)


def test_inline_code_runs_as_a_script_of_its_directory(folder: Path) -> None:
    (folder / "data.txt").write_text("data", "utf-8")
    before = set(folder.iterdir())
    code = """
'''The doc.'''
import json, os, sys
sys.dont_write_bytecode = True
import neighbour
print(json.dumps([neighbour.OFFSET, open("data.txt").read(), os.getcwd(), sys.path[0], sys.argv[1:],
                  __name__, __doc__, os.path.isfile(__file__), sys.argv[0] == __file__,
                  sorted(k for k in globals() if not k.startswith("__"))]))
"""
    result = run(folder, code, args=["one", "two words", "\N{SNOWMAN}"])
    assert result["stderr"] == ""
    assert json.loads(result["stdout"]) == [
        10, "data", str(folder), str(folder), ["one", "two words", "\N{SNOWMAN}"],
        "__main__", "The doc.", True, True, ["json", "neighbour", "os", "sys"],
    ]  # fmt: skip
    assert set(folder.iterdir()) == before


def test_a_script_file_runs_in_its_directory(folder: Path) -> None:
    (folder / "sub dir").mkdir()
    (folder / "sub dir" / "s p.py").write_text("import os, sys; print(os.getcwd(), sys.path[0])\n", "utf-8")
    result = run(folder, script_path="sub dir/s p.py")
    assert result["stdout"] == f"{folder} {folder / 'sub dir'}\n"
    assert run(folder, script_path=str(folder / "sub dir" / "s p.py"))["stdout"] == result["stdout"]


def test_a_result_has_the_promised_fields(folder: Path) -> None:
    result = run(folder, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (result["stdout"], result["stderr"], result["exit_code"]) == ("out\n", "err\n", 3)
    assert result["execution_strategy"] == "system-python"
    own = f"the server's own Python {platform.python_version()}"
    assert result["strategy_detail"] == f"{own} (nothing here asks for another)"
    assert result["elapsed_seconds"] > 0
    assert result.keys() == {
        "stdout", "stderr", "exit_code", "execution_strategy", "elapsed_seconds", "strategy_detail",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (
            "def f():\n    1/0\nf()\n",
            ["line 3, in <module>", "f()", "line 2, in f", "1/0", "ZeroDivisionError"],
        ),
        ("x = (\n", ["line 1", "x = (", "SyntaxError"]),
        ("raise KeyboardInterrupt\n", ["line 1, in <module>", "KeyboardInterrupt"]),
    ],
)
def test_a_traceback_shows_the_lines_of_inline_code_and_no_launcher(
    folder: Path, code: str, shown: list[str]
) -> None:
    result = run(folder, code)
    assert result["exit_code"] != 0
    assert "<string>" not in result["stderr"]
    assert "_launch" not in result["stderr"]
    for words in shown:
        assert words in result["stderr"]


def test_a_chain_of_exceptions_is_shown_whole(folder: Path) -> None:
    stderr = run(folder, "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise KeyError(5) from e\n")[
        "stderr"
    ]
    assert stderr.index("ZeroDivisionError") < stderr.index("direct cause") < stderr.index("KeyError: 5")


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_multiprocessing_works_in_inline_code(folder: Path, method: str) -> None:
    result = run(folder, SPAWN, args=[method])
    assert (result["stdout"], result["stderr"]) == ("[12, 14, 16] __main__\n", "")


def test_classes_of_inline_code_show_their_source(folder: Path) -> None:
    code = "import inspect\nclass A:\n    x = 1\nprint(inspect.getsource(A))\n"
    assert run(folder, code)["stdout"] == "class A:\n    x = 1\n\n"


def test_stdin_is_empty(folder: Path) -> None:
    assert run(folder, "import sys; print(repr(sys.stdin.read()))")["stdout"] == "''\n"


def test_unicode_and_bytes_of_any_kind_come_through(folder: Path) -> None:
    code = (
        "import sys; print('h\\u00e9 \\u2603'); sys.stdout.flush(); sys.stdout.buffer.write(b'\\xff\\x00\\n')"
    )
    assert run(folder, code)["stdout"] == "h\u00e9 \u2603\n\ufffd\0\n"


def test_an_early_end_is_told_as_it_was(folder: Path) -> None:
    assert run(folder, "import os; os.write(1, b'x'); os._exit(7)")["exit_code"] == 7
    crashed = run(folder, "import ctypes; print('before', flush=True); ctypes.string_at(0)")
    assert (crashed["exit_code"], crashed["ended_by_signal"]) == (-signal.SIGSEGV, "SIGSEGV")
    assert crashed["stdout"] == "before\n"


def test_many_arguments_arrive_and_too_many_are_one_sentence(folder: Path) -> None:
    code = "import sys; print(len(sys.argv), sum(map(len, sys.argv[1:])))"
    assert run(folder, code, args=["x" * 1000] * 1000)["stdout"] == "1001 1000000\n"
    with pytest.raises(InvalidInput, match="args are too long"):
        run(folder, code, args=["x" * 1000] * 20_000)


def test_a_variable_that_is_too_long_is_named_without_its_value(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="BIG has 3,000,005 bytes") as refused:
        run(folder, "print(1)", env_vars={"BIG": "secret" * 500_000})
    assert "secret" not in str(refused.value)


def test_a_relative_directory_starts_where_the_server_was_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert run(Path(folder.name), "import os; print(os.getcwd())")["stdout"] == f"{folder}\n"
    monkeypatch.chdir(folder.anchor)
    with pytest.raises(
        InvalidInput, match="'tmp' is relative, and this server was started in /; give an abs"
    ):
        run(Path("tmp"), "x = 1")


def test_variables_reach_the_script_in_their_order_and_nothing_else(folder: Path) -> None:
    (folder / "my.env").write_text("A=file\nB=file\n", "utf-8")
    code = "import os; print(os.environ['A'], os.environ['B'])"
    result = run(folder, code, env_file="my.env", env_vars={"B": "s3cret"})
    assert result["stdout"] == "file s3cret\n"
    assert "s3cret" not in json.dumps({**result, "stdout": ""})


def test_a_time_limit_ends_the_script_and_keeps_what_it_wrote(folder: Path) -> None:
    code = "import sys, time\nprint('so far')\nsys.stderr.write('half\\n')\ntime.sleep(600)\n"
    result = run(folder, code, timeout_seconds=1.5)
    assert result["stdout"] == "so far\n"
    assert result["stderr"].startswith("half\nTraceback")  # it says where the script was
    assert re.search(r"time\.sleep\(600\)\n( +[~^]+\n)?KeyboardInterrupt\n\[TIMEOUT\]$", result["stderr"])
    assert (result["timed_out"], result["exit_code"]) == (True, -signal.SIGINT)


def test_no_time_limit_lets_the_script_end(folder: Path) -> None:
    result = run(folder, "print('end')", timeout_seconds=0)
    assert result["stdout"] == "end\n"
    assert "timed_out" not in result


def test_the_python_of_the_server_serves_its_own_version(folder: Path) -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    result = run(folder, "import sys; print(sys.executable)", python_version=version)
    assert (result["stdout"], result["execution_strategy"]) == (f"{sys.executable}\n", "system-python")


def test_an_unknown_python_is_refused_with_those_that_are_installed(folder: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"^python_version '3\.99' cannot be had: .*; installed are .*3\.\d+"
    ):
        run(folder, "x = 1", python_version="3.99", use_uv=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"directory": "/no/such"}, "directory '/no/such' is no directory"),
        ({"script_path": "absent.py"}, "script_path 'absent.py' is no file"),
        ({}, "neither was given"),
        (
            {"script_path": "neighbour.py", "script_content": "pass"},
            "both were given (script_path 'neighbour.py')",
        ),
        ({"script_content": "pass", "timeout_seconds": -1}, "timeout_seconds is -1"),
        ({"script_content": "pass", "python_version": "three"}, "python_version is 'three'"),
        ({"script_content": "pass", "env_file": "absent.env"}, "env_file 'absent.env' does not exist"),
        ({"script_content": "pass", "args": [1]}, "args has 1"),
        ({"script_content": "pass", "args": ["a\0b"]}, "args has 'a\\x00b'"),
    ],
)
def test_bad_input_is_one_sentence_with_the_value(folder: Path, arguments: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        run_script_in_dir(**{"directory": str(folder), **arguments})
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
