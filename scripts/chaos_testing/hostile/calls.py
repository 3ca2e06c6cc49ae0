"""The second principal: it calls every tool with arguments that no tool may be stopped by."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any, Final

from chaos_testing.hostile.findings import LONGEST_S, Findings
from chaos_testing.hostile.http_server import HttpServer
from chaos_testing.hostile.odd_files import lay_in

_DEPTH: Final = 20_000
_SCRIPT: Final[dict[str, Any]] = {"script_content": "print('hostile')", "timeout_seconds": 3}
_TEXTS: Final = (
    "", " ", "\0", "\ud800", "\u202egnp.exe", "\u2028", "\x1b[2J", "..", "../../../etc/passwd", "-r /etc",
    "/dev/zero", "/proc/kmsg", "~root", "a" * 300_000, "(a+)+$", "(a|aa)*" * 50 + "b", "[" * 5000, "{" * 5000,
    "-" * 6000, "(" * 3000, "# /// script\n" + "#\n" * 120_000, "os", "CON", "e\u0301" * 200, "$(id)", "`id`",
    "import os; os._exit(9)", "while True: pass", "print('x' * 10**7)", "raise SystemExit('out')",
)  # fmt: skip
_VALUES: Final[tuple[Any, ...]] = (
    None, True, -1, 0, 2**63, 10**400, 1e308, 0.1, [], {}, [[]], [None], ["a"] * 5000, {"a": {"b": "c"}},
    {"PATH": "", "LD_PRELOAD": "/dev/zero", "A=B": "c", "": "", "\0": "\0"}, {"secret": 5},
)  # fmt: skip
_RAW: Final = (
    b"[" * _DEPTH + b"]" * _DEPTH, b'{"a":' * _DEPTH + b"1" + b"}" * _DEPTH, b"NaN", b"1e999", b"-0",
    b"1" * 5000, b'"\\ud800"', b"'", b"\xff\xfe", b'{"a":1,"a":2}', b"",
)  # fmt: skip


class HostileClient:
    """A client of a server of its own, on the same home.

    Args:
        server: Its own.
        folder: Where its scripts run, beside odd files.
        targets: The ids of another's jobs.
        findings: What it sees goes there.
        rng: Its random choices.
    """

    def __init__(
        self,
        server: HttpServer,
        folder: Path,
        targets: list[str],
        findings: Findings,
        rng: random.Random,
    ) -> None:
        self._server, self._targets, self._findings, self._rng = server, targets, findings, rng
        self._folder = str(folder)
        self._paths = [str(path) for suffix in (".py", ".env", ".json") for path in lay_in(folder, suffix)]
        self._tools: dict[str, list[str]] = {}

    async def run(self, finished: asyncio.Event) -> None:
        """Call until the attacks are over."""
        tools = (await self._server.ask("tools/list")).message["result"]["tools"]
        self._tools = {tool["name"]: list(tool["inputSchema"]["properties"]) for tool in tools}
        attacks = (self._odd_arguments, self._odd_arguments, self._others_job, self._odd_request)
        while not finished.is_set():
            await self._rng.choice(attacks)()

    async def _odd_arguments(self) -> None:
        tool = self._rng.choice(list(self._tools))
        arguments = {name: value for name, value in self._base(tool).items() if name in self._tools[tool]}
        odd = self._rng.choices(self._tools[tool], k=self._rng.choice([1, 1, 2]))
        if self._rng.random() < 0.1:  # noqa: PLR2004  one in ten is no JSON that a library would write
            given = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in arguments.items())
            raw = self._rng.choice(_RAW)
            await self._call(tool, b"{%s%s%s: %s}" % (
                given.encode(), b", " if given else b"", json.dumps(odd[0]).encode(), raw,
            ), odd[0])  # fmt: skip
            return
        arguments |= {name: self._odd_value(name) for name in odd}
        await self._call(tool, arguments, "+".join(odd))

    def _odd_value(self, name: str) -> Any:
        if name.endswith(("path", "file", "directory", "name")) and self._rng.random() < 0.7:  # noqa: PLR2004
            return self._rng.choice(self._paths)
        return self._rng.choice([*_TEXTS, *_VALUES, *self._paths, *([text] for text in _TEXTS)])

    def _base(self, tool: str) -> dict[str, Any]:
        """Return arguments that a tool accepts, so that one odd value comes far."""
        script = {**_SCRIPT, "use_uv": False, "directory": self._folder, "args_list": [["a"]], "max_runs": 1}
        if tool == "py_run_tests":
            return {"directory": self._folder, "use_uv": False, "timeout_seconds": 3, "workers": 0}
        if "script_name" in self._tools[tool]:
            name = f"hostile_{self._rng.randrange(20)}"
            return {"script_name": name, "source": "print(1)", "timeout_seconds": 3, "overwrite": True}
        if "script_content" in self._tools[tool]:
            return script
        return {"job_id": self._rng.choice(self._targets), "timeout_seconds": 0.1}

    async def _others_job(self) -> None:
        """Ask for, and act on, a job that does not exist for this client."""
        tools = ("py_job_status", "py_wait_job", "py_job_output", "py_cancel_job", "py_prune_jobs")
        tool = self._rng.choice(tools)
        arguments: dict[str, Any] = {"job_id": self._rng.choice(self._targets)}
        if tool == "py_prune_jobs":
            arguments = {"keep_completed": False, "keep_failed": False, "max_age_hours": 0}
        await self._call(tool, arguments, "a job of another")

    async def _odd_request(self) -> None:
        """Send what is no call of a tool."""
        job_id = self._rng.choice(self._targets)
        method, parameters = self._rng.choice(
            [
                ("tasks/get", {"taskId": job_id}), ("tasks/cancel", {"taskId": job_id}),
                ("tasks/update", {"taskId": job_id, "inputResponses": {"a": {"action": "accept"}}}),
                ("resources/read", {"uri": f"job://{job_id}"}), ("resources/list", {"cursor": "\0"}),
                ("subscriptions/listen", {"taskIds": "a"}), ("a" * 10_000, {}), ("tools/call", {}),
                ("tools/call", {"name": "\0", "arguments": []}),
            ]
        )  # fmt: skip
        answer = await self._server.ask(method, **parameters)
        self._findings.answered("hostile", f"{method:.30}", answer)

    async def _call(self, tool: str, arguments: dict[str, Any] | bytes, what: str) -> None:
        answer = await self._server.call(tool, arguments)
        self._findings.answered("hostile", f"{tool} {what}", answer)
        if answer.seconds > LONGEST_S:
            self._findings.breach(
                f"hostile: {tool} {what} took {answer.seconds:.0f} s: {str(arguments)[:300]}"
            )
