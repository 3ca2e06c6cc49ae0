"""Jobs as tools and resources show them: bounded, so that a client can put an answer before its model.

All of it may take long, because a result holds up to 500 kB, so callers run it in a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from mcp_types import CallToolResult
from pydantic_core import to_json

from python_mcp_server.jobs.rows import listing, row
from python_mcp_server.model import cut
from python_mcp_server.server.sdk.replies import text_block
from python_mcp_server.server.text import repair_unicode
from python_mcp_server.store.contract import IN_PAGES, SHOWN_RESULT_BYTES

if TYPE_CHECKING:
    from python_mcp_server.model import Job

_CUT_CHARS: Final = 2_000
"""Of a text of a job that would be too large: an error, or what the job says of itself."""


def view_of(job: Job) -> dict[str, Any]:
    """Return a job without a result, or other texts, of more than 500 kB."""
    if job.result is not None and (size := len(to_json(repair_unicode(job.result)))) > SHOWN_RESULT_BYTES:
        job = job.without_result(size, IN_PAGES)
    shown = repair_unicode(job.to_json())
    rest = {key: value for key, value in shown.items() if key != "result"}
    return shown if len(to_json(rest)) <= SHOWN_RESULT_BYTES else _cut_texts(shown)


def text_of(view: dict[str, Any]) -> str:
    """Return the indented JSON of a view; null stands for inf and nan."""
    return to_json(view, indent=2, inf_nan_mode="null").decode()


def answer_of(view: dict[str, Any]) -> CallToolResult:
    """Return a tool's answer with a view, as the SDK makes it."""
    return CallToolResult(content=[text_block(text_of(view))], structured_content=view)


def list_answer(jobs: list[Job], more: bool) -> CallToolResult:
    """Return the answer of py_list_jobs: JSON with a row in each line."""
    told = repair_unicode(listing(jobs, more, row))
    lines = ",\n".join(to_json(each).decode() for each in told["jobs"])
    rest = to_json({key: value for key, value in told.items() if key != "jobs"}).decode()
    text = f'{{"jobs": [\n{lines}\n],\n{rest[1:]}'
    return CallToolResult(content=[text_block(text)], structured_content=told)


def _cut_texts(value: Any) -> Any:
    """Return plain data with its long texts cut; the job itself has them whole."""
    if isinstance(value, str):
        return cut(value, _CUT_CHARS)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: item if key == "result" else _cut_texts(item) for key, item in items}
    return [_cut_texts(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value
