"""Jobs as tools and resources show them: bounded, so that a client can put an answer before its model.

All of it may take long, because a result holds up to 500 kB, so callers run it in a thread.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, cast

from mcp_types import CallToolResult
from pydantic_core import to_json

from python_mcp_server.jobs.request import listing
from python_mcp_server.server.sdk.replies import text_block
from python_mcp_server.server.text import repair_unicode
from python_mcp_server.store.contract import IN_PAGES, SHOWN_RESULT_BYTES

if TYPE_CHECKING:
    from python_mcp_server.model import Job

_LISTED_CHARS: Final = 50_000
"""Of the results in a list, together. Guessed: a client that takes 100,000 characters takes 50 jobs, too."""
_LIST_CHARS: Final = 400_000
"""Of a list as a whole; the answer has it twice, once as indented text."""
_CUT_CHARS: Final = 2_000
"""Of a text in a list: an error, or what a job says of itself."""


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


def list_of(jobs: list[Job], more: bool) -> dict[str, Any]:
    """Return the answer of py_list_jobs; what would make it too large is left out, with the oldest jobs."""
    told = listing(jobs, more)
    _leave_out_long_results(told["jobs"])
    told["jobs"] = repair_unicode([_cut_texts(job) for job in told["jobs"]])
    sizes = accumulate(len(to_json(job)) for job in told["jobs"])
    fitting = sum(size <= _LIST_CHARS for size in sizes)
    if fitting < len(jobs):
        told = {"jobs": told["jobs"][:fitting], "total": fitting, "more": True}
    return told


def _cut_texts(value: Any) -> Any:
    """Return plain data with its long texts cut; the job itself has them whole."""
    if isinstance(value, str) and len(value) > _CUT_CHARS:
        return f"{value[: _CUT_CHARS - 1]}…"
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: item if key == "result" else _cut_texts(item) for key, item in items}
    return [_cut_texts(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def _leave_out_long_results(jobs: list[dict[str, Any]]) -> None:
    """Keep the results of a list small enough together for clients to take; each alone is 64 KiB at most."""
    left = _LISTED_CHARS
    for job in jobs:
        chars = len(to_json(repair_unicode(job["result"])))
        if chars > left:
            job |= {"result": None, "result_note": f"result of {chars} characters; ask for the job itself"}
        else:
            left -= chars
