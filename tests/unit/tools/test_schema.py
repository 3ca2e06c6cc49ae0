"""The surface of the script tools: names, defaults and results as the product promises them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter

from python_mcp_server.tools.batch.tool import map_script
from python_mcp_server.tools.benchmark.tool import benchmark_script
from python_mcp_server.tools.saved import list_scripts, run_saved_script, save_script
from python_mcp_server.tools.scripts import run_script_in_dir, run_script_with_dependencies
from python_mcp_server.tools.suite.tool import run_tests

NONE = inspect.Parameter.empty
RUN = {
    "timeout_seconds": 300, "env_vars": None, "env_file": None, "memory_limit_mb": None,
    "cpu_time_limit_seconds": None, "disk_limit_mb": None, "nice": None, "cpus": None,
}  # fmt: skip
SHOWN = {"output_chars": None}
WITH = {
    "script_content": None,
    "script_path": None,
    "python_version": None,
    "dependencies": None,
    "args": None,
} | RUN
OUTPUT = {"stdout", "stderr", "exit_code", "execution_strategy", "elapsed_seconds"}
RESOLVED = OUTPUT | {"resolved_dependencies", "python_version_used"}
MEASURED = {"wall_time_seconds", "cpu_time_seconds", "peak_rss_mb", "summary", "runs", "wall", "noise"}
TURNS = {"warmup": None, "min_runs": 10, "max_runs": 100, "max_seconds": 10, "compare_with": None}
COUNTED = {
    "outcome", "summary", "collected", "passed", "failed", "errors", "skipped", "xfailed", "xpassed",
    "deselected", "warnings", "collection_errors", "failures", "slowest", "workers",
}  # fmt: skip
SURFACE: list[tuple[Callable[..., Any], dict[str, Any], set[str]]] = [
    (
        run_script_in_dir,
        {"directory": NONE, "script_path": None, "script_content": None, "args": None, "use_uv": True,
         "python_version": None} | RUN | SHOWN,
        OUTPUT,
    ),
    (run_script_with_dependencies, WITH | SHOWN, RESOLVED),
    (benchmark_script, WITH | SHOWN | {"sample_interval": 0.05} | TURNS, RESOLVED | MEASURED),
    (
        save_script,
        {"script_name": NONE, "source": NONE, "dependencies": None, "requires_python": None,
         "overwrite": False, "directory": None},
        {"written", "path", "message"},
    ),
    (
        run_saved_script,
        {"script_name": NONE, "args": None} | RUN | SHOWN | {"version": None, "directory": None},
        OUTPUT,
    ),
    (list_scripts, {"directory": None}, {"scripts"}),
    (
        run_tests,
        {"directory": NONE, "paths": None, "keyword": None, "markers": None, "only_failed": False,
         "max_failures": None, "workers": "auto", "with_pytest": False, "with_xdist": False, "use_uv": True,
         "python_version": None, "extra_args": None} | RUN | {"timeout_seconds": 1800},
        OUTPUT | COUNTED,
    ),
    (
        map_script,
        {"directory": None, "script_path": None, "script_content": None, "args_list": None,
         "args_file": None, "max_parallel": None, "stop_on_failure": False, "python_version": None,
         "dependencies": None, "resume": None, "retry_failed": False} | RUN | SHOWN,
        {"summary", "total", "succeeded", "failed", "not_run", "failed_indexes", "items",
         "elapsed_seconds", "parallel", "execution_strategy", "strategy_detail"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "parameters", "fields"), SURFACE)
def test_a_tool_has_the_promised_parameters_and_result(
    body: Callable[..., Any], parameters: dict[str, Any], fields: set[str]
) -> None:
    signature = inspect.signature(body)
    assert {name: p.default for name, p in signature.parameters.items()} == parameters
    schema = TypeAdapter(get_type_hints(body)["return"]).json_schema()
    assert fields <= set(schema["required"])
    assert (
        schema["properties"].keys() - set(schema["required"])
        <= get_type_hints(body)["return"].__optional_keys__
    )


@pytest.mark.parametrize("body", [body for body, _, _ in SURFACE])
def test_every_parameter_is_explained_to_the_model(body: Callable[..., Any]) -> None:
    kinds = get_type_hints(body, include_extras=True)
    for name in inspect.signature(body).parameters:
        assert [type(text) for text in kinds[name].__metadata__] == [str], name
