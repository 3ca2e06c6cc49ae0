"""The parameters that several tools have: the type of each, and the text that a model reads.

The tool list repeats a text for each tool with the parameter, so texts are short; `docs/tools.md` says more.
`server.registry` reads the texts; a worker process does not use them.
"""

from __future__ import annotations

from typing import Annotated

from python_mcp_server.limits import Limits

Directory = Annotated[str, "Working directory, absolute."]
ScriptPath = Annotated[str | None, "Script file, absolute or relative to `directory`."]
ScriptContent = Annotated[
    str | None, "Instead of a file: Python code to run in `directory`, whose modules it can import."
]
LonePath = Annotated[str | None, "Script file, absolute; runs in its own directory."]
LoneContent = Annotated[
    str | None,
    "Instead of a file: Python code; it runs in an empty directory.",
]
Args = Annotated[list[str] | None, "Command line arguments."]
Dependencies = Annotated[list[str] | None, 'Packages, such as "pandas>=2", beside those of a PEP 723 header.']
UseUv = Annotated[
    bool, "Use the directory's own environment, prepared by uv; false: an installed Python as it is."
]
PythonVersion = Annotated[str | None, 'Such as "3.12". Default: what the script or project asks for.']
TimeoutSeconds = Annotated[float, "Ended after this long, installing included; its output is kept. 0: never."]
CommandLine = Annotated[
    str | list[str], "A text for the shell, or without a shell a list: the program and its arguments."
]
EnvVars = Annotated[dict[str, str] | None, "Win over all others; never stored."]
EnvFile = Annotated[str | None, "File of NAME=value lines, absolute or relative to `directory`."]
LoneEnvFile = Annotated[str | None, "File of NAME=value lines, absolute or relative to the script."]
MemoryLimit = Annotated[float | None, "Of all its processes together; beyond it they are killed."]
CpuTimeLimit = Annotated[float | None, "The same for CPU time."]
DiskLimit = Annotated[float | None, "The same for its output and files in the job's folder."]
Nice = Annotated[int | None, "0 (normal) to 19 (only when the machine is idle)."]
Cpus = Annotated[int | list[int] | None, "How many cores to use, or their numbers."]
OutputChars = Annotated[
    int | None, "How much of stdout, and of stderr, to show: head and tail. Default: 20000."
]


def limits(
    memory_limit_mb: float | None,
    cpu_time_limit_seconds: float | None,
    nice: int | None,
    cpus: int | list[int] | None,
    disk_limit_mb: float | None,
) -> Limits | None:
    """Return the limits that these parameters ask for; None if all of them are None."""
    return Limits.given(
        memory_limit_mb=memory_limit_mb,
        cpu_time_limit_seconds=cpu_time_limit_seconds,
        nice=nice,
        cpus=cpus,
        disk_limit_mb=disk_limit_mb,
    )
