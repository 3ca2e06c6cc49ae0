"""Values as plain JSON: what has no form in it keeps a text."""

from __future__ import annotations

from python_mcp_server.jsonable import jsonable


def test_an_integer_of_more_digits_than_python_writes_keeps_a_text_of_itself():
    value = 10**5000
    text, note = jsonable(value)
    assert text == hex(value)
    assert note is not None
