"""What a caller of `map_script` may say, and the journal of a batch: bounded, durable, taken over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from python_mcp_server.errors import InvalidInput, JobNotFound
from python_mcp_server.model import cut
from python_mcp_server.tools.batch.journal import BatchJournal, BatchPlan, folder_of, locked_idle, plan_in
from python_mcp_server.tools.batch.tool import BatchRequest, map_script
from python_mcp_server.tools.results import ItemResult


def unchecked() -> None:
    """Stand in for the check of the call's limits."""


NOTHING = BatchRequest(None, None, None, None, None, None, None, None)
PLAN = BatchPlan("/", None, "pass", (("a",), ("b",), ("c",)), variables=("KEY",))


def result(index: int, exit_code: int | None = 0, **facts: Any) -> ItemResult:
    made = {
        "index": index,
        "args": [],
        "exit_code": exit_code,
        "elapsed_seconds": 0.1,
        "stdout": "",
        "stderr": "",
    }
    return made | facts  # type: ignore[return-value]


@pytest.fixture
def journal(tmp_path: Path) -> Callable[..., BatchJournal]:
    def make(name: str, plan: BatchPlan = PLAN, *items: ItemResult) -> BatchJournal:
        made = BatchJournal(tmp_path / "output" / "0" / name, plan)
        (tmp_path / "output" / "0").mkdir(exist_ok=True, parents=True)
        with made.open():
            for item in items:
                made.add(item)
        return made

    return make


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"directory": None}, "directory is missing; it is needed unless resume is given"),
    ({"args_list": None}, "args_list is missing; give the arguments of each item, or args_file"),
    ({"args_list": []}, "there are 0 argument lists; give between 1 and 100000"),
    ({"args_list": ["ab"]}, "args_list[0] is 'ab'; it must be a list of texts"),
    ({"args_list": [["a"], [1]]}, "args has 1; each must be text without NUL"),
    ({"args_file": "x"}, "args_list and args_file are both given; give one of the two"),
    ({"script_content": None}, "exactly one of script_path and script_content is needed; neither was given"),
    ({"max_parallel": 0}, "max_parallel is 0; it must be 1 to 256, or unset"),
    ({"resume": "../secret"}, "Job ../secret not found"),
    ({"timeout_seconds": -1}, "timeout_seconds is -1; it must be a number of seconds, or 0 for no limit"),
]


@pytest.mark.parametrize(("wrong", "words"), REFUSED)
def test_what_cannot_be_run_is_refused_in_one_sentence(
    wrong: dict[str, Any], words: str, tmp_path: Path
) -> None:
    right = {"directory": str(tmp_path), "script_content": "pass", "args_list": [["a"]]}
    with pytest.raises((InvalidInput, JobNotFound)) as caught:
        map_script(**right | wrong)
    assert str(caught.value) == words


def test_a_file_of_arguments_has_a_json_list_or_one_argument_in_each_line(tmp_path: Path) -> None:
    (tmp_path / "items").write_text('["a", "b c"]\n\none argument\n', "utf-8")
    request = replace(NOTHING, directory=str(tmp_path), script_content="pass", args_file="items")
    assert request.plan(None, None, None, unchecked).args_list == (("a", "b c"), ("one argument",))
    (tmp_path / "items").write_text('x\n["a", 1]\n', "utf-8")
    with pytest.raises(InvalidInput, match=r"args_file has .* in line 2; each must be a text"):
        request.plan(None, None, None, unchecked)


@pytest.mark.parametrize(
    ("data", "lists"),
    [
        (
            'one\u2028two\x0bthree\n["a\u2029b", "\x7f"]\n'.encode(),
            (("one\u2028two\x0bthree",), ("a\u2029b", "\x7f")),
        ),
        ("\x0c\n \t\n\x85\n".encode(), (("\x0c",), ("\x85",))),
        (b"a\r\nb\rc", (("a",), ("b",), ("c",))),
        ("a\nb\n".encode("utf-8-sig"), (("a",), ("b",))),
        ("a\r\nb\r\n".encode("utf-16"), (("a",), ("b",))),
    ],
)
def test_a_line_of_arguments_ends_where_a_line_ends(
    tmp_path: Path, data: bytes, lists: tuple[tuple[str, ...], ...]
) -> None:
    (tmp_path / "items").write_bytes(data)
    request = replace(NOTHING, directory=str(tmp_path), script_content="pass", args_file="items")
    assert request.plan(None, None, None, unchecked).args_list == lists


def test_a_file_of_arguments_that_is_no_text_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "items").write_bytes(b"a\nb\nc\xff\n")
    request = replace(NOTHING, directory=str(tmp_path), script_content="pass", args_file="items")
    with pytest.raises(InvalidInput, match="args_file 'items' cannot be read: line 3 is not UTF-8"):
        request.plan(None, None, None, unchecked)


def test_a_file_of_more_arguments_than_a_batch_has_is_left_there(tmp_path: Path) -> None:
    request = replace(NOTHING, directory=str(tmp_path), script_content="pass", args_file="items")
    for text, words in (
        ("a\n" * 200_000 + "\xff", "has more than 100000"),
        ("\n \n", "has no argument list"),
    ):
        (tmp_path / "items").write_bytes(text.encode("latin-1"))
        with pytest.raises(InvalidInput, match=f"args_file 'items' {words}"):
            request.plan(None, None, None, unchecked)


@pytest.mark.parametrize("name", ["missing", "~no-such-user/x", "a\0b", "x" * 5000, "."])
def test_a_missing_file_of_arguments_is_refused_by_value(name: str, tmp_path: Path) -> None:
    request = replace(NOTHING, directory=str(tmp_path), script_content="pass", args_file=name)
    with pytest.raises(InvalidInput) as refused:
        request.plan(None, None, None, unchecked)
    shown = cut(name, 200)
    assert str(refused.value).startswith(f"args_file {shown!r} does not exist as a file (looked at ")
    assert "\n" not in str(refused.value)


def test_a_resumed_batch_keeps_its_unstated_options() -> None:
    assert NOTHING.plan(PLAN, {"KEY": "x"}, "j", unchecked) == PLAN
    longer = replace(NOTHING, args_list=[["a"], ["d"]], script_content="1").plan(
        PLAN, {"KEY": "x"}, "j", unchecked
    )
    assert (longer.args_list, longer.script_content) == ((("a",), ("d",)), "1")
    with pytest.raises(InvalidInput, match=r"job j had the variables KEY in env_vars, which are not kept"):
        NOTHING.plan(PLAN, None, "j", unchecked)


def test_only_what_has_the_same_arguments_is_taken_over(
    journal: Callable[..., BatchJournal], tmp_path: Path
) -> None:
    other = journal("other", PLAN, result(2), result(1, 7), result(0))
    folder = folder_of(tmp_path / "output", "other")
    assert plan_in(folder) == other.plan == PLAN
    changed = replace(PLAN, args_list=(("a",), ("b",), ("changed",), ("new",)))
    mine = journal("mine", changed)
    assert mine.take_over(folder, failures=False) == 1
    assert [mine.has(index) for index in range(4)] == [True, False, False, False]
    assert mine.take_over(folder, failures=True) == 1
    assert (mine.succeeded, mine.failed, list(mine.failures)) == (1, 1, [1])


def test_files_that_are_taken_over_outlive_the_other_batch(
    journal: Callable[..., BatchJournal], tmp_path: Path
) -> None:
    other = journal("other")
    whole = other.outputs / "0.stdout"
    whole.write_text("all of it")
    other.add(result(0, stdout_path=str(whole)))
    mine = journal("mine")
    mine.take_over(folder_of(tmp_path / "output", "other"), failures=True)
    whole.unlink()
    assert Path(mine.results(1000)[0].get("stdout_path", "")).read_text() == "all of it"


def test_a_line_that_was_cut_off_is_no_result(journal: Callable[..., BatchJournal], tmp_path: Path) -> None:
    journal("other", PLAN, result(0))
    folder = folder_of(tmp_path / "output", "other")
    with (folder / "items").open("a") as file:
        file.write('{"index": 1')
    assert journal("mine").take_over(folder, failures=True) == 1


DAMAGED = (
    b"\0" * 1000,
    b"\xff{}",
    b"[" * 100_000,
    b"null",
    b'{"index": 1}',
    json.dumps(result(-1)).encode(),
    json.dumps(result(1, stdout=None)).encode(),
    json.dumps(result(1, stdout_path=7)).encode(),
    json.dumps(result(1) | {"exit_code": "0"}).encode(),
)


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_of_results_costs_only_itself(
    journal: Callable[..., BatchJournal], tmp_path: Path, line: bytes
) -> None:
    journal("other", PLAN, result(0))
    folder = folder_of(tmp_path / "output", "other")
    with (folder / "items").open("ab") as file:
        file.write(line + b"\n" + json.dumps(result(2)).encode() + b"\n")
    mine = journal("mine")
    assert mine.take_over(folder, failures=True) == 2
    assert mine.unreadable == 1
    assert [mine.has(index) for index in range(3)] == [True, False, True]


def test_results_that_cannot_be_read_at_all_are_refused(
    journal: Callable[..., BatchJournal], tmp_path: Path
) -> None:
    journal("other")
    folder = folder_of(tmp_path / "output", "other")
    (folder / "items").unlink()
    (folder / "items").mkdir()
    with pytest.raises(InvalidInput, match="resume names a batch whose results cannot be read"):
        journal("mine").take_over(folder, failures=True)


def test_only_the_files_of_the_batch_itself_are_taken_over(
    journal: Callable[..., BatchJournal], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_text("not ours")
    other = journal("other", PLAN, result(0, stdout_path=str(tmp_path / "elsewhere")))
    (other.outputs / "1.stdout").symlink_to(tmp_path / "elsewhere")
    other.add(result(1, stdout_path=str(other.outputs / "1.stdout")))
    mine = journal("mine")
    assert mine.take_over(folder_of(tmp_path / "output", "other"), failures=True) == 2
    assert list(mine.outputs.iterdir()) == []


def test_neither_a_running_batch_nor_an_unknown_job_can_be_resumed(
    journal: Callable[..., BatchJournal], tmp_path: Path
) -> None:
    running = journal("running")
    folder = folder_of(tmp_path / "output", "running")
    with (
        running.open(),
        pytest.raises(InvalidInput, match="job running still runs; wait for it or cancel it"),
        locked_idle(folder, "running"),
    ):
        pass
    (tmp_path / "output" / "0" / "script").mkdir()
    with pytest.raises(InvalidInput, match="resume names job script, which is no batch"):
        folder_of(tmp_path / "output", "script")


def test_failed_results_are_shown_first_and_all_in_order(
    journal: Callable[..., BatchJournal],
) -> None:
    plan = replace(PLAN, args_list=(("x",),) * 10_000)
    ended = [result(index, int(index in {5000, 9000}), stdout="x" * 900) for index in range(9_999, -1, -5)]
    made = journal("many", plan, *ended, result(5000, 1), result(9000, 1))
    shown = [item["index"] for item in made.results(10_000)]
    assert shown == [4, 9, 14, 19, 24, 29, 34, 39, 44, 5000, 9000]
    assert len(made.results(1)) == 1
