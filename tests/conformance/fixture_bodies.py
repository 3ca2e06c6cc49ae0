"""The bodies of the fixture's tools that need no SDK: a worker that loads it is slow to start.

What they answer, and when, is what the conformance suite asks for.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from python_mcp_server import report_progress, request_input

CONFIRM = {"type": "object", "properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]}
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def greet(name: str) -> str:
    """Greet somebody, at once."""
    return f"Hello, {name}!"


def slow_compute(seconds: float, label: str = "") -> str:
    """Sleep for some seconds, then answer."""
    time.sleep(seconds)
    return f"{label}: slept for {seconds:g} s"


def failing_job() -> str:
    """Fail after a second."""
    time.sleep(1)
    raise RuntimeError("this job always fails")


def protocol_error_job() -> str:
    """End with an error of the protocol after a second."""
    from mcp.shared.exceptions import MCPError

    time.sleep(1)
    raise MCPError(-32603, "this job ends with an error of the protocol")


def confirm_delete(filename: str) -> str:
    """Delete nothing, and that only when the user agrees."""
    sure = request_input(f"Delete {filename}?", CONFIRM)
    if not (sure.accepted and sure.content["confirm"]):
        return f"{filename} is still there"
    return f"{filename} would be gone"


def multi_input() -> str:
    """Ask for two names at once."""
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(request_input, f"The {each} name?", NAME) for each in ("first", "second")]
        names = [(each.result().content or {}).get("name", "nobody") for each in asked]
    return f"Hello, {' and '.join(names)}!"


def test_simple_text() -> str:
    """Answer with a text."""
    return "This is a simple text response for testing."


def test_error_handling() -> str:
    """Fail."""
    raise RuntimeError("This tool intentionally returns an error for testing")


def test_tool_with_progress() -> str:
    """Report progress three times."""
    for done in (0, 50, 100):
        report_progress(done, 100)
        time.sleep(0.15)
    return "done"


def test_missing_capability() -> str:
    """Need what the client did not declare."""
    from mcp.shared.exceptions import MCPError

    needed = {"requiredCapabilities": {"sampling": {}}}
    raise MCPError(-32021, "the client must declare sampling", needed)


def test_streaming_elicitation() -> str:
    """Answer after some progress."""
    report_progress(1, 1)
    return "streamed"
