"""A hint says what would have let a run pass, and stays away wherever that is not known for sure."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from python_mcp_server.limits import CPU, DISK, MEMORY, TIME
from python_mcp_server.tools import hints
from python_mcp_server.tools.hints import Ended, hint_at_limit, hint_for, hint_for_tests, package_of

WAYS = [
    hints.IN_SCRIPT, hints.IN_PROJECT, hints.BY_TOOL, hints.BY_PARAMETER, hints.BY_SAVING, hints.IN_SUITE,
]  # fmt: skip
TRACEBACK = (
    'Traceback (most recent call last):\n  File "script.py", line 1, in <module>\n    {code}\n{error}\n'
)


def failed(error: str, code: str = "import it", folder: Path | None = None) -> Ended:
    return Ended(1, TRACEBACK.format(code=code, error=error), folder=folder)


def missing(module: str, folder: Path | None = None) -> Ended:
    return failed(f"ModuleNotFoundError: No module named '{module}'", folder=folder)


@pytest.mark.parametrize("way", WAYS)
def test_a_missing_package_is_named_with_the_way_to_it(way: str):
    for module, package in [("cv2", "opencv-python-headless"), ("PIL", "pillow"), ("scipy", "scipy")]:
        hint = hint_for(missing(module), way)
        assert hint is not None
        assert hint.startswith(module)
        assert f'"{package}"' in hint


def test_no_hint_is_longer_than_it_may_be():
    names = [*hints._SAME_NAMES, *hints._OTHER_NAMES]  # pyright: ignore[reportPrivateUsage]
    found = [hint_for(missing(name), way) for name in names for way in WAYS]
    ends = [
        hint_for(Ended(-9, timed_out=True), ""), hint_for(Ended(-signal.SIGSEGV), ""),
        hint_for(Ended(-9), ""), hint_for(failed("EOFError: EOF when reading a line"), ""),
        hint_at_limit(MEMORY), hint_at_limit(CPU),
        hint_for_tests(["OSError: pytest: reading from stdin while output is captured! Consider"], Path()),
    ]  # fmt: skip
    for hint in [*found, *ends]:
        assert hint is not None
        assert len(hint) <= hints.MOST_CHARS
    assert not sys.stdlib_module_names & set(names)


@pytest.mark.parametrize(
    "module", ["helpers", "numpyy", "tkinter", "distutils", "_ctypes", "scipy.nothing", "my-module", "config"]
)
def test_a_module_that_no_package_brings_for_sure_gets_no_hint(module: str):
    assert hint_for(missing(module), hints.IN_SCRIPT) is None
    assert package_of(module) is None


@pytest.mark.parametrize("place", ["rich.py", "src/rich.py", "rich/__init__.py", "lib/rich/__init__.py"])
def test_a_module_of_the_users_own_gets_no_hint(tmp_path: Path, place: str):
    assert hint_for(missing("rich", folder=tmp_path), hints.IN_SCRIPT) is not None
    (tmp_path / place).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / place).touch()
    assert hint_for(missing("rich", folder=tmp_path), hints.IN_SCRIPT) is None


def test_a_missing_module_that_did_not_end_the_script_gets_no_hint():
    words = missing("scipy").stderr
    assert hint_for(Ended(0, words), hints.IN_SCRIPT) is None
    assert hint_for(Ended(1, f"{words}ValueError: something else\n"), hints.IN_SCRIPT) is None
    assert hint_for(Ended(1, f"note: {words.splitlines()[-1]}\n"), hints.IN_SCRIPT) is None
    assert hint_for(Ended(1, ""), hints.IN_SCRIPT) is None


def test_an_optional_dependency_that_pandas_misses_is_named():
    words = "ImportError: Missing optional dependency 'openpyxl'.  Use pip or conda to install openpyxl."
    assert '"openpyxl"' in str(hint_for(failed(words), hints.BY_PARAMETER))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("name = input()", "EOFError: EOF when reading a line"),
        ("data = json.load(sys.stdin)", "json.decoder.JSONDecodeError: Expecting value: line 1 column 1"),
        ("n = int(sys.stdin.readline())", "ValueError: invalid literal for int() with base 10: ''"),
        ("first = next(iter(sys.stdin.buffer))", "StopIteration"),
        ("table = [row for row in sys.stdin][0]", "IndexError: list index out of range"),
    ],
)
def test_a_script_that_reads_stdin_is_told_that_there_is_none(code: str, error: str):
    assert "no stdin" in str(hint_for(failed(error, code), hints.IN_SCRIPT))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("pickle.load(file)", "EOFError: Ran out of input"),
        ("if sys.stdin.isatty(): fail()", "NameError: name 'fail' is not defined"),
        ("sys.stdin.reconfigure(encoding='x')", "LookupError: unknown encoding: x"),
        ("json.load(file)", "json.decoder.JSONDecodeError: Expecting value: line 1 column 1"),
    ],
)
def test_other_errors_beside_stdin_get_no_hint(code: str, error: str):
    assert hint_for(failed(error, code), hints.IN_SCRIPT) is None


READS = ["for line in sys.stdin: print(line)", "print(end=sys.stdin.read())", "list(map(print, sys.stdin))"]


@pytest.mark.parametrize("code", READS)
def test_a_silent_script_that_reads_stdin_is_told_too(tmp_path: Path, code: str):
    script = tmp_path / "script.py"
    script.write_text(f"import sys\n{code}\n")
    assert "no stdin" in str(hint_for(Ended(0, silent=True, script=script), hints.IN_SCRIPT))
    assert hint_for(Ended(0, silent=False, script=script), hints.IN_SCRIPT) is None


@pytest.mark.parametrize(
    "code",
    ["pass", "# sys.stdin.read()", "print(end='' if sys.stdin.isatty() else '')", "sys.stdin.read(", "x\0"],
)
def test_a_silent_script_that_reads_nothing_gets_no_hint(tmp_path: Path, code: str):
    script = tmp_path / "script.py"
    script.write_text(code)
    assert hint_for(Ended(0, silent=True, script=script), hints.IN_SCRIPT) is None
    assert hint_for(Ended(0, silent=True, script=tmp_path / "gone.py"), hints.IN_SCRIPT) is None


def test_ends_from_outside_say_what_would_let_the_run_pass():
    assert "timeout_seconds" in str(hint_for(Ended(-9, timed_out=True), ""))
    assert "memory" in str(hint_for(Ended(-signal.SIGKILL), ""))
    assert "PYTHONFAULTHANDLER" in str(hint_for(Ended(-signal.SIGSEGV), ""))
    assert hint_for(Ended(-signal.SIGSEGV, "Fatal Python error: Segmentation fault\n"), "") is None
    assert hint_for(Ended(-signal.SIGTERM), "") is None
    assert "memory_limit_mb" in str(hint_at_limit(MEMORY))
    assert "cpu_time_limit_seconds" in str(hint_at_limit(CPU))
    assert "disk_limit_mb" in str(hint_at_limit(DISK))
    assert hint_at_limit(TIME) is None


def test_failed_tests_get_a_hint_only_where_it_is_sure(tmp_path: Path):
    collected = "ImportError while importing test module\nE   ModuleNotFoundError: No module named 'yaml'"
    assert '"PyYAML"' in str(hint_for_tests(["AssertionError", collected], tmp_path))
    asked = "OSError: pytest: reading from stdin while output is captured! Consider using `-s`."
    assert "monkeypatch" in str(hint_for_tests([asked], tmp_path))
    assert hint_for_tests(["AssertionError: No module named 'yaml'", ""], tmp_path) is None
