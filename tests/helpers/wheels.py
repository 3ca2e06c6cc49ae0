"""Packages built by the tests, so that installing them needs no network."""

from __future__ import annotations

import inspect
import zipfile
from pathlib import Path

_BACKEND = """\
import zipfile
from pathlib import Path

{pack}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return pack(Path(folder), "{name}", "1.0", Path("{name}.py").read_text("utf-8")).name
"""


def pack(folder: Path, name: str, version: str, code: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def wheel(folder: Path, name: str, version: str) -> str:
    """Write a wheel whose module has a VALUE, its version; return the requirement that it meets."""
    return f"{name} @ {pack(folder, name, version, f'VALUE = {version!r}').as_uri()}"


def source_tree(folder: Path, name: str) -> Path:
    """Make a directory that builds without any other package, and return its one module."""
    folder.mkdir()
    backend = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (folder / "pyproject.toml").write_text(f'{backend}[project]\nname = "{name}"\nversion = "1.0"\n', "utf-8")
    (folder / "backend.py").write_text(_BACKEND.format(pack=inspect.getsource(pack), name=name), "utf-8")
    return folder / f"{name}.py"
