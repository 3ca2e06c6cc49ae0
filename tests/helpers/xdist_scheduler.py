"""How pytest-xdist distributes the tests: those that share a server go to one process, which starts it once.

xdist's own `xdist_group` mark does nothing under pytest 9.2, which no longer lets it rename tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from xdist.scheduler.loadscope import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

TOGETHER: Final = {
    "tests/acceptance/test_benchmark.py": "our servers",
    "tests/acceptance/test_hints.py": "our servers",
    "tests/acceptance/test_http.py": "our servers",
    "tests/acceptance/test_map_script.py": "our servers",
    "tests/acceptance/test_our_server.py": "our servers",
    "tests/acceptance/test_output_and_pictures.py": "our servers",
    "tests/acceptance/test_resources.py": "our servers",
    "tests/acceptance/test_run_tests.py": "our servers",
    "tests/acceptance/test_stdio_transport.py": "the echo server",
    "tests/acceptance/test_tasks.py": "our servers",
    "tests/acceptance/test_tool_authors.py": "the authors' servers",
    "tests/integration/jobs/test_handoff.py": "a warm manager",
    "tests/integration/pool/test_pool.py": "a warm manager",
    "tests/integration/pool/worker/test_main.py": "a warm manager",
    "tests/integration/questions/test_questions.py": "a warm manager",
    **dict.fromkeys(
        (
            "tests/integration/store/test_machine.py",
            "tests/unit/jobs/test_output.py",
            "tests/unit/jobs/test_takeover.py",
            "tests/unit/pool/test_transport.py",
            "tests/unit/runner/test_line_reader.py",
            "tests/unit/runner/test_output.py",
            "tests/unit/runner/test_screen.py",
            "tests/unit/runner/test_search.py",
            "tests/unit/store/test_contract.py",
            "tests/unit/store/test_machine.py",
            "tests/unit/test_jsonable.py",
            "tests/unit/test_model.py",
        ),
        "hypothesis, which reads all our sources for constants once in each process, for 2 s of CPU",
    ),
}
"""The resource that the tests of a file share. A file that is missing here only costs another start."""


class SharingScheduler(LoadScopeScheduling):
    """Gives a process all tests that share a resource, or all unit tests of a file, or one test."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return TOGETHER.get(file) or (file if file.startswith("tests/unit/") else nodeid)

    def remove_node(self, node: WorkerController) -> str | None:
        """Report the test that ended its process as crashed, and do not run it again."""
        units = self.assigned_work[node].values()
        crashed = next((test for unit in units for test, done in unit.items() if not done), None)
        for unit in units:
            if crashed in unit:
                unit[crashed] = True
        super().remove_node(node)
        return crashed
