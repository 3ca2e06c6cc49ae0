"""The figures that are printed at the end of a run."""

from __future__ import annotations

from collections import Counter

from chaos_testing.environment import SLOTS, Environment
from chaos_testing.final_state import FinalState
from chaos_testing.history import History


def total_kills(environment: Environment) -> int:
    """Return how many processes were killed. A server that was only stopped for a while does not count."""
    kills = sum(count for hit, count in environment.history.kills.items() if hit != "server stopped")
    return kills + len(environment.crashes_by_pid())


def table(environment: Environment, final_state: FinalState, breaches: list[str]) -> str:
    """Return the figures of a run, a line each."""
    history = environment.history
    lines = [
        ("seed", f"{environment.seed}, {environment.seconds:g} s, {environment.servers} servers"),
        ("kills", f"{total_kills(environment)}: {_counts(_kills(environment))}"),
        ("jobs left at the end", f"{len(final_state.jobs)}: {_counts(_ends(final_state))}"),
        ("ids returned", str(sum(known.told_at is not None for known in history.jobs.values()))),
        ("starts", str(len(final_state.starts))),
        ("starts of queued jobs", _queued_starts(final_state)),
        ("targeted cancels", _counts(history.targets) or "none"),
        ("slots used", f"{history.peak_slots} of {SLOTS}"),
        ("taken over", str(_taken_over(history, final_state))),
        ("pruned", f"{history.pruned} by {len(history.prunes)} prunes"),
        ("answers", _counts(_asked(history))),
        ("refused calls", _counts(history.refusals) or "none"),
        ("longest answer", f"{history.longest_s:.2f} s ({history.longest})"),
        ("breaches", str(len(breaches))),
    ]
    return "\n".join(f"{name:24} {value}" for name, value in lines)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _kills(environment: Environment) -> Counter[str]:
    return environment.history.kills + Counter(
        f"store {crash.step}" for crash in environment.crashes_by_pid().values()
    )


def _ends(final_state: FinalState) -> Counter[str]:
    return Counter(
        record["status"] + (f" ({record['error_kind']})" if record["error_kind"] else "")
        for record in final_state.jobs.values()
    )


def _asked(history: History) -> Counter[str]:
    counts: Counter[str] = Counter()
    for what, count in history.asked.items():
        counts[what.rpartition(" ")[2] if what.startswith(("client", "canceller", "manager")) else what] += (
            count
        )
    return counts


def _queued_starts(final_state: FinalState) -> str:
    runs = final_state.notes.runs
    ways = Counter(run.how or "killed" for run in runs)
    further = sum(run.attempt > 1 for run in runs)
    scheduled = sum(bool(record.get("schedule")) for record in final_state.jobs.values())
    return f"{len(runs)}: {_counts(ways)}; {further} of a further attempt; {scheduled} jobs of schedules"


def _taken_over(history: History, final_state: FinalState) -> int:
    """Count the jobs that were settled by another owner than the process that accepted them."""
    owners = {job_id: (record["owner"] or {}).get("pid") for job_id, record in final_state.jobs.items()}
    submitters = {job_id: known.submitter for job_id, known in history.jobs.items() if known.submitter}
    return sum(owners.get(job_id) not in (None, pid) for job_id, pid in submitters.items())
