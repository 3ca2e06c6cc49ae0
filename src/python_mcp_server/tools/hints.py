"""Hints: one sentence that says what would have let a run pass.

A hint is given only where the cause is certain: by the last line of stderr, the names of known packages, and
the limits of the call. A hint quotes nothing else that the script wrote.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import signal
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from python_mcp_server.limits import CPU, DISK, MEMORY
from python_mcp_server.regular import read_regular

MOST_CHARS: Final = 200

IN_SCRIPT: Final = (
    "{module} is not installed here. Name {package} in a PEP 723 header of the script, or call "
    "py_run_script_with_dependencies."
)
"""How a script gets a package if it has a header, or if its directory has no environment."""
IN_PROJECT: Final = (
    "{module} is not in this directory's environment. Add {package} to its pyproject.toml, requirements.txt "
    "or .venv, or call py_run_script_with_dependencies."
)
"""The same if the directory has an environment, which a header would replace."""
BY_TOOL: Final = (
    "{module} is not installed here. py_run_script_with_dependencies brings it: dependencies=[{package}]."
)
"""The same if headers are not read."""
BY_PARAMETER: Final = "{module} is not installed. Add {package} to dependencies, a parameter of this tool."
"""How a script gets a package from a tool with this parameter."""
BY_SAVING: Final = (
    "{module} is not installed. Save the script again by py_save_script with dependencies=[{package}] "
    "and overwrite=true."
)
"""How a saved script gets a package."""
IN_SUITE: Final = (
    "{module} is not installed where the tests run. Add {package} to the directory's pyproject.toml, "
    "requirements.txt or .venv."
)
"""How a test suite gets a package."""

_TIME: Final = (
    "timeout_seconds ended it; a larger one, or 0 for none, lets it go on. With async_mode=true the call "
    "answers at once, and py_wait_job waits for the end."
)
_NO_STDIN: Final = (
    "A script has no stdin here: it is always empty. Pass its input by args, env_vars or a file."
)
_NO_STDIN_IN_TESTS: Final = (
    "Tests have no stdin here, with pytest's -s neither: let the test replace input() or sys.stdin "
    "(monkeypatch.setattr)."
)
_CRASH: Final = (
    'Native code crashed. With env_vars={"PYTHONFAULTHANDLER": "1"} Python shows in stderr where that was.'
)
_KILLED: Final = (
    "SIGKILL came from no limit of this call; mostly the kernel sends it when memory runs out. Less data, or "
    "fewer processes, at once would let it pass."
)
_LARGER: Final = {
    MEMORY: "A larger memory_limit_mb, or none, lets it go on.",
    CPU: "A larger cpu_time_limit_seconds, or none, lets it go on.",
    DISK: "Less output, or a larger disk_limit_mb, lets it go on.",
}
_CRASHES: Final = frozenset(
    -getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT")
    if hasattr(signal, name)
)
_SIGKILL: Final = -getattr(signal, "SIGKILL", 0) or None
_FAULT_SHOWN: Final = "Fatal Python error:"

_MISSING: Final = re.compile(
    r"(?:ModuleNotFoundError: No module named '(\w+)'"
    r"|ImportError: Missing optional dependency '([\w-]+)'\. .*)"
)
_END_OF_INPUT: Final = "EOFError: EOF when reading a line"
_READS_STDIN: Final = re.compile(
    r"\bsys\.stdin(?:\.buffer)?\.(?:read|readline|readlines)\("
    r"|\bin sys\.stdin\b|\(sys\.stdin(?:\.buffer)?[,)]"
)
_PYTEST_STDIN: Final = "OSError: pytest: reading from stdin while output is captured!"
_READING: Final = frozenset({"read", "readline", "readlines", "buffer"})
_LARGEST_SOURCE: Final = 200_000
_NEAR: Final = 200

_OTHER_NAMES: Final = {
    "attr": "attrs", "bs4": "beautifulsoup4", "cv2": "opencv-python-headless", "Crypto": "pycryptodome",
    "dateutil": "python-dateutil", "docx": "python-docx", "dotenv": "python-dotenv", "fitz": "pymupdf",
    "git": "GitPython", "jose": "python-jose", "jwt": "PyJWT", "magic": "python-magic",
    "MySQLdb": "mysqlclient", "nacl": "PyNaCl", "OpenSSL": "pyOpenSSL", "PIL": "pillow",
    "IPython": "ipython", "Cython": "cython",
    "pptx": "python-pptx", "psycopg2": "psycopg2-binary", "serial": "pyserial", "skimage": "scikit-image",
    "sklearn": "scikit-learn", "slugify": "python-slugify", "telegram": "python-telegram-bot",
    "usb": "pyusb", "yaml": "PyYAML", "zmq": "pyzmq",
}  # fmt: skip
"""Modules, and the packages of other names that contain them."""
_SAME_NAMES: Final = frozenset((
    "aiofiles", "aiohttp", "alembic", "altair", "anthropic", "anyio", "arrow", "asyncpg", "bokeh",
    "boto3", "botocore", "cachetools", "celery", "certifi", "chardet", "click", "cloudpickle", "colorama",
    "cryptography", "cvxpy", "dash", "dask", "datasets", "deepdiff", "diskcache", "django", "docutils",
    "duckdb", "faker", "fastapi", "fastmcp", "feedparser", "filelock", "flask", "freezegun", "fsspec",
    "gensim", "geopandas", "gradio", "graphviz", "gunicorn", "h5py", "holoviews", "httpx",
    "huggingface_hub", "hypothesis", "imageio", "ipywidgets", "jinja2", "joblib", "jsonschema", "keras",
    "langchain", "librosa", "lightgbm", "llvmlite", "loguru", "lxml", "lz4", "markdown", "marshmallow",
    "matplotlib", "mistune", "more_itertools", "msgpack", "mypy", "natsort", "networkx", "nltk", "numba",
    "numexpr", "numpy", "onnxruntime", "openai", "openpyxl", "optuna", "orjson", "paramiko", "patsy",
    "peewee", "pendulum", "pexpect", "plotly", "polars", "prettytable", "psutil", "psycopg", "pulp",
    "pyarrow", "pycountry", "pydantic", "pydub", "pyflakes", "pygame", "pymongo", "pymysql", "pypdf",
    "pyperclip", "pyright", "pytest", "pytz", "pyvis", "qrcode", "rapidfuzz", "redis", "regex",
    "reportlab", "requests", "rich", "scipy", "scrapy", "seaborn", "selenium", "sentence_transformers",
    "shapely", "simpy", "soupsieve", "spacy", "sqlalchemy", "sqlmodel", "starlette", "statsmodels",
    "streamlit", "sympy", "tables", "tabulate", "tenacity", "tensorflow", "textual", "threadpoolctl",
    "tiktoken", "toml", "tomli_w", "toolz", "torch", "torchvision", "tornado", "tqdm", "transformers",
    "trio", "typer", "ujson", "unidecode", "uvicorn", "uvloop", "websockets", "wordcloud", "xarray",
    "xgboost", "xlrd", "xlsxwriter", "xmltodict", "zarr", "zstandard",
))  # fmt: skip
"""Modules whose package has the same name."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of a script ended: the facts that a hint is chosen by.

    Attributes:
        exit_code: Negative for the number of a signal.
        stderr: The end of its stderr.
        silent: Whether it wrote nothing at all.
        timed_out: Whether its time limit ended it.
        script: The file of the script.
        folder: Its working directory.
    """

    exit_code: int
    stderr: str = ""
    silent: bool = False
    timed_out: bool = False
    script: Path | None = None
    folder: Path | None = None


def hint_for(ended: Ended, packages: str) -> str | None:
    """Return what would have let a run pass; None if that is not known."""
    if ended.timed_out:
        return _TIME
    if ended.exit_code in _CRASHES:
        return None if _FAULT_SHOWN in ended.stderr else _CRASH
    if ended.exit_code == _SIGKILL:
        return _KILLED
    if ended.exit_code > 0 and (hint := _of_last_line(ended, packages)):
        return hint
    if ended.silent and ended.exit_code >= 0 and ended.script is not None and _waits_for_input(ended.script):
        return _NO_STDIN
    return None


def hint_at_limit(kind: str) -> str | None:
    """Return what would have let a run pass that met its limit of memory, CPU time or disk space."""
    return _LARGER.get(kind)


def hint_for_tests(messages: Iterable[str], folder: Path) -> str | None:
    """Return a hint for tests that failed with these messages; None if no hint fits them."""
    for message in messages:
        last = message.strip().split("\n")[-1]
        if hint := _of_missing(last, IN_SUITE, folder):
            return hint
        if message.startswith(_PYTEST_STDIN):
            return _NO_STDIN_IN_TESTS
    return None


def _of_last_line(ended: Ended, packages: str) -> str | None:
    lines = ended.stderr.rstrip().split("\n")
    if hint := _of_missing(lines[-1], packages, ended.folder):
        return hint
    if lines[-1] == _END_OF_INPUT or _reads_stdin(lines):
        return _NO_STDIN
    return None


def _of_missing(line: str, packages: str, folder: Path | None) -> str | None:
    found = _MISSING.fullmatch(line.removeprefix("E   "))
    if found is None or (package := package_of(name := found[1] or found[2])) is None:
        return None
    if folder is not None and _lies_in(folder, name):
        return None
    return packages.format(module=name, package=f'"{package}"')


def package_of(module: str) -> str | None:
    """Return the package that contains a module; None if that is not certain."""
    if (other := _OTHER_NAMES.get(module)) is not None:
        return other
    return module.replace("_", "-") if module in _SAME_NAMES else None


def _lies_in(folder: Path, module: str) -> bool:
    """Whether a module of this name is in a folder or right below it: then the script means that one."""
    try:
        with os.scandir(folder) as entries:
            near = [folder, *(Path(each.path) for each in itertools.islice(entries, _NEAR) if each.is_dir())]
    except OSError:
        return False
    return any(os.path.exists(place / name) for place in near for name in (module, f"{module}.py"))


def _reads_stdin(lines: list[str]) -> bool:
    """Whether the last traceback goes through a line of code that reads stdin."""
    start = max((at for at, line in enumerate(lines) if line.startswith("Traceback (")), default=None)
    if start is None:
        return False
    return any(line.startswith("    ") and _READS_STDIN.search(line) for line in lines[start:])


def _waits_for_input(script: Path) -> bool:
    """Whether the code of a script reads stdin."""
    try:
        source = read_regular(str(script), _LARGEST_SOURCE)
        if b"stdin" not in source:
            return False
        with warnings.catch_warnings(action="ignore"):  # the parser's warnings would go to the job's stderr
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(_is_reading(node) for node in ast.walk(tree))


def _is_reading(node: ast.AST) -> bool:
    if isinstance(node, ast.For | ast.comprehension):
        return _is_stdin(node.iter)
    if isinstance(node, ast.Call):
        return any(map(_is_stdin, node.args))
    return isinstance(node, ast.Attribute) and node.attr in _READING and _is_stdin(node.value)


def _is_stdin(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "stdin" and _is_name(node.value, "sys")


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
