"""What the server is made of is told apart from what it is called."""

from __future__ import annotations

from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.server.app import create_server


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


def test_a_name_is_given_as_a_keyword():
    assert create_server(name="my server").name == "my server"
