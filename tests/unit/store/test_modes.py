"""What is made in the home is this account's alone, whatever the umask, and a home of all is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from python_mcp_server.errors import StoreError
from python_mcp_server.store.files import FileJobStore
from tests.helpers import environment, run_python

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")

PROGRAM = """
import os, sys
os.umask(0)
from python_mcp_server import smart_async, report_progress, current_job
import asyncio
@smart_async(default_timeout=30)
def body():
    current_job().folder.joinpath("made").touch()
    print("hello")
    report_progress(1, 1, "done")
    return 1
if __name__ == "__main__":
    from python_mcp_server.server.serve import configure_logging
    from python_mcp_server.settings import Settings
    configure_logging(Settings.from_environ())
    from python_mcp_server.functions import get_job_status
    from python_mcp_server.jobs.manager import JobManager
    assert asyncio.run(body()) == 1
"""


def test_all_that_is_made_in_a_home_is_private_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    home = tmp_path / "above" / "home"
    env = environment(PYTHON_MCP_HOME=str(home), PYTHON_MCP_RECORD_AFTER_SECONDS="0")
    done = run_python(tmp_path / "program.py", env=env)
    assert done.returncode == 0, done.stderr
    found = [home.parent, home, *home.rglob("*")]
    assert (home / "logs").is_dir()
    assert list(home.glob("output/*/*/made"))
    open_to_others = [
        str(path) for path in found if path.is_dir() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert open_to_others == []


def test_a_home_that_others_may_write_is_mended_where_it_is_ours(tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    home.chmod(0o777)
    FileJobStore(home).close()
    assert stat.S_IMODE(home.stat().st_mode) & 0o022 == 0


def test_a_home_that_belongs_to_all_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    home.chmod(0o1777)
    with pytest.raises(StoreError, match=r"Other accounts may write into .*; set PYTHON_MCP_HOME"):
        FileJobStore(home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o1777
    assert not list(home.iterdir())
