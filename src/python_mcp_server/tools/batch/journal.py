"""The journal of a batch, in the folder of its job: the plan, and one line per item that has ended.

plan.json      the plan, without the values of variables
items          a line of JSON per item, appended when the item ends: the stream `items` of `py_job_output`
outputs/       the full output of items whose line has only a part of it
batch.lock     held while the batch runs
"""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, cast

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.items import ITEMS, ItemLog
from python_mcp_server.regular import IN_HOME, copy_own, make_own, own_file, read_regular, refuse_links
from python_mcp_server.runner.output import open_stream
from python_mcp_server.tools.results import ItemResult

_PLAN: Final = "plan.json"
_OUTPUTS: Final = "outputs"
_LOCK: Final = "batch.lock"
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_UNKNOWN: Final = -1
_REQUIRED: Final[dict[str, type | tuple[type, ...]]] = {
    "index": int,
    "args": list,
    "exit_code": (int, type(None)),
    "elapsed_seconds": (int, float),
    "stdout": str,
    "stderr": str,
}
_OPTIONAL: Final = ("stdout_path", "stderr_path", "error", "error_kind")
_MOST_LINE_BYTES: Final = 32 << 20
"""The longest line: two streams of a million characters each, which may be six bytes in JSON, and more."""
_MOST_BYTES: Final = 256 << 20
"""The largest plan: JSON may need more bytes than the file of the arguments."""


def failed(item: ItemResult) -> bool:
    """Whether an item ended with anything but success."""
    return item["exit_code"] != 0 or "error" in item or "timed_out" in item


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The plan of a batch.

    Attributes:
        directory: The working directory of the script, absolute.
        script_path: The script, absolute; None where it is `script_content`.
        script_content: The script's text; None where it is a file.
        args_list: The arguments of each item.
        dependencies: Packages beside those of the script's header.
        python_version: As the caller asked.
        env_file: As the caller gave it.
        variables: The names of the caller's `env_vars`; the values are not stored.
    """

    directory: str
    script_path: str | None
    script_content: str | None
    args_list: tuple[tuple[str, ...], ...]
    dependencies: tuple[str, ...] = ()
    python_version: str | None = None
    env_file: str | None = None
    variables: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BatchPlan:
        """Return the plan that `to_json` made plain."""
        data = data | {name: tuple(data[name]) for name in ("dependencies", "variables")}
        data["args_list"] = tuple([tuple(args) for args in cast("list[list[str]]", data["args_list"])])
        return cls(**data)


class BatchJournal:
    """The journal of one batch.

    Attributes:
        outputs: The directory that items write to.
        plan: The plan.
        succeeded, failed: How many items have ended so far.
        cut: How many of them have more output than their line.
        failures: The indexes of failed items, in the order of their ends.
        unreadable: How many lines of an earlier batch were damaged.
    """

    def __init__(self, folder: Path, plan: BatchPlan) -> None:
        self.outputs = folder / _OUTPUTS
        self.plan = plan
        self.succeeded = self.failed = self.cut = self.unreadable = 0
        self.failures = array("l")
        self._folder = folder
        self._offsets = array("q", [_UNKNOWN]) * len(plan.args_list)
        self._end = 0
        self._log = ItemLog(str(folder))

    @contextmanager
    def open(self) -> Generator[None]:
        """Write the plan and an empty list of items; no other batch can resume this one in the context."""
        for path in (self._folder, self.outputs):
            path.mkdir(exist_ok=True, mode=0o700)
        with _locked(self._folder):
            self._log.begin()
            with open_stream(self._folder / _PLAN) as plan:
                os.ftruncate(plan, 0)
                with open(plan, "w", encoding="ascii", closefd=False) as file:
                    json.dump(self.plan.to_json(), file)  # in pieces: it may be large
            yield

    def add(self, item: ItemResult) -> None:
        """Append the result of an item; its line is on disk when this returns."""
        line = json.dumps(item).encode() + b"\n"
        self._log.append(line)
        self._offsets[item["index"]] = self._end
        self._end += len(line)
        self.cut += "stdout_path" in item or "stderr_path" in item
        if failed(item):
            self.failed += 1
            self.failures.append(item["index"])
        else:
            self.succeeded += 1

    def has(self, index: int) -> bool:
        """Whether this item has ended."""
        return self._offsets[index] != _UNKNOWN

    def results(self, room_chars: int) -> list[ItemResult]:
        """Return results by index: those of failed items, then others, up to `room_chars`."""
        taken: dict[int, ItemResult] = {}
        wanted = dict.fromkeys([*sorted(self.failures), *range(len(self._offsets))])
        with open(self._folder / ITEMS, "rb", opener=own_file) as file:
            for index in wanted:
                if not self.has(index):
                    continue
                file.seek(self._offsets[index])
                line = file.readline()
                room_chars -= len(line)
                if room_chars < 0 and taken:
                    break
                taken[index] = json.loads(line)
        return [taken[index] for index in sorted(taken)]

    def take_over(self, other: Path, *, failures: bool, check: Callable[[], None] = lambda: None) -> int:
        """Copy results of finished items from an earlier batch, where index and arguments match.

        Args:
            other: The folder of the earlier batch.
            failures: Whether results of failed items are copied too.
            check: Called before each of its lines.

        Returns:
            The number of copied results.
        """
        count = 0
        theirs = plan_in(other).args_list
        for line in _lines_in(other):
            check()
            if (item := _item_in(line)) is None:
                self.unreadable += 1
                continue
            index = item["index"]
            same = theirs[index : index + 1] == self.plan.args_list[index : index + 1] != ()
            if same and not self.has(index) and (failures or not failed(item)):
                self.add(self._with_outputs(item, other / _OUTPUTS))
                count += 1
        return count

    def _with_outputs(self, item: ItemResult, theirs: Path) -> ItemResult:
        """Return the result with its files in our folder, because the other batch may be removed."""
        facts = cast("dict[str, Any]", item)
        for name in ("stdout_path", "stderr_path"):
            file = os.path.basename(facts.get(name, ""))
            if file and os.path.isfile(theirs / file) and not (theirs / file).is_symlink():
                _link(theirs / file, self.outputs / file)
                facts = {**facts, name: str(self.outputs / file)}
        return cast("ItemResult", facts)


def folder_of(root: Path, job_id: str) -> Path:
    """Return the folder of an earlier batch.

    Args:
        root: The directory that has the folders of all jobs two levels down.
        job_id: The job of the batch.

    Raises:
        JobNotFound: There is no such job.
        InvalidInput: The job is not a batch.
    """
    found = list(root.glob(f"*/{job_id}")) if _JOB_ID.fullmatch(job_id) else []
    if not found:
        raise JobNotFound(job_id)
    refuse_links(str(found[0]), IN_HOME)
    if not (found[0] / _PLAN).is_file():
        raise InvalidInput(f"resume names job {job_id}, which is no batch of py_map_script that began")
    return found[0]


def plan_in(folder: Path) -> BatchPlan:
    """Return the plan of a batch.

    Raises:
        InvalidInput: What is there is no plan.
    """
    try:
        return BatchPlan.from_json(json.loads(read_regular(str(folder / _PLAN), _MOST_BYTES, follow=False)))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput(
            f"resume names a batch whose plan is damaged ({folder / _PLAN}); start it anew"
        ) from None


@contextmanager
def locked_idle(folder: Path, job_id: str) -> Generator[None]:
    """Keep an earlier batch from being changed until the context ends.

    Raises:
        InvalidInput: The batch still runs.
    """
    from filelock import Timeout

    try:
        with _locked(folder):
            yield
    except Timeout:
        raise InvalidInput(f"job {job_id} still runs; wait for it or cancel it, then resume it") from None


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    from filelock import FileLock

    make_own(str(folder / _LOCK))
    with FileLock(folder / _LOCK, timeout=0, mode=0o600):
        yield


def _lines_in(folder: Path) -> Iterator[bytes]:
    """Yield the whole lines of a batch; of one that is too long, only its end.

    Raises:
        InvalidInput: They cannot be read at all.
    """
    try:
        items = open(folder / ITEMS, "rb", opener=own_file)  # noqa: SIM115  closed below
    except OSError as error:
        raise InvalidInput(
            f"resume names a batch whose results cannot be read ({folder / ITEMS}: {error.strerror}); "
            "start it anew"
        ) from None
    with items as file:
        while line := file.readline(_MOST_LINE_BYTES):
            if line.endswith(b"\n"):  # the last one may have been cut off by a full disk
                yield line


def _item_in(line: bytes) -> ItemResult | None:
    """Return the result that a line holds; None where it is damaged."""
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    facts = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    required = all(name in facts and isinstance(facts[name], kinds) for name, kinds in _REQUIRED.items())
    optional = all(isinstance(facts.get(name, ""), str) for name in _OPTIONAL)
    return cast("ItemResult", facts) if required and optional and facts["index"] >= 0 else None


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        copy_own(str(source), str(target))
