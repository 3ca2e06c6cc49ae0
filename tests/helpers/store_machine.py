"""A store against a dictionary, in any order of commands, through one process or several."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from python_mcp_server.model import JobState, base32
from python_mcp_server.store.files import FileJobStore
from tests.helpers.store_kills import entries, told
from tests.helpers.store_process import DIED, Child

STATUSES = st.sampled_from([state.value for state in JobState])
ENDS = [state.value for state in JobState if state.terminal]
GIVEN = st.sampled_from([base32(number << 130, 34) for number in range(4)])
SIZES = st.sampled_from([0, 10, 70_000])
HOURS = st.sampled_from([0, 0, 2, 30])
WHICH = st.integers(0, 5)
WHO = st.sampled_from([None, "ada", "bob"])


class Asked(Protocol):
    """Anything that carries out commands: a server in this process or in a child."""

    def ask(self, command: str, *arguments: Any) -> Any: ...


class StoreMachine(RuleBasedStateMachine):
    """The model is the expected content of the store: a record and the hours since its end, by id."""

    ids = Bundle("ids")

    def __init__(self, servers: Sequence[Asked]):
        super().__init__()
        self.servers = servers
        self.directory = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.home = str(self.directory / "home")
        self.model: dict[str, dict[str, Any]] = {}
        self.ages_h: dict[str, float] = {}

    def server(self, which: int) -> Asked:
        return self.servers[which % len(self.servers)]

    @initialize()
    def open(self):
        for server in self.servers:
            server.ask("open", self.home)

    @rule(target=ids, which=WHICH, job_id=GIVEN | st.none(), status=STATUSES, size=SIZES, who=WHO)
    def create(self, which: int, job_id: str | None, status: str, size: int, who: str | None):
        made = self.server(which).ask("create", job_id, status, size, who)
        assert (made is None) == (job_id in self.model)
        if made is not None:
            self.model[made["id"]], self.ages_h[made["id"]] = made, 0
        return made["id"] if made else job_id

    @rule(which=WHICH, job_id=ids, status=STATUSES, number=st.integers(0, 9), hours=HOURS, size=SIZES)
    def update(self, which: int, job_id: str, status: str, number: int, hours: float, size: int):  # noqa: PLR0917  drawn by name
        new = self.server(which).ask("update", job_id, status, number, hours, size)
        self.must_be_updated(job_id, new, status, number, hours)

    def must_be_updated(self, job_id: str, new: Any, status: str, number: int, hours: float) -> None:
        old = self.model.get(job_id)
        if old is None or old["status"] in ENDS:
            assert new == old
            return
        assert (new["status"], new["progress"]["current"]) == (status, number)
        self.model[job_id], self.ages_h[job_id] = new, hours if status in ENDS else 0

    @rule(which=WHICH, statuses=st.lists(st.sampled_from(ENDS)), hours=HOURS, who=WHO)
    def prune(self, which: int, statuses: list[str], hours: float, who: str | None):
        own = self.of(who)
        going = [
            record["id"]
            for record in own
            if record["status"] in statuses and self.ages_h[record["id"]] >= hours
        ]
        removed, remaining = self.server(which).ask("prune", statuses, hours, who)
        for job_id in going:
            del self.model[job_id]
        assert (removed, remaining) == (len(going), len(own) - len(going))
        store_folders = {path.name for path in Path(self.home, "output").glob("*/*")}
        assert store_folders <= set(self.model)

    @rule(which=WHICH, job_id=ids)
    def get(self, which: int, job_id: str):
        assert self.server(which).ask("get", job_id) == self.model.get(job_id)

    def of(self, who: str | None) -> list[dict[str, Any]]:
        return [record for record in self.model.values() if who in (None, record["principal"])]

    @rule(which=WHICH, status=STATUSES | st.none(), limit=st.sampled_from([1, 3, 1000]), who=WHO, before=ids)
    def list(self, which: int, status: str | None, limit: int, who: str | None, before: str):
        for start in (None, before):
            fitting = [
                record["id"]
                for record in self.of(who)
                if status in (None, record["status"]) and (start is None or record["id"] < start)
            ]
            fitting.sort(reverse=True)
            listed, more = self.server(which).ask("list", status, limit, who, start)
            assert (listed, more) == (fitting[:limit], len(fitting) > limit)

    @rule(which=WHICH)
    def open_again(self, which: int):
        self.server(which).ask("open", self.home)

    def teardown(self):
        for server in self.servers:
            server.ask("close")
        store = FileJobStore(Path(self.home))
        try:
            found = store.survey()
            assert (found.readable, found.left, found.damaged) == (len(self.model), [], [])
            for job_id, record in self.model.items():
                job = store.get(job_id)
                assert job is not None
                assert job.to_record() == record
                numbers = list(range(1, record["event"]["number"] + 1))
                assert told(store, job) in (numbers, numbers[:-1])  # a killed writer leaves out the last
            assert entries(Path(self.home)) == {i for i, record in self.model.items() if record["principal"]}
            for name in ("tmp", "trash"):
                assert not [*Path(self.home, "jobs", name).iterdir()]
        finally:
            store.close()
            shutil.rmtree(self.directory)


class StoreMachineOfProcesses(StoreMachine):
    """As `StoreMachine`, over several processes, which race and are killed."""

    ids = StoreMachine.ids

    def __init__(self, children: Sequence[Child]):
        super().__init__(children)
        self.children = children

    @rule(job_id=ids, ends=st.permutations(ENDS))
    def settle_at_once(self, job_id: str, ends: Sequence[str]):
        """All processes end one job, each with another result; all get the same answer."""
        for child, end in zip(self.children, ends, strict=False):
            child.begin("update", job_id, end, 1, 0, 10)
        told = [child.answer() for child in self.children]
        assert all(answer == told[0] for answer in told)
        if told[0] is not None:
            self.must_be_updated(job_id, told[0], told[0]["status"], 1, 0)

    @rule(target=ids, job_id=GIVEN)
    def create_at_once(self, job_id: str):
        """All processes create a job with one id; exactly one succeeds."""
        for child in self.children:
            child.begin("create", job_id, "running", 0)
        made = [answer for child in self.children if (answer := child.answer())]
        assert len(made) == (job_id not in self.model)
        if made:
            self.model[job_id], self.ages_h[job_id] = made[0], 0
        return job_id

    @rule(which=WHICH, step=st.integers(1, 30), job_id=ids, status=STATUSES, size=SIZES)
    def die_in_an_update(self, which: int, step: int, job_id: str, status: str, size: int):
        if self.dies(which, step, "update", job_id, status, 7, 0, size):
            found = self.server(which + 1).ask("get", job_id)
            if found != self.model.get(job_id):
                self.must_be_updated(job_id, found, status, 7, 0)
        else:
            self.must_be_updated(job_id, self.answer, status, 7, 0)

    @rule(target=ids, which=WHICH, step=st.integers(1, 30), job_id=GIVEN)
    def die_in_a_create(self, which: int, step: int, job_id: str):
        old = self.model.get(job_id)
        died = self.dies(which, step, "create", job_id, "running", 0, "ada")
        found = self.server(which + 1).ask("get", job_id)
        assert (self.answer, found) in ((found, found), (None, old), (DIED, found))
        assert found or died
        if old is None and found:
            self.model[job_id], self.ages_h[job_id] = found, 0
        return job_id

    @rule(which=WHICH, step=st.integers(1, 30))
    def die_in_a_prune(self, which: int, step: int):
        """It may have removed some jobs; none of those comes back, and no other is missing."""
        died = self.dies(which, step, "prune", ["completed", "failed"], 1)
        may_go = [i for i, r in self.model.items() if r["status"] in ENDS[:2] and self.ages_h[i] >= 1]
        for gone in may_go:
            if self.server(which + 1).ask("get", gone) is None:
                del self.model[gone]
            else:
                assert died

    def dies(self, which: int, step: int, command: str, *arguments: Any) -> bool:
        """Let a process carry this out and die at this step; return whether it died. It is restarted then."""
        child = self.server(which)
        self.answer = child.ask("dying", step, command, *arguments)
        if self.answer != DIED:
            return False
        child.ask("open", self.home)
        return True
