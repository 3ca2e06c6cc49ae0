"""The small files of a home: what a killed writer leaves of one is removed when the home is opened again."""

from __future__ import annotations

from pathlib import Path

import pytest

from python_mcp_server.settings import Settings
from python_mcp_server.store.opening import open_store
from tests.helpers.programs import run_python
from tests.helpers.stores import url_in

KILLED = """
import os, signal, sys
from python_mcp_server import FunctionJob
from python_mcp_server.jobs.home_files import HomeFiles
from python_mcp_server.jobs.queues import Queues
from python_mcp_server.jobs.schedules import BlockingSchedules
from python_mcp_server.settings import Settings
from python_mcp_server.store.opening import open_store
from python_mcp_server.store.principals import PrincipalNames
from tests.helpers import bodies

store = open_store(Settings.from_environ(store=sys.argv[1]))
writes = {
    "entry": lambda: HomeFiles(store, "same").write("ab", "abcd", data=b"x"),
    "rules": lambda: Queues(store).limit("images", 2),
    "schedule": lambda: BlockingSchedules(store).add(bodies.pid, every=3600),
    "key": lambda: PrincipalNames(str(store.home)).digest("x"),
}

def kill(event, args):
    if event in ("os.rename", "os.link") and str(args[0]).endswith(".tmp"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
writes[sys.argv[2]]()
"""


@pytest.mark.parametrize("kind", ["file", "sqlite"])
@pytest.mark.parametrize("what", ["entry", "rules", "schedule", "key"])
def test_a_file_that_was_not_finished_is_removed(what: str, kind: str, home: Path):
    home.mkdir()
    killed = run_python("-c", KILLED, url_in(home, kind), what)
    left = [path for path in home.rglob("*.tmp") if path.is_file()]
    assert (killed.stderr, len(left)) == ("", 1)
    open_store(Settings.from_environ(store=url_in(home, kind))).close()
    assert [path for path in left if path.exists()] == []
