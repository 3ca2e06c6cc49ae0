"""Bodies of the main file find in their worker what they refer to, or one sentence says why not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import run_python
from tests.helpers.main_programs import GUARDED, TOP, answers
from tests.helpers.programs import environment

KINDS = """
Price = typing.NewType("Price", int)
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(message)s")
decimal.getcontext().prec = 4
gate = threading.Lock()
user = contextvars.ContextVar("user", default="nobody")
runs = []

class Tone(enum.Enum):
    LOW = "low"

class Pair:
    __slots__ = ("left", "right")
    def __init__(self, left, right):
        self.left, self.right = left, right

@functools.lru_cache
def doubled(n):
    return 2 * n

def cube(n):
    return n ** 3

@smart_async
def cached(): return doubled(21)
@smart_async
def annotated(price: Price = Price(3)) -> Price: return price
@smart_async
def pooled(method):
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        return list(pool.map(cube, [1, 2]))
def stem(n): return [n, __file__.rpartition("/")[2]]
@smart_async
def lokied():
    import loky
    with loky.ProcessPoolExecutor(1) as pool:
        return list(pool.map(stem, [1]))
@smart_async
def own_names():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return list(pool.map(stem, [2]))
@smart_async
def pickled(): return len(pickle.dumps([Pair(1, 2), Tone.LOW, cube])) > 0
@smart_async
def context(): return str(decimal.Decimal(2) / 3)
@smart_async
def locked():
    with gate:
        return user.get()
@smart_async
def remembers():
    runs.append(cube(1))
    return len(runs)
@smart_async
def swapped(pair: Pair): return Pair(pair.right, pair.left), type(pair) is Pair
@smart_async
def logs(): logging.info("a line")
class Box:
    @classmethod
    @smart_async
    def named(cls): return cls.__name__

async def main():
    for call in (cached(), annotated(), pooled("fork"), pooled("spawn"), pickled(), context(), locked()):
        await told(call)
    await told(remembers())
    await told(remembers())
    pair, same = await swapped(Pair("a", "b"))
    print(json.dumps([pair.left, type(pair) is Pair, same]))
    def closure_of(tone):
        @smart_async
        def closure():
            with ProcessPoolExecutor(1) as pool:
                return [tone is Tone.LOW, *pool.map(cube, [3])]
        return closure
    await told(closure_of(Tone.LOW)())
    await told(Box.named())
    await told(lokied())
    await told(own_names())
    handle = await logs(async_mode=True)
    await default_manager().wait(handle["job_id"], 60)
    print(json.dumps((await default_manager().output(handle["job_id"], "stderr")).text))
"""
KINDS_ANSWER = [
    *(42, 3, [1, 8], [1, 8], True, "0.6667", "nobody", 1, 2, ["b", True, True], [True, 27], "Box"),
    *([[1, "program.py"]], [[2, "program.py"]]),
    "INFO a line\n",
]


def test_a_guarded_main_file_is_a_module_in_its_workers(tmp_path: Path):
    assert answers(KINDS + GUARDED, tmp_path) == KINDS_ANSWER


@pytest.mark.parametrize("options", [("-m", "tools.program"), ("-m", "tools"), ("tools",)])
def test_a_main_module_of_a_package_or_a_folder_is_one_too(options: tuple[str, ...], tmp_path: Path):
    package = tmp_path / "tools"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("FACTOR = 5\n")
    relative = "from .other import FACTOR" if options[0] == "-m" else "from other import FACTOR"
    program = f"""
import os
{relative}
def times(n): return n * FACTOR
@smart_async
def pooled():
    how = get_context("fork") if hasattr(os, "fork") else None
    with ProcessPoolExecutor(1, how) as pool:  # no other child of multiprocessing loads a `__main__.py`
        return list(pool.map(times, [2]))
async def main(): await told(pooled())
"""
    name = "program.py" if options[-1] == "tools.program" else "__main__.py"
    (package / name).write_text(TOP + program + GUARDED)
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    if options[0] == "-m":
        ended = run_python(*options, env=environment(PYTHONPATH=path))
    else:
        ended = run_python(package)
    assert (ended.stdout, ended.returncode) == ("[10]\n", 0), ended.stderr


HARD = """
class Trial:
    class StoppedError(Exception):
        pass
    def __init__(self, score): self.score = score
@smart_async
def scored(): return Trial(lambda: 3), Trial, doubled
@smart_async
def stopped(): raise Trial.StoppedError(lambda: 4)
@functools.cache
def doubled(n): return 2 * n
async def main():
    trial, kind, cached = await scored()
    print(json.dumps([type(trial) is Trial, trial.score(), kind is Trial, cached is doubled]))
    try:
        await stopped()
    except Trial.StoppedError as error:
        print(json.dumps(error.args[0]()))
"""


def test_objects_of_the_main_file_keep_their_names_beside_those_by_value(tmp_path: Path):
    assert answers(HARD + GUARDED, tmp_path) == [[True, 3, True, True], 4]


LATE = """
LEVEL = "as written"
def shout(text): return text.upper()
@smart_async
def rebound(): return shout(LEVEL)
@smart_async
def bound_late(): return shout(FOUND)
@smart_async
def plain(): return table["key"]
table = {}
async def main():
    table["key"] = "filled in"
    for call in (rebound(), bound_late(), plain()):
        await told(call)
if __name__ == "__main__":
    LEVEL = "as set"
    FOUND = "found"
    asyncio.run(main())
"""


def test_what_the_program_sets_as_it_runs_goes_along_by_value(tmp_path: Path):
    assert answers(LATE, tmp_path) == ["AS SET", "FOUND", "filled in"]


STATE = """
import os, sys
os.environ["MODE"] = "at the top"
os.environ["ONCE"] = "at the top"
os.chdir(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, "no folder")
def name(): return "MODE"
@smart_async
def seen(): return [os.environ[name()], os.environ["ONCE"], os.getcwd(), sys.path.count("no folder")]
async def main():
    for mode in ("first", "second"):
        os.environ["MODE"] = mode
        await told(seen())
if __name__ == "__main__":
    os.chdir("inside")
    asyncio.run(main())
"""


def test_the_main_files_changes_do_not_hide_the_servers_state(tmp_path: Path):
    inside = tmp_path / "inside"
    inside.mkdir()
    expected = [[mode, "at the top", str(inside), 1] for mode in ("first", "second")]
    assert answers(STATE, tmp_path) == expected


ODD_TOP = """
import os, signal
CHILD = os.fork() if in_worker() else 0
if in_worker():
    signal.set_wakeup_fd(-1)
def seen(): return os.waitpid(CHILD, 0)[1] >> 8
@smart_async
def forked(): return [seen(), signal.set_wakeup_fd(-1) > 0]
async def main(): await told(forked())
"""


@pytest.mark.skipif(os.name != "posix", reason="forks and the pipe of signals are those of POSIX")
def test_a_child_forked_by_the_main_file_is_no_worker_and_hears_sigterm(tmp_path: Path):
    assert answers(ODD_TOP + GUARDED, tmp_path) == [[1, True]]


LIGHT = """
import sys
import statistics
WEIGHTS = [1, 2, 6]
class Heavy: pass
heavy = Heavy()
@smart_async
def mean(): return [statistics.mean(WEIGHTS), hasattr(sys.modules["__main__"], "Heavy")]
@smart_async
def heavier(): return [isinstance(heavy, Heavy), hasattr(sys.modules["__main__"], "Heavy")]
async def main():
    await told(mean())
    await told(heavier())
"""


def test_a_body_of_modules_and_plain_data_costs_its_worker_no_main_file(tmp_path: Path):
    assert answers(LIGHT + GUARDED, tmp_path) == [[3, False], [True, True]]


NEEDS_MAIN = """
@functools.cache
def one(): return 1
def cube(n): return n ** 3
@smart_async
def copies(): return cube(2)
@smart_async
def by_name(): return one()
@smart_async
def pooled():
    with ProcessPoolExecutor(1) as pool:
        return list(pool.map(cube, [2]))
async def main():
    for call in (copies(), by_name(), pooled()):
        await told(call)
"""
HOSTILE = {
    "exits": ("if in_worker(): raise SystemExit(4)", "SystemExit: 4"),
    "raises": ("if in_worker(): raise OSError('not here')", "OSError: not here"),
    "reads": ("if in_worker(): input()", "EOFError"),
    "starts workers": (
        "if in_worker(): asyncio.run(default_manager().run(Request(print), budget_s=9))",
        "start a new process before",
    ),
    "dies": ("import os\nif in_worker(): os._exit(5)", "3 processes in a row ended"),
}


def check_fallback(said: list[Any], reason: str) -> None:
    assert said[0] == 8  # a copy does
    assert [kind for kind, _, _ in said[1:]] == ["AttributeError", "PicklingError"]
    for _, _, notes in said[1:]:
        assert "The worker has no copy of the main program, because" in notes
        assert reason in notes


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_main_file_that_cannot_be_loaded_again_is_left_out(kind: str, tmp_path: Path):
    line, reason = HOSTILE[kind]
    check_fallback(answers(f"{line}\n{NEEDS_MAIN}{GUARDED}", tmp_path), reason)


def test_a_main_file_without_a_guard_is_never_run_a_second_time(tmp_path: Path):
    program = f"print(json.dumps('top'), flush=True)\n{NEEDS_MAIN}\nasyncio.run(main())\n"
    said = answers(program, tmp_path)
    assert said.pop(0) == "top"
    check_fallback(said, 'program.py has no `if __name__ == "__main__":` block')


def test_calls_outside_of_the_guard_leave_the_main_file_out(tmp_path: Path):
    said = answers(
        f"{NEEDS_MAIN}\nasyncio.run(main()){GUARDED.replace('main()', 'asyncio.sleep(0)')}", tmp_path
    )
    check_fallback(said, "outside of its")


def test_a_main_file_changed_since_the_start_is_left_out(tmp_path: Path):
    change = "    import os, time\n    os.utime(__file__, (time.time() + 5,) * 2)\n    asyncio.run(main())"
    said = answers(NEEDS_MAIN + GUARDED.replace("    asyncio.run(main())", change), tmp_path)
    check_fallback(said, "was changed after the program started")


def test_a_program_without_a_file_is_told_so(tmp_path: Path):
    code = TOP + NEEDS_MAIN + GUARDED
    check_fallback(answers("", tmp_path, "-c", code), "the program has no main file")


def test_a_traceback_shows_the_lines_of_a_main_file_and_of_a_cell(tmp_path: Path):
    program = """
import linecache, sys
CELL = 'def cell(key):\\n    table = {}\\n    return table[key]  # of a cell\\n'
linecache.cache["<cell 7>"] = (len(CELL), None, CELL.splitlines(True), "<cell 7>")
exec(compile(CELL, "<cell 7>", "exec"))
@smart_async
def light(key):
    return {}[key]  # of a copy
@smart_async
def heavy(key):
    told; return {}[key]  # of the file
async def main():
    for body in (smart_async(cell), light, heavy):
        await told(body("k"))
"""
    said = answers(program + GUARDED, tmp_path)
    assert [kind for kind, _, _ in said] == ["KeyError"] * 3
    places = ['File "<cell 7>", line 3, in cell', "program.py", "program.py"]
    comments = ["# of a cell", "# of a copy", "# of the file"]
    for (_, _, notes), place, comment in zip(said, places, comments, strict=True):
        assert place in notes
        assert comment in notes


def test_an_instance_of_a_class_with_slots_comes_back_by_value_too(tmp_path: Path):
    program = """
import dataclasses
@dataclasses.dataclass(slots=True)
class Row:
    name: str
    cells: list
class Named:
    __slots__ = ("name",)
class Sized(Named):
    __slots__ = ("size",)
@smart_async
def rows():
    sized = Sized()
    sized.name, sized.size = "n", 2
    return [Row("a", [1, 2]), sized]
async def main():
    row, sized = await rows()
    print(json.dumps([type(row) is Row, row.cells, type(sized) is Sized, sized.name, sized.size]))
asyncio.run(main())
"""
    assert answers(program, tmp_path) == [[True, [1, 2], True, "n", 2]]


ARGUMENTS = """
import operator
class Parcel:
    def __init__(self, content): self.content = content
@functools.cache
def doubled(n): return 2 * n
Count = typing.NewType("Count", int)
call = smart_async(operator.call)
async def main():
    await told(call(operator.attrgetter("content"), Parcel(3)))
    await told(call(doubled, 4))
    await told(call(Count, 5))
    await told(call(len, [Parcel("x" * 400_000)]))
"""


def test_arguments_of_main_file_classes_reach_bodies_of_other_modules(tmp_path: Path):
    assert answers(ARGUMENTS + GUARDED, tmp_path) == [3, 8, 5, 1]
