"""One small call over stdio: our transport beside the stock one, isolation beside none."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.figures import Figure, figure_of
from benchmarks.servers import peer, serving, timed

_BLOCK = 20
_NOTICES = 500
_CALLS = {
    "stock": ("bare", "echo"),
    "stock def": ("bare", "repeat"),
    "transport": ("swift", "echo"),
    "isolated": ("ours", "repeat"),
}
"""Each is a server and its tool: `echo` is async and runs there, `repeat` is a plain function."""


def measure(repeats: int) -> list[Figure]:
    """Return the call's time for each pair, and how many notifications pass in a second."""
    with ExitStack() as stack:
        names = {name for name, _ in _CALLS.values()}
        servers = {name: stack.enter_context(serving(*peer(name))).open() for name in sorted(names)}
        times: dict[str, list[float]] = {name: [] for name in _CALLS}
        notices: dict[str, list[float]] = {"bare": [], "swift": []}
        for turn in range(-1, max(1, repeats // _BLOCK)):  # the turn before the first warms them up
            for name, (server, tool) in _CALLS.items():
                block = [timed(servers[server], tool, text="hello") for _ in range(_BLOCK)]
                times[name] += block if turn >= 0 else []
            for name, each in notices.items():
                each.append(timed(servers[name], "notify", progress=True, count=_NOTICES) / _NOTICES)
    return [*_calls(times), *_notices(notices)]


def _calls(times: dict[str, list[float]]) -> list[Figure]:
    def beside(what: str, ours: str, peer: str, name: str, ratio: float | None = None) -> Figure:
        aim = "" if ratio is None else f"at most {ratio}x"
        return figure_of(
            "stdio", what, times[ours], "us", peer=name, peer_seconds=times[peer], aim=aim, ratio=ratio
        )

    isolated = "a small call, isolated, over our server"
    return [
        beside("a small call, over our transport", "transport", "stock", "the stock transport", 0.5),
        beside(isolated, "isolated", "stock def", "not isolated, stock MCPServer", 0.6),
        beside(isolated, "isolated", "stock", "the same as async def"),
    ]


def _notices(times: dict[str, list[float]]) -> list[Figure]:
    rates = {name: sorted(1 / seconds for seconds in each[1:]) for name, each in times.items()}
    ours, stock = (rates[name][len(rates[name]) // 2] for name in ("swift", "bare"))
    what = "notifications of progress a second, more is better"
    return [Figure("stdio", what, ours, "/s", len(rates["swift"]), "the stock transport", stock)]
