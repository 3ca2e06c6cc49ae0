from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import click
import pytest

from python_mcp_server import __version__
from python_mcp_server.cli import main, program
from python_mcp_server.cli.options import Number
from python_mcp_server.errors import InvalidInput
from python_mcp_server.store.files import FileJobStore
from tests.helpers import environment, run_python
from tests.helpers.command_line import command

HEAVY = ["rich", "mcp", "asyncio", "psutil", "loky", "python_mcp_server.jobs.manager"]


@pytest.fixture
def made_home(home: Path) -> Path:
    """The home, with a store in it."""
    FileJobStore(home)
    return home


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(words)
    return int(left.value.code or 0)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"], ["jobs", "list", "--help"]])
def test_help_and_version_load_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from python_mcp_server.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as left:\n    assert not left.code\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    told = run_python("-c", code, *words)
    assert told.stdout.splitlines()[-1] == "loaded: []", told


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert __version__ in capsys.readouterr().out


def test_every_command_is_named_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    told = capsys.readouterr().out
    assert all(f"\n  {name} " in told for name in ("serve", "run", "jobs", "doctor", "demo"))


def helps(command: click.Command, context: click.Context) -> Generator[list[str]]:
    """Yield the lines of the help of a command and of those below it, for a terminal of 80 columns."""
    yield command.get_help(context).splitlines()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from helps(below, click.Context(below, context, name, terminal_width=80))


def test_every_help_fits_80_columns_and_cuts_no_sentence() -> None:
    told = [*helps(program, click.Context(program, info_name="python-mcp-server", terminal_width=80))]
    usages, others = [lines[0] for lines in told], [line for lines in told for line in lines[1:]]
    assert len(told) > 12
    assert [line for line in [*usages, *others] if len(line) > 80] == []
    assert [line for line in others if line.endswith("...")] == []


def numbers(command: click.Command, context: click.Context) -> Generator[click.Parameter]:
    """Yield the options of a command, and of those below it, that are given a fraction."""
    fractions = (Number, click.types.FloatParamType)
    yield from (each for each in command.params if isinstance(each.type, fractions))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from numbers(below, context)


def test_no_option_takes_a_number_that_is_not_finite() -> None:
    found = [*numbers(program, click.Context(program))]
    assert len(found) >= 8
    for option in found:
        for text in ("nan", "inf", "-inf"):
            with pytest.raises(InvalidInput, match=f"^{option.opts[-1]} is {text}; it must be a number of "):
                option.type.convert(text, option, None)


def test_a_bare_call_on_a_terminal_shows_the_help() -> None:
    above, terminal = pty.openpty()
    try:
        command = [sys.executable, "-m", "python_mcp_server"]
        told = subprocess.run(
            command, stdin=terminal, env=environment(), capture_output=True, text=True, timeout=60, check=True
        )
    finally:
        os.close(above)
        os.close(terminal)
    assert told.stdout.startswith("Usage: python-mcp-server")


@pytest.mark.parametrize("group", ["jobs", "jobs dead", "jobs cache", "queues", "quotas", "schedules"])
def test_a_group_without_a_command_shows_its_help(group: str) -> None:
    told, helped = command(*group.split()), command(*group.split(), "--help")
    assert (told.returncode, told.stdout, told.stderr) == (0, helped.stdout, "")
    assert "\n\nCommands:\n" in told.stdout


@pytest.mark.usefixtures("made_home")
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("jobs", "list", "--status", "done") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "'done'" in told.err
    assert "completed" in told.err


@pytest.mark.usefixtures("made_home")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("jobs", "list", "--status", "done"), "--status is 'done'; "),
        (("jobs", "list", "--limit", "0"), "--limit is 0; "),
        (("jobs", "prune", "--max-age-hours", "-1"), "--max-age-hours is -1.0; "),
        (("run", "--memory-limit-mb", "-5", "-c", "1"), "--memory-limit-mb is -5.0; "),
        (("run", "--cpu-time-limit", "0", "-c", "1"), "--cpu-time-limit is 0.0; "),
        (("run", "--timeout", "-1", "-c", "1"), "--timeout is -1.0; "),
        (("run", "--cwd", "nowhere", "-c", "1"), "--cwd '"),
        (("serve", "--http", "--host", ""), "--host is ''; "),
        (("clean", "--older-than", "nan"), "--older-than is nan; "),
        (("clean", "--environments-mb", "inf"), "--environments-mb is inf; "),
        (("clean", "--older-than", "soon"), "--older-than is 'soon'; "),
        (("demo", "--budget", "100"), "--budget is 100.0; it must be a number of seconds from 0.5 to 20"),
    ],
)
def test_bad_input_is_called_as_it_was_typed(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert call(*words) == 2
    assert capfd.readouterr().err.startswith(f"python-mcp-server: {told}")


@pytest.mark.usefixtures("made_home")
def test_an_unknown_job_is_one_line_on_stderr_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("jobs", "show", "nobody") == 1
    assert capsys.readouterr().err == "python-mcp-server: Job nobody not found\n"


STEERING = "a\x1b[31mb\rc\nd"


@pytest.mark.parametrize(
    "words",
    [
        (STEERING,),
        (f"--{STEERING}",),
        ("jobs", STEERING),
        ("jobs", "show", STEERING),
        ("jobs", "show", "nobody", STEERING),
        ("jobs", "rm", STEERING),
        ("jobs", "list", "--before", STEERING),
        ("jobs", "list", "--status", STEERING),
        ("jobs", "list", "--limit", STEERING),
        ("jobs", "output", "nobody", "--stream", STEERING),
        ("jobs", "output", "nobody", "--pattern", f"({STEERING}"),
        ("clean", STEERING),
        ("clean", "--older-than", STEERING),
        ("run", STEERING),
        ("run", "--env", STEERING, "-c", "1"),
        ("run", "--with", STEERING, "-c", "1"),
        ("run", "--cwd", STEERING, "-c", "1"),
        ("run", "--python", STEERING, "-c", "1"),
        ("bench", STEERING),
        ("bench", "-c", "1", "--plot", STEERING),
        ("serve", "--http", "--host", STEERING),
        ("serve", "--port", STEERING),
    ],
)
@pytest.mark.usefixtures("made_home")
def test_nothing_that_was_typed_steers_the_terminal(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert call(*words) in {1, 2}
    told = capsys.readouterr()
    assert told.out == ""
    assert {char for char in told.err if not char.isprintable()} == {"\n"}
    assert "c\nd" not in told.err


@pytest.mark.usefixtures("made_home")
def test_a_traceback_is_shown_where_debugging_is_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEBUG", "true")
    assert call("jobs", "show", "nobody") == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith("python-mcp-server: Job nobody not found\n")


def test_a_wrong_setting_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCP_DEBUG", "perhaps")
    assert call("jobs", "list") == 2
    assert capsys.readouterr().err == "python-mcp-server: MCP_DEBUG is 'perhaps'; it must be true or false\n"


def test_a_port_without_http_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("serve", "--port", "9000") == 2
    assert "--port is for HTTP" in capsys.readouterr().err


def test_home_wins_over_the_variable(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHON_MCP_HOME", str(home))
    FileJobStore(tmp_path / "other")
    assert call("jobs", "list", "--home", str(tmp_path / "other")) == 0
    assert capsys.readouterr().err == ""


def test_a_home_that_cannot_be_opened_is_not_taken_for_a_missing_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert call("jobs", "list", "--home", str(tmp_path / "file")) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "there is no home" not in told.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("jobs", "list"), 0),
        (("jobs", "list", "--json"), 0),
        (("jobs", "show", "nobody"), 1),
        (("jobs", "wait", "nobody"), 1),
        (("jobs", "output", "nobody"), 1),
        (("jobs", "cancel", "nobody"), 1),
        (("jobs", "answer", "nobody", "key", "value"), 1),
        (("jobs", "rm", "nobody"), 1),
        (("jobs", "prune"), 0),
        (("jobs", "tree", "nobody"), 1),
        (("jobs", "dead", "list"), 0),
        (("jobs", "dead", "show", "nobody"), 1),
        (("jobs", "dead", "retry", "nobody"), 1),
        (("jobs", "dead", "drop", "--all"), 0),
        (("jobs", "cache", "drop"), 0),
        (("queues", "list"), 0),
        (("quotas", "list"), 0),
        (("quotas", "show", "nobody"), 0),
        (("schedules", "list"), 0),
        (("schedules", "next", "nobody"), 2),
        (("schedules", "pause", "nobody"), 2),
        (("schedules", "run", "nobody"), 2),
        (("schedules", "rm", "nobody"), 2),
        (("clean",), 0),
    ],
)
def test_a_look_into_a_home_that_is_not_there_says_so_and_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int
) -> None:
    (tmp_path / "documents").mkdir()
    for name in ("mistyped/below", "documents"):
        there = tmp_path / name
        assert call(*words, "--home", str(there)) == code
        told = capsys.readouterr().err.splitlines()
        assert told[0].startswith(f"python-mcp-server: there is no home at '{there}'; ")
        assert len(told) == 1 + (code > 0)
    assert [path.name for path in tmp_path.rglob("*")] == ["documents"]


def test_what_makes_a_home_says_so_and_what_is_refused_makes_none(tmp_path: Path) -> None:
    there = tmp_path / "mistyped"
    told = command("schedules", "add", "--at", "x", "-c", "1", "--home", there)
    assert (told.returncode, there.exists()) == (2, False)
    told = command("queues", "pause", "--home", there, "y")
    assert (told.returncode, there.exists()) == (0, True)
    assert f"there is no home at '{there}'; it is made now" in told.stderr


@pytest.mark.parametrize("kind", ["directory", "text"])
def test_a_look_into_a_bad_database_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "jobs.db"
    path.mkdir() if kind == "directory" else path.write_text("no database at all")
    monkeypatch.setenv("PYTHON_MCP_STORE", f"sqlite://{path}")
    assert command("jobs", "list").returncode == 1
    assert [each.name for each in tmp_path.iterdir()] == ["jobs.db"]


def test_a_look_into_a_database_that_is_not_there_says_so_and_makes_none(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite://{tmp_path}/mistyped/jobs.db"
    monkeypatch.setenv("PYTHON_MCP_STORE", url)
    assert call("jobs", "list") == 0
    assert capsys.readouterr().err.startswith(f"python-mcp-server: there is no store at {url}; ")
    assert call("jobs", "move", url, f"sqlite://{tmp_path}/other.db") == 2
    assert "where no store is" in capsys.readouterr().err
    assert list(tmp_path.rglob("*.db*")) == []


def test_an_empty_home_is_not_taken_for_the_default(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("jobs", "list", "--home", "") == 2
    assert capsys.readouterr().err == "python-mcp-server: --home is ''; give a value, or leave it out\n"
    assert not home.exists()
