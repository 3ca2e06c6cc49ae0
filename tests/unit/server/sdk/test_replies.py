"""Which pictures are read for an answer, and which are not."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp_types import CallToolResult

from python_mcp_server.server.sdk import replies
from python_mcp_server.server.sdk.replies import add_pictures, with_pictures
from tests.helpers.fake_matplotlib import PNG, PNG_END

TOOL = "py_run_script_in_dir"
WHOLE = PNG + b"a" + PNG_END


async def aside(turn: str, work: Callable[[], Any]) -> Any:
    assert turn.startswith("pictures in /")
    return work()


def listed(path: Path, **more: Any) -> dict[str, Any]:
    size = path.stat().st_size if path.is_file() else 0
    return {"path": str(path), "mime_type": "image/png", "size_bytes": size, "attached": True} | more


def sent(*found: dict[str, Any], tool: str = TOOL) -> list[bytes]:
    structured = {"pictures": list(found)}
    result = CallToolResult(content=[], structured_content=structured)
    asyncio.run(with_pictures(result, tool, aside))
    assert result.structured_content == (None if result.content else structured)
    return [base64.b64decode(each.data) for each in result.content]  # type: ignore[union-attr]


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(WHOLE)
    return path


def test_only_marked_pictures_are_read_for_tools_that_make_them(png: Path) -> None:
    assert sent(listed(png), listed(png, attached=False)) == [WHOLE]
    assert sent(listed(png), tool="somebody_elses") == []


def test_a_smaller_copy_is_sent_in_the_place_of_its_figure(png: Path, tmp_path: Path) -> None:
    assert sent(listed(tmp_path / "huge.png", preview=str(png))) == [WHOLE]


def test_what_is_gone_has_changed_or_is_no_picture_is_left_out(png: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("secret")
    half = tmp_path / "half.png"
    half.write_bytes(PNG + b"a")
    os.mkfifo(tmp_path / "pipe.png")
    found = [
        listed(tmp_path / "gone.png"),
        listed(png, size_bytes=3),
        listed(text),
        listed(half),
        listed(tmp_path / "pipe.png"),
    ]
    assert sent(*found) == []


def test_an_answer_carries_no_more_than_a_client_can_take(png: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "_MOST_BYTES", 2 * len(WHOLE))
    assert len(sent(*[listed(png)] * 3)) == 2
    monkeypatch.setattr(replies, "_MOST", 1)
    assert len(sent(*[listed(png)] * 3)) == 1


@pytest.mark.parametrize("tool", ["py_wait_job", "py_job_status"])
def test_a_look_at_a_job_that_has_ended_brings_its_pictures(tool: str, png: Path) -> None:
    for result, count in (({"pictures": [listed(png)]}, 1), (None, 0), ("text", 0)):
        answer = {"job": {"tool": TOOL, "result": result}}
        made = CallToolResult(content=[], structured_content=answer)
        asyncio.run(with_pictures(made, tool, aside))
        assert len(made.content) == count
        assert (made.structured_content is None) == bool(count)


def test_a_tasks_result_has_them_in_its_wire_form(png: Path) -> None:
    wire: dict[str, Any] = {"content": [], "structuredContent": {"pictures": [listed(png)]}}
    asyncio.run(add_pictures(wire, TOOL, aside))
    image = {"type": "image", "data": base64.b64encode(WHOLE).decode(), "mimeType": "image/png"}
    assert wire == {"content": [image]}
    asyncio.run(add_pictures(None, TOOL, aside))
    without = {"content": [], "structuredContent": {"pictures": []}}
    asyncio.run(add_pictures(wire := dict(without), TOOL, aside))
    assert wire == without
