"""`run`: scripts as jobs, over the command line; a real one wherever signals and streams matter."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest

from python_mcp_server import processes
from python_mcp_server.jobs.manager import JobManager
from python_mcp_server.model import Job
from tests.helpers import environment, python, run_python
from tests.helpers.command_line import command
from tests.helpers.marks import thorough

RUN = ("-m", "python_mcp_server", "run")
DEAF = """\
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
time.sleep(120)
"""


SCRIPT = Path(sys.executable).with_name("python-mcp-server")
STANDS_STILL = """\
import sys, time
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            print("imports", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "script.py"


def the_job() -> Job:
    jobs, _ = JobManager().blocking.list()
    assert len(jobs) == 1
    return jobs[0]


def first_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_a_script_runs_as_if_it_were_run_here(script: Path) -> None:
    script.write_text(
        "import os, sys\nos.write(1, b'\\xff\\x00raw\\r\\n')\nprint(sys.argv[1:], os.getcwd())\n"
        "print('to stderr', file=sys.stderr)\nsys.exit(7)\n"
    )
    words = [sys.executable, *RUN, str(script), "--timeout", "1", "-x", "two words"]
    told = subprocess.run(
        words, cwd=script.parent, env=environment(), capture_output=True, timeout=60, check=False
    )
    said = f"['--timeout', '1', '-x', 'two words'] {script.parent}\n".encode()
    assert (told.stdout, told.stderr, told.returncode) == (b"\xff\x00raw\r\n" + said, b"to stderr\n", 7)
    job = the_job()
    assert (job.status, job.label, job.result["exit_code"]) == ("completed", "script.py", 7)


SEEN = """\
import __main__, os, sys
print(sys.argv, sys.path[0], __name__, __package__, globals().get("__file__"), sys.stdin.read())
print(__main__.__spec__ and __main__.__spec__.name, os.getcwd())
"""


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ((), ("seen.py", "a", "--", "-x", "--timeout", "1", "-m", "-")),
        ((), ("./package", "--help")),
        (("--timeout", "100"), ("-m", "package", "--timeout", "x", "--", "-c")),
        (("--nice", "3"), ("-mpackage", "--nice")),
        (("--env", "A=-m"), ("-c", SEEN, "--env", "--", "-h")),
        ((), ("-", "a", "-c", "--", "x")),
    ],
)
def test_a_program_sees_what_it_sees_under_plain_python(
    tmp_path: Path, ours: tuple[str, ...], words: tuple[str, ...]
) -> None:
    (tmp_path / "package").mkdir()
    for name in ("seen.py", "package/__main__.py"):
        (tmp_path / name).write_text(SEEN)
    source = SEEN if words[0] == "-" else ""
    seen = [
        subprocess.run(
            (sys.executable, *before, *words), cwd=tmp_path, env=environment(), input=source.encode(),
            capture_output=True, timeout=60, check=False,
        )
        for before in ((), (*RUN, *ours))
    ]  # fmt: skip
    assert seen[0].stdout.count(b"\n") == 2, seen[0].stderr
    assert (seen[1].stdout, seen[1].stderr, seen[1].returncode) == (seen[0].stdout, b"", 0)


def test_code_on_stdin_fails_as_under_plain_python() -> None:
    source = "print('ä')\n\n1 / 0\n".encode()
    env = environment(PYTHONIOENCODING="utf-8")
    plain, ours = (
        subprocess.run(
            (sys.executable, *before, "-"),
            env=env,
            input=source,
            capture_output=True,
            timeout=60,
            check=False,
        )
        for before in ((), RUN)
    )
    assert (ours.stdout, ours.stderr, ours.returncode) == (plain.stdout, plain.stderr, 1)


@pytest.mark.parametrize(("words", "right"), [((), "nothing to run"), (("-m",), "-m"), (("-c",), "-c")])
def test_a_run_of_nothing_says_what_is_missing(words: tuple[str, ...], right: str) -> None:
    told = command("run", *words)
    assert (told.returncode, told.stdout) == (2, "")
    assert right in told.stderr.splitlines()[-1]


def test_limits_hold_for_a_run_and_are_named_where_they_end_it() -> None:
    told = command("run", "--memory-limit-mb", "100", "-c", "x = bytearray(200_000_000); print(len(x))")
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    assert "the limit is 100 MB" in told.stderr
    assert the_job().error_kind == "memory_limit"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux binds processes to cores")
def test_a_run_keeps_to_its_cores_and_its_priority() -> None:
    core = max(os.sched_getaffinity(0))
    told = command(
        "run",
        "--cpus",
        f"{core},",
        "--nice",
        "7",
        "-c",
        "import os; print(os.sched_getaffinity(0), os.nice(0))",
    )
    assert told.returncode == 2, "a list ends with a number"
    told = command(
        "run", "--cpus", f"{core},{core}", "--nice", "7", "--timeout", "60",
        "-c", "import os\nprint(os.sched_getaffinity(0))\nwhile os.nice(0) != 7: pass",
    )  # fmt: skip
    assert (told.returncode, told.stdout) == (0, f"{{{core}}}\n")


TURNS = "import sys\nfor n in range(500): print(n, file=sys.stderr if n % 2 else sys.stdout)\n"


def test_in_one_pipe_the_order_of_stdout_and_stderr_is_kept(script: Path) -> None:
    script.write_text(TURNS)
    with python(*RUN, script, stderr=subprocess.STDOUT) as process:
        told, _ = process.communicate(timeout=60)
    assert told == "".join(f"{n}\n" for n in range(500))
    assert the_job().result["exit_code"] == 0


def test_on_a_terminal_the_order_of_stdout_and_stderr_is_kept(script: Path) -> None:
    script.write_text(f"{TURNS}print('50%\\r100%', end='')\n")
    screen = on_a_terminal(*RUN, script)
    plain = re.sub(r"\x1b\[2m.*?\x1b\[0m\r\x1b\[2K|\x1b\[2K", "", screen)
    assert "".join(f"{n}\r\n" for n in range(500)) + "50%\r100%\r\n\x1b[2mjob" in plain


def test_in_two_pipes_stdout_and_stderr_stay_apart(script: Path) -> None:
    script.write_text(TURNS)
    with python(*RUN, script) as process:
        out, err = process.communicate(timeout=60)
    assert (out.split()[:3], err.split()[:3]) == (["0", "2", "4"], ["1", "3", "5"])


def test_its_output_comes_while_it_runs(script: Path) -> None:
    script.write_text(
        "import os, time\nprint('first', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    )
    with python(*RUN, "--cwd", script.parent, script) as process:
        assert first_line(process.stdout) == "first\n"
        (script.parent / "go").touch()
        assert process.wait(60) == 0


def test_a_long_output_comes_whole(script: Path) -> None:
    script.write_text("for n in range(50_000): print(f'{n:09d}')\n")
    told = command("run", script)
    assert told.stdout == "".join(f"{n:09d}\n" for n in range(50_000))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_a_script_that_a_signal_ended_gives_128_and_its_number(script: Path) -> None:
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n")
    assert command("run", script).returncode == 128 + signal.SIGKILL


def test_a_script_at_its_time_limit_gives_124_and_keeps_its_output(script: Path) -> None:
    script.write_text("import time\nprint('so far', flush=True)\ntime.sleep(120)\n")
    told = command("run", "--timeout", "2", script)
    assert (told.returncode, told.stdout) == (124, "so far\n")
    assert told.stderr.endswith("[TIMEOUT]")


def test_variables_reach_the_script_and_no_record(script: Path, home: Path) -> None:
    script.write_text("import os; print(os.environ['ONE'] == 'a=secret', os.environ['TWO'] == 'hidden')\n")
    file = script.parent / "variables"
    file.write_text("ONE=overruled\nTWO=hidden\n")
    told = command("run", "--env", "ONE=a=secret", "--env-file", file, "--label", "mine", script)
    assert (told.stdout, told.returncode) == ("True True\n", 0)
    assert the_job().label == "mine"
    texts = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert not any(word in text for text in texts for word in (b"secret", b"hidden"))


@pytest.mark.parametrize(
    ("options", "value", "right"),
    [
        (["nowhere.py"], "'nowhere.py'", "must be a file"),
        (["."], "'.'", "a directory with a __main__.py"),
        (["--cpus", "many", "script.py"], "'many'", "how many cores"),
        (["--nice", "20", "script.py"], "20", "to 19"),
        (["--memory-limit-mb", "-1", "-c", "0"], "-1.0", "positive number of MB"),
        (["--env", "NAME", "script.py"], "'NAME'", "NAME=VALUE"),
        (["--env-file", "no.env", "script.py"], "no.env", "file"),
        (["--cwd", "no-directory", "script.py"], "no-directory", "directory"),
        (["--timeout", "-1", "script.py"], "-1.0", "number of seconds"),
        (["--timeout", "nan", "script.py"], "--timeout is nan", "number of seconds"),
        (["--with", "not a name", "script.py"], "'not a name'", "requirement"),
        (["--with", "", "script.py"], "--with is ''", "give a value"),
        (["--cwd", "", "script.py"], "--cwd is ''", "give a value"),
        (["--label", "\n", "script.py"], "--label is '\\n'", "leave it out"),
        (["--cpus", "9999", "script.py"], "--cpus is 9999", "to be used here"),
        (["--nice", "99", "script.py"], "--nice is 99", "from -20 to 19"),
        (["--python", "new", "script.py"], "--python is 'new'", "such as '3.12'"),
        (["--env", "=secret", "script.py"], "--env is '=…'", "NAME=VALUE"),
        (["--env", "A=\0", "script.py"], "--env['A']", "no variable can"),
        (["-c", "# /// script\n# dependencies = 1\n# ///"], "dependencies = 1", "list texts"),
    ],
)
def test_bad_input_is_one_line_that_names_the_value_and_leaves_no_job(
    script: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], value: str, right: str
) -> None:
    script.touch()
    monkeypatch.chdir(script.parent)
    told = command("run", *options)
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert value in told.stderr
    assert right in told.stderr
    assert "secret" not in told.stderr
    assert not (script.parent / "home").exists()


def test_a_missing_file_of_variables_is_named_once(tmp_path: Path) -> None:
    missing = tmp_path / "no.env"
    told = command("run", "--env-file", missing, "-c", "0")
    assert told.stderr == f"python-mcp-server: --env-file '{missing}' does not exist as a file\n"


def test_a_hint_names_the_option_that_would_help() -> None:
    told = command(
        "run", "--memory-limit-mb", "40", "-c", "import time; x = b' ' * 200_000_000; time.sleep(60)"
    )
    assert told.returncode == 1
    assert "A larger --memory-limit-mb, or none" in told.stderr


def test_packages_and_an_interpreter_as_it_is_exclude_each_other(script: Path) -> None:
    script.touch()
    told = command("run", "--with", "numpy", "--no-uv", script)
    assert told.returncode == 2
    assert "--no-uv and --with exclude each other" in told.stderr


@pytest.mark.parametrize("rules", [None, "damaged"])
def test_a_run_that_waits_says_why(home: Path, rules: str | None) -> None:
    command("queues", "pause", "default")
    if rules is not None:
        (home / "queues.json").write_text(rules)
    with python(*RUN, "-c", "print(1)") as process:
        said = first_line(process.stderr)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert "is pending: " in said
    assert ("its queue 'default' is paused" if rules is None else "does not have the rules") in said


@pytest.mark.parametrize("number", [signal.SIGINT, thorough(signal.SIGTERM)])
def test_a_signal_cancels_the_job_and_leaves_no_process(script: Path, number: signal.Signals) -> None:
    script.write_text(DEAF)
    with python(*RUN, script) as process:
        family = [processes.identify(int(pid)) for pid in first_line(process.stdout).split()]
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert not any(member is None or processes.is_alive(member) for member in family)
    assert the_job().status == "cancelled"
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (("-m", "python_mcp_server", "jobs", "list"), "python_mcp_server.smart_async"),
        ((SCRIPT, "run", "-c", "pass"), "click"),
        (("-m", "python_mcp_server", "serve"), "python_mcp_server.server.serve"),
        thorough((SCRIPT, "bench", "pass"), "python_mcp_server.model"),
        thorough(("-m", "python_mcp_server", "doctor"), "python_mcp_server.cli.checks"),
        thorough(("-m", "python_mcp_server", "demo"), "python_mcp_server.cli.options"),
    ],
)
def test_an_interrupt_while_the_program_starts_ends_it_in_silence(
    tmp_path: Path, words: tuple[Any, ...], module: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(STANDS_STILL.format(module=module))
    with python(*words, env=environment(PYTHONPATH=str(tmp_path))) as process:
        assert first_line(process.stdout) == "imports\n"
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (130, "", "")


def test_the_signals_of_a_program_that_uses_the_library_are_its_own() -> None:
    code = "import signal, python_mcp_server; print(signal.getsignal(2) is signal.default_int_handler)"
    assert run_python("-c", code).stdout == "True\n"


def test_a_second_interrupt_kills_without_grace(script: Path) -> None:
    script.write_text(DEAF)
    with python(*RUN, script, env=environment(PYTHON_MCP_CANCEL_GRACE_SECONDS="100")) as process:
        family = [processes.identify(int(pid)) for pid in first_line(process.stdout).split()]
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)  # a signal that comes at once would be one with the first
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert not any(member is None or processes.is_alive(member) for member in family)
    assert the_job().status == "cancelled"


def test_the_job_ends_when_its_output_has_no_reader(script: Path) -> None:
    script.write_text("while True: print('y' * 1000)\n")
    with python(*RUN, script) as process:
        assert first_line(process.stdout) == "y" * 1000 + "\n"
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, said = process.communicate(timeout=60)
    assert process.returncode not in (0, 2)
    assert the_job().status == "cancelled"
    assert "Traceback" not in said


def test_a_job_cancelled_by_another_process_is_named(script: Path) -> None:
    script.write_text(DEAF)
    with python(*RUN, script) as process:
        first_line(process.stdout)
        JobManager().blocking.cancel(the_job().id)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (
        1,
        f"python-mcp-server: job {the_job().id} was cancelled by somebody else\n",
    )


def test_on_a_terminal_a_line_shows_memory_and_processor(script: Path) -> None:
    script.write_text(
        "import time\nprint('whole line', flush=True)\ntime.sleep(2)\nprint('cut', end='', flush=True)\n"
    )
    screen = on_a_terminal(*RUN, script)
    assert "whole line\r\n" in screen
    assert " MB (peak " in screen
    assert " CPU time" in screen
    assert f"job {the_job().id[:10]}: completed after" in screen.rpartition("cut\r\n")[2]


@pytest.mark.parametrize(
    ("script_code", "options", "code", "ended"),
    [("raise SystemExit(3)", [], 3, "exit code 3"), (DEAF, ["--timeout", 1], 124, "timed out")],
)
def test_the_last_line_on_a_terminal_says_how_the_script_ended(
    script_code: str, options: list[Any], code: int, ended: str
) -> None:
    *_, last = on_a_terminal(*RUN, *options, "-c", script_code, code=code).strip().split("\r\n")
    assert f"job {the_job().id[:10]}: {ended} after" in last


def test_a_refusal_is_one_line_on_a_terminal_too() -> None:
    screen = on_a_terminal(*RUN, "--timeout", "-3", "-c", "1", code=2)
    assert "python-mcp-server: --timeout is -3.0; " in screen
    assert "failed after" not in screen


def test_waiting_on_a_terminal_shows_how_the_job_is(script: Path) -> None:
    script.write_text(DEAF)
    with python(*RUN, script) as process:
        first_line(process.stdout)
        job_id = the_job().id
        screen = on_a_terminal(*RUN[:-1], "jobs", "wait", job_id, "--timeout", "0", code=124)
        JobManager().blocking.cancel(job_id)
        process.communicate(timeout=60)
    line, _, rest = screen.partition("\r\x1b[2K")
    assert "running · " in line
    assert rest == f"{job_id} still running\r\n"


GENTLE = """\
import time
try:
    print("up", flush=True)
    time.sleep(120)
except KeyboardInterrupt:
    print("cleaned up", end="")
"""


def test_ctrl_c_lets_the_script_clean_up_and_says_how_to_kill(script: Path) -> None:
    script.write_text(GENTLE)
    screen, code = interrupted(script, after=["up\r\n"], grace_s="100")
    said = f"Cancelling job {the_job().id[:10]}; press Ctrl-C again to kill it"
    assert (code, the_job().status) == (130, "cancelled")
    assert "cancelled after" in screen.partition(said)[2].partition("cleaned up\r\n")[2]


def test_a_second_ctrl_c_kills_a_script_that_hears_nothing(script: Path) -> None:
    script.write_text(DEAF)
    screen, code = interrupted(script, after=["\r\n", "Ctrl-C again"], grace_s="1000")
    assert (code, the_job().status) == (130, "cancelled")
    pids = [int(word) for word in screen.split("\r\n")[0].rpartition("K")[2].split()]
    assert len(pids) == 2
    assert not any(processes.identify(pid) for pid in pids)


CONTROLLED = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


def interrupted(script: Path, after: list[str], grace_s: str) -> tuple[str, int]:
    """Run a script on a terminal of its own, and press Ctrl-C there after each of these words."""
    above, terminal = pty.openpty()
    env = environment(TERM="xterm", COLUMNS="150", NO_COLOR="1", PYTHON_MCP_CANCEL_GRACE_SECONDS=grace_s)
    ends = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with python("-c", CONTROLLED, *RUN, script, env=env, start_new_session=True, **ends) as process:
        os.close(terminal)
        screen, waited = b"", iter(after)
        word = next(waited)
        with suppress(OSError):  # as above
            while piece := os.read(above, 65536):
                screen += piece
                if word and word.encode() in screen:
                    os.write(above, b"\x03")
                    word = next(waited, "")
        code = process.wait(60)
    os.close(above)
    return screen.decode(), code


def on_a_terminal(*words: Any, code: int = 0) -> str:
    """Return what a program writes to a terminal, all of it."""
    above, terminal = pty.openpty()
    env = environment(TERM="xterm", COLUMNS="150", NO_COLOR="1")
    with python(*words, env=env, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        pieces: list[bytes] = []
        with suppress(OSError):  # EIO: the last one who had the terminal open is gone
            while piece := os.read(above, 65536):
                pieces.append(piece)
        assert process.wait(60) == code
    os.close(above)
    return b"".join(pieces).decode()


@pytest.mark.parametrize("words", [("run", "-c", "print('it runs')"), ("doctor",)])
def test_files_named_like_modules_in_the_directory_change_nothing(tmp_path: Path, words: tuple[str, ...]):
    for name in ("importlib", "runpy", "selectors", "socket", "loky", "psutil", "mcp"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the user')\n", "utf-8")
    ran = subprocess.run(
        [SCRIPT, *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "a file of the user" not in ran.stdout + ran.stderr
