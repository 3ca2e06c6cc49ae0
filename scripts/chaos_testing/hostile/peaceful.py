"""The first principal: it works while the others attack, and is to notice nothing."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any, Final

from chaos_testing.hostile.findings import LONGEST_S, Findings
from chaos_testing.hostile.http_server import Answer, HttpServer

_PAUSE_S: Final = 0.2
_LONG: Final = (
    "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.1)\nprint({secret!r})"
)


class Peaceful:
    """A client with a job that ended, a job that runs all the time, and a saved script.

    Args:
        server: Its own.
        folder: Where its scripts run.
        findings: What it sees goes there.
    """

    def __init__(self, server: HttpServer, folder: Path, findings: Findings) -> None:
        self._server, self._folder, self._findings = server, folder, findings
        self._name = f"saved_{uuid.uuid4().hex}"  # saved scripts belong to all
        self.ended = ""
        self.running = ""
        self._record: Any = None

    async def prepare(self) -> None:
        """Make what the attacks are not to touch."""
        self.ended = await self._submit(f"print({self._findings.secret!r})")
        await self._call("py_wait_job", job_id=self.ended, timeout_seconds=60)
        self._record = (await self._call("py_job_status", job_id=self.ended)).data
        self.running = await self._submit(_LONG.format(secret=self._findings.secret))
        await self._call("py_save_script", script_name=self._name, source="print('saved')\n")

    async def run(self, finished: asyncio.Event) -> None:
        """Work until the attacks are over."""
        while not finished.is_set():
            await self.work()
            await asyncio.sleep(_PAUSE_S)

    async def work(self) -> None:
        """Do once what this client does all the time, and check each answer."""
        said = (await self._call("py_run_script_in_dir", **self._script("print('hello')"))).data
        self._expect("a script", said.get("stdout") == "hello\n", said)
        job = (await self._call("py_job_status", job_id=self.running)).data.get("job", {})
        self._expect("its running job", job.get("status") == "running", job)
        jobs = (await self._call("py_list_jobs", limit=1000)).data.get("jobs", [])
        self._expect("its list", {self.ended, self.running} <= {job["id"] for job in jobs}, len(jobs))
        scripts = (await self._call("py_list_scripts")).text
        self._expect("the saved scripts", self._name in scripts, scripts[:300])

    async def finish(self) -> None:
        """End its job, and look whether all is as it was."""
        (self._folder / "go").touch()
        job = (await self._call("py_wait_job", job_id=self.running, timeout_seconds=60)).data.get("job", {})
        result = job.get("result") or {}
        self._expect("its long job's end", result.get("stdout") == f"{self._findings.secret}\n", job)
        record = (await self._call("py_job_status", job_id=self.ended)).data
        self._expect("its ended job", record == self._record, record)

    def _script(self, code: str) -> dict[str, Any]:
        return {"directory": str(self._folder), "script_content": code, "use_uv": False}

    async def _submit(self, code: str) -> str:
        label = f"peaceful {self._findings.secret}"
        said = await self._call(
            "py_run_script_in_dir",
            **self._script(code),
            async_mode=True,
            job_label=label,
            timeout_seconds=3600,
        )
        return str(said.data.get("job_id", ""))

    async def _call(self, tool: str, **arguments: Any) -> Answer:
        answer = await self._server.call(tool, arguments)
        self._findings.answered("peaceful", tool, answer)
        self._expect(f"{tool} in time", answer.seconds < LONGEST_S, f"{answer.seconds:.1f} s")
        return answer

    def _expect(self, what: str, holds: bool, seen: object) -> None:
        if not holds:
            self._findings.breach(f"peaceful: {what} is not as it should be", json.dumps(seen)[:400])
