"""What is seen during a hostile run, and the breaches of what a server promises."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from chaos_testing.hostile.http_server import NO_ANSWER, Answer

LONGEST_S: Final = 30.0
LARGEST_LIST: Final = 1_100_000
LARGEST_LOG: Final = 256_000
_OWN_CODE: Final = "python_mcp_server/"
_SERVER_ERROR: Final = 500
_BUSY: Final = 503


@dataclass(slots=True)
class Findings:
    """What was seen.

    Attributes:
        secret: A text in all that the first principal does; nobody else may see it.
        counts: How often each thing was done, or answered.
        slowest: The slowest answer of each principal, in seconds.
        breaches: A sentence for each breach.
    """

    secret: str
    counts: Counter[str] = field(default_factory=Counter[str])
    slowest: dict[str, tuple[float, str]] = field(default_factory=dict[str, tuple[float, str]])
    breaches: list[str] = field(default_factory=list[str])

    def breach(self, text: str, seen: str = "") -> None:
        """Note a breach, once, with what was seen the first time."""
        if not any(breach.startswith(text) for breach in self.breaches):
            self.breaches.append(f"{text}: {seen}" if seen else text)

    def answered(self, who: str, what: str, answer: Answer) -> None:
        """Check an answer for what no answer may be."""
        self.counts[f"{who}: {answer.status}"] += 1
        if answer.seconds > self.slowest.get(who, (0.0, ""))[0]:
            self.slowest[who] = (answer.seconds, what)
        if answer.status == NO_ANSWER and who == "peaceful":
            self.breach(f"{who}: {what} got no answer: {answer.text:.200}")
        if answer.status >= _SERVER_ERROR and answer.status != _BUSY:
            self.breach(f"{who}: {what} got {answer.status}: {answer.text:.200}")
        if "Traceback (most recent call last)" in answer.text and _OWN_CODE in answer.text:
            self.breach(f"{who}: {what} got a traceback of the server", answer.text[-300:])
        if "list" in what and len(answer.text) > LARGEST_LIST:
            self.breach(f"{who}: {what} got {len(answer.text)} characters")
        if who != "peaceful" and self.secret in answer.text:
            self.breach(f"{who}: {what} saw what another principal did")

    def table(self) -> str:
        """Return the figures, a line each."""
        lines = [(name, str(count)) for name, count in sorted(self.counts.items())]
        lines += [(f"{who}: slowest", f"{time:.2f} s ({what})") for who, (time, what) in self.slowest.items()]
        lines.append(("breaches", str(len(self.breaches))))
        return "\n".join(f"{name:40} {value}" for name, value in lines)
