"""The table at the end of a run."""

from __future__ import annotations

from collections import Counter

from attack.evidence import Evidence
from attack.history import History
from attack.stage import PLACES, Stage


def total_kills(stage: Stage) -> int:
    """Return how many processes were killed; to be stopped for a moment is no kill."""
    kills = sum(count for blow, count in stage.history.kills.items() if blow != "server stopped")
    return kills + len(stage.steps_died_at())


def table(stage: Stage, evidence: Evidence, breaches: list[str]) -> str:
    """Return the figures of a run, a line each."""
    history = stage.history
    lines = [
        ("seed", f"{stage.seed}, {stage.seconds:g} s, {stage.servers} servers"),
        ("kills", f"{total_kills(stage)}: {_counts(_kills(stage))}"),
        ("jobs left at the end", f"{len(evidence.jobs)}: {_counts(_ends(evidence))}"),
        ("ids told", str(sum(known.told_at is not None for known in history.jobs.values()))),
        ("starts", str(len(evidence.starts))),
        ("cancels aimed at", _counts(history.aims) or "none"),
        ("places used", f"{history.peak} of {PLACES}"),
        ("taken over", str(_taken_over(history, evidence))),
        ("pruned", f"{history.pruned} by {len(history.prunes)} prunes"),
        ("answers", _counts(_asked(history))),
        ("calls that were refused", _counts(history.refusals) or "none"),
        ("longest answer", f"{history.longest_s:.2f} s ({history.longest})"),
        ("breaches", str(len(breaches))),
    ]
    return "\n".join(f"{name:24} {value}" for name, value in lines)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def _kills(stage: Stage) -> Counter[str]:
    return stage.history.kills + Counter(f"store {death.step}" for death in stage.steps_died_at().values())


def _ends(evidence: Evidence) -> Counter[str]:
    return Counter(
        record["status"] + (f" ({record['error_kind']})" if record["error_kind"] else "")
        for record in evidence.jobs.values()
    )


def _asked(history: History) -> Counter[str]:
    counts: Counter[str] = Counter()
    for what, count in history.asked.items():
        counts[what.rpartition(" ")[2] if what.startswith(("client", "sniper", "manager")) else what] += count
    return counts


def _taken_over(history: History, evidence: Evidence) -> int:
    """How many jobs were settled under another owner than the process that accepted them."""
    owners = {job_id: (record["owner"] or {}).get("pid") for job_id, record in evidence.jobs.items()}
    submitters = {job_id: known.submitter for job_id, known in history.jobs.items() if known.submitter}
    return sum(owners.get(job_id) not in (None, pid) for job_id, pid in submitters.items())
