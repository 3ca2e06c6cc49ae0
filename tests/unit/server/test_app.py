"""What the server is made of is told apart from what it is called."""

from __future__ import annotations

import re
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.server.app import create_server
from python_mcp_server.settings import Settings
from tests.helpers import run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"manager": "my server"}, "manager is 'my server'"),
        ({"settings": {"home": "/"}}, "settings is {'home'"),
    ],
)
def test_what_is_no_manager_or_no_settings_is_refused_by_value(arguments: dict[str, Any], words: str):
    with pytest.raises(InvalidInput, match=words):
        create_server(**arguments)


def test_a_group_of_tools_that_is_not_there_is_refused_by_name():
    with pytest.raises(InvalidInput) as caught:
        create_server(settings=Settings.from_environ({"PYTHON_MCP_TOOLS": "scripts, test"}))
    assert str(caught.value) == (
        "PYTHON_MCP_TOOLS has 'test'; "
        "the groups of tools are scripts, batch, tests, benchmark, saved, commands, jobs, schedules, "
        "dead_letters, stats, quotas"
    )


@pytest.mark.parametrize(("named", "there"), [("jobs", []), ("saved, batch,", ["py_map_script", "py_save_"])])
def test_instructions_name_only_tools_that_are_there(named: str, there: list[str]):
    server = create_server(settings=Settings.from_environ({"PYTHON_MCP_TOOLS": named}))
    tools = {tool.name for tool in run(server.list_tools())}
    assert server.instructions is not None
    assert set(re.findall(r"py_\w+", server.instructions)) <= tools
    assert all(name in server.instructions for name in there)


def test_a_name_is_given_as_a_keyword():
    assert create_server(name="my server").name == "my server"
