"""The bodies of the fixture's tools that need no SDK: a worker that loads it is slow to start.

What they answer, and when, is what the conformance suite asks for.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from python_mcp_server import report_progress, request_input

CONFIRM = {"type": "object", "properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]}
WORD = {"type": "string"}
NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


USER = {
    "type": "object",
    "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    },
    "required": ["username", "email"],
}
DEFAULTS = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
    "required": [],
}
_OPTIONS = ["option1", "option2", "option3"]
ENUMS = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": _OPTIONS},
        "titledSingle": {
            "type": "string",
            "oneOf": [
                {"const": f"value{n}", "title": f"{word} Option"}
                for n, word in enumerate(("First", "Second", "Third"), 1)
            ],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _OPTIONS}},
        "titledMulti": {
            "type": "array",
            "items": {
                "anyOf": [
                    {"const": f"value{n}", "title": f"{word} Choice"}
                    for n, word in enumerate(("First", "Second", "Third"), 1)
                ]
            },
        },
    },
    "required": [],
}


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


def test_reconnection() -> str:
    """Answer, however often the client has to connect."""
    return "Reconnection test completed successfully."


def test_elicitation(message: str) -> str:
    """Ask the user for a name and an address."""
    said = request_input(message, USER)
    return f"User response: {said.action}, {json.dumps(said.content)}"


def test_elicitation_sep1034_defaults() -> str:
    """Ask with defaults of every kind."""
    return _completed(DEFAULTS)


def test_elicitation_sep1330_enums() -> str:
    """Ask for choices of every kind."""
    return _completed(ENUMS)


def _completed(schema: dict[str, object]) -> str:
    said = request_input("Please fill this in", schema)
    return f"Elicitation completed: action={said.action}, content={json.dumps(said.content)}"


def test_input_required_result_elicitation() -> str:
    """Ask for the user's name."""
    said = request_input("What is your name?", NAME, key="user_name")
    return f"Hello, {(said.content or {}).get('name', 'nobody')}!"


def test_input_required_result_request_state() -> str:
    """Ask for a confirmation, over a round whose state is the job."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    request_input("Please confirm", schema, key="confirm")
    return "state-ok"


def test_input_required_result_tampered_state() -> str:
    """Ask for a confirmation, whose round must come back as it went."""
    return test_input_required_result_request_state()


def test_input_required_result_multi_round() -> str:
    """Ask twice, the second time after the first answer."""
    color = {"type": "object", "properties": {"color": WORD}, "required": ["color"]}
    name = request_input("Step 1: What is your name?", NAME, key="step1")
    liked = request_input("Step 2: What is your favorite color?", color, key="step2")
    return f"{(name.content or {}).get('name')} likes {(liked.content or {}).get('color')}"
