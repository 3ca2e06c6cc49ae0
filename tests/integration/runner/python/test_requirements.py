"""Directories with a `requirements.txt`, and machines whose network does not answer: uv itself, with
wheels and an index made here."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput, UvRefused
from python_mcp_server.runner.child import Session
from python_mcp_server.runner.python import uv as uv_module
from python_mcp_server.runner.python.uv import Uv
from python_mcp_server.tools.scripts import run_script_in_dir, run_script_with_dependencies
from tests.helpers import eventually
from tests.helpers.marks import thorough
from tests.helpers.wheels import source_tree, wheel

SHOW = "import sample_a; print(sample_a.VALUE)"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uv reach nothing but this machine."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")


def environments(home: Path) -> int:
    return len(list((home / "environments").glob("*/ready.json")))


def test_packages_of_a_requirements_file_stay_until_it_changes(tmp_path: Path, home: Path) -> None:
    (tmp_path / "repository" / "sub").mkdir(parents=True)
    repository = tmp_path / "repository"
    (repository / ".git").mkdir()
    wheel(repository, "sample_a", "1.5")
    (repository / "more.txt").write_bytes("./sample_a-1.5-py3-none-any.whl\r\n".encode("utf-16"))
    listed = repository / "requirements.txt"
    listed.write_text("-r more.txt\n", "utf-8")
    first, second = (run_script_in_dir(str(repository / "sub"), script_content=SHOW) for _ in range(2))
    assert (first["stdout"], first["execution_strategy"]) == ("1.5\n", "uv-run")
    words = f" with the packages of {listed} (set up "
    assert first.get("strategy_detail", "").endswith(f"{words}for this call)")
    assert first.get("install_seconds", 0) > 0
    assert second.get("strategy_detail", "").endswith(f"{words}before)")
    assert "install_seconds" not in second
    assert environments(home) == 1
    listed.write_text("# nothing any more\n", "utf-8")
    assert "No module named 'sample_a'" in run_script_in_dir(str(repository), script_content=SHOW)["stderr"]
    assert environments(home) == 2


def test_making_an_environment_removes_those_unused_for_long(tmp_path: Path, home: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        wheel(tmp_path / folder, "sample_a", "1.5")
        (tmp_path / folder / "requirements.txt").write_text("./sample_a-1.5-py3-none-any.whl\n", "utf-8")
    for folder in ("a", "b"):
        run_script_in_dir(str(tmp_path / folder), script_content=SHOW)
    for ready in (home / "environments").glob("*/ready.json"):
        os.utime(ready.parent, (0, 0))
    assert "install_seconds" not in run_script_in_dir(str(tmp_path / "b"), script_content=SHOW)
    assert environments(home) == 2
    assert "install_seconds" in run_script_in_dir(str(tmp_path / "c"), script_content=SHOW)
    eventually(lambda: environments(home) == 2)  # the call does not wait for it
    assert "install_seconds" not in run_script_in_dir(str(tmp_path / "b"), script_content=SHOW)
    assert "install_seconds" in run_script_in_dir(str(tmp_path / "a"), script_content=SHOW)


def test_a_local_package_is_built_again_when_it_changes(tmp_path: Path) -> None:
    module = source_tree(tmp_path / "lib", "sample_a")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "requirements.txt").write_text("../lib\n", "utf-8")
    values: list[str] = []
    for value in ("'old'", "'new one'"):
        module.write_text(f"VALUE = {value}\n", "utf-8")
        values.append(run_script_in_dir(str(tmp_path / "here"), script_content=SHOW)["stdout"])
    assert values == ["old\n", "new one\n"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no-such-package-here\n", "no-such-package-here was not found"),
        thorough("-r missing.txt\n", "Error parsing included file"),
        thorough("this is wrong\n", "Couldn't parse requirement"),
        thorough("# \xe4\n", "failed to decode file"),
        thorough("-e ./missing\n", "Distribution not found"),
    ],
)
def test_what_cannot_be_installed_is_one_sentence_that_names_the_file(
    text: str, words: str, tmp_path: Path
) -> None:
    listed = tmp_path / "requirements.txt"
    listed.write_text(text, "latin-1")
    with pytest.raises(InvalidInput) as refused:
        run_script_in_dir(str(tmp_path), script_content="x = 1")
    assert str(refused.value).startswith(f"the packages of {listed} cannot be installed: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


class Handler(SimpleHTTPRequestHandler):
    """Files that must be asked for again each time."""

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=0")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """An index with sample-a, which is all that uv knows; its cache is empty."""
    folder = tmp_path / "simple" / "sample-a"
    folder.mkdir(parents=True)
    wheel(folder, "sample_a", "1.5")
    (folder / "index.html").write_text('<a href="sample_a-1.5-py3-none-any.whl">sample_a</a>', "utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path)))
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_without_a_network_what_is_cached_is_enough(index: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert run_script_with_dependencies(SHOW, dependencies=["sample-a"])["stdout"] == "1.5\n"
    index.shutdown()
    index.server_close()
    again = run_script_with_dependencies(SHOW, dependencies=["sample-a"])
    assert (again["stdout"], "install_seconds" in again) == ("1.5\n", False)
    fresh = run_script_with_dependencies(SHOW, dependencies=["sample-a>=1"])
    assert (fresh["stdout"], "install_seconds" in fresh) == ("1.5\n", True)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "p"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["sample-a"]\n',
        "utf-8",
    )
    assert run_script_in_dir(str(tmp_path), script_content=SHOW)["stdout"] == "1.5\n"
    with pytest.raises(UvRefused) as refused:
        run_script_with_dependencies(SHOW, dependencies=["sample-b"])
    assert "error sending request" in str(refused.value)
    assert str(refused.value).startswith("uv asked the package index, then its own cache")
    assert "or set HTTPS_PROXY where a proxy leads to it (in the environment" in str(refused.value)
    assert "\n" not in str(refused.value)


STRICT_UV = """#!{python}
import os, sys
if os.environ.get("UV_SYSTEM_CERTS") == "1" and {trusted}:
    sys.exit(print("found"))
sys.exit("error: Failed to fetch: https://index/\\n  cause: error sending request for url (https://index/)"
         "\\n  cause: invalid peer certificate: UnknownIssuer")
"""
"""It answers as uv 0.13 does where only the system's certificates know the index."""


def strict_uv(folder: Path, monkeypatch: pytest.MonkeyPatch, *, trusted: bool) -> Uv:
    program = folder / "uv"
    program.write_text(STRICT_UV.format(python=sys.executable, trusted=trusted), "utf-8")
    program.chmod(0o700)
    monkeypatch.setattr(uv_module, "find_uv", lambda: str(program))
    return Uv(Session(folder, folder, "", {}))


def test_the_system_s_certificates_are_tried_where_uv_s_own_do_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert strict_uv(tmp_path, monkeypatch, trusted=True)("pip", "install") == "found\n"
    monkeypatch.setenv("UV_SYSTEM_CERTS", "0")
    with pytest.raises(UvRefused, match="invalid peer certificate"):
        strict_uv(tmp_path, monkeypatch, trusted=True)("pip", "install")


def test_an_index_that_nothing_trusts_is_told_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UvRefused) as refused:
        strict_uv(tmp_path, monkeypatch, trusted=False)("pip", "install")
    assert str(refused.value).startswith("uv asked the package index, then its own cache")
    assert "set SSL_CERT_FILE to the file of its certificates (in the environment" in str(refused.value)
