"""What a worker's body asks goes up only from the body's own process."""

from __future__ import annotations

import os

import pytest

from python_mcp_server.errors import InvalidInput
from python_mcp_server.pool.worker.questions import BodyQuestions


def test_a_forked_child_that_asks_first_is_refused(
    monkeypatch: pytest.MonkeyPatch,
):
    sent: list[bytes] = []
    questions = BodyQuestions(sent.append, lambda: False, lambda: False)
    inquiries_of_body = questions.open("j-1")
    with monkeypatch.context() as in_child:
        in_child.setattr(os, "getpid", lambda: 1)
        with pytest.raises(InvalidInput, match="forked cannot ask; ask in the body's own process"):
            inquiries_of_body()
    inquiries_of_body().ask("Sure?", {}, None, None)
    assert len(sent) == 1
