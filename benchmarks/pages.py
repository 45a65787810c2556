"""The tables of README.md and docs/performance.md, as the results in results/full have them.

    python benchmarks/pages.py           write them anew
    python benchmarks/pages.py --check   1 if one of them is not as it would be written

A table stands between ``<!-- bench: NAME -->`` and ``<!-- /bench -->``; what is around it is
written by hand. ``make bench`` ends with this.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

from peers import EVERYBODY, OURS, OURS_WITH_FLOW, PEERS
from report import Result, number, ratios, values

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "full"
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")
BLOCK = re.compile(r"(<!-- bench: (?P<name>[a-z-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
LABELS = {peer.name: peer.label for peer in EVERYBODY}
PYTHON = tuple(peer.name for peer in PEERS if peer.language == "python")
NODE = tuple(peer.name for peer in PEERS if peer.language == "node")


# -- figures ---------------------------------------------------------------------------------------


@cache
def result(scenario: str) -> Result:
    found: Result = json.loads((RESULTS / f"{scenario}.json").read_text())
    return found


def step(scenario: str, name: str) -> Result:
    found: Result = result(scenario)["steps"][name]
    return found


def figure(scenario: str, name: str, metric: str, system: str = OURS.name) -> float:
    """The median over the rounds."""
    return median(values(step(scenario, name), system, metric))


def ratio(scenario: str, name: str, metric: str, system: str) -> float | None:
    """The median of ours divided by theirs within each round; ``None`` if they have no figure."""
    found = ratios(step(scenario, name), system, metric)
    return median(found) if found else None


def nearest(
    scenario: str, name: str, metric: str, systems: Sequence[str], *, more: bool
) -> tuple[float, str] | None:
    """The ratio to whoever of them comes nearest to us, and who that is; ``None`` if nobody was
    measured."""
    found = [
        (each, system)
        for system in systems
        if (each := ratio(scenario, name, metric, system)) is not None
    ]
    return min(found, default=None) if more else max(found, default=None)


# -- what is asked for -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A row of the table of what is asked for.

    Attributes:
        what: Is measured.
        asked: The bound.
        most: It must not be more than that, rather than not less.
        seen: The figure, and against whom or what; ``None`` if it was not measured.
        unit: Of both.
    """

    what: str
    asked: float
    seen: Callable[[], tuple[float, str] | None]
    most: bool = False
    unit: str = ""

    def row(self) -> str:
        sign = "≤" if self.most else "≥"
        start = f"| {self.what} | {sign} {self.asked:g}{self.unit} |"
        if (found := self.seen()) is None:
            return f"{start} – | not measured |"
        seen, against = found
        is_met = seen <= self.asked if self.most else seen >= self.asked
        value = f"{seen:,.0f}" if seen >= 100 else f"{seen:.2f}"
        value = value if is_met else f"**{value}**"
        return f"{start} {value}{self.unit} | {against} |"


def peers(
    what: str,
    asked: float,
    where: tuple[str, str, str],
    systems: Sequence[str],
    named: str = "",
    *,
    most: bool = False,
) -> Target:
    """Ours to whoever of some systems comes nearest."""

    def seen() -> tuple[float, str] | None:
        if (found := nearest(*where, systems, more=not most)) is None:
            return None
        label = LABELS[found[1]]
        return found[0], f"{label}, {named}" if named else label

    return Target(what=what, asked=asked, seen=seen, most=most)


def itself(
    what: str, asked: float, where: tuple[str, str, str], *, most: bool = False, unit: str = ""
) -> Target:
    """A figure of ours as it is."""
    return Target(
        what=what, asked=asked, seen=lambda: (figure(*where), "itself"), most=most, unit=unit
    )


def grown(what: str, asked: float, metric: str, *, most: bool = False) -> Target:
    """With a million jobs waiting, of that with ten thousand."""

    def seen() -> tuple[float, str]:
        few, many = (figure("growth", f"waiting-{n}", metric) for n in (10_000, 1_000_000))
        return many / few, "itself"

    return Target(what=what, asked=asked, seen=seen, most=most)


DRAIN = ("drain", "noop", "rate")
CALL = ("call", "one", "p50")
CALLS = ("call", "100", "rate")
PICKUP = ("pickup", "idle", "p50")
FASTEST = "the fastest Python peer"
FASTER = "the faster Node peer"
TARGETS = (
    peers("drain, no-op, one process", 10, DRAIN, PYTHON, FASTEST),
    peers("the same", 2, DRAIN, ["bullmq"]),
    peers("the same", 3, DRAIN, ["platformatic"]),
    peers("the same, of the floor", 0.6, ("floor", "drain", "rate"), ["floor"]),
    peers(
        "enqueue, one at a time", 1.1, ("enqueue", "single", "rate"), PYTHON + NODE, "the fastest"
    ),
    peers("enqueue, 100 in flight", 5, ("enqueue", "concurrent", "rate"), PYTHON, FASTEST),
    peers("the same", 1.2, ("enqueue", "concurrent", "rate"), NODE, FASTER),
    peers("enqueue, bulk call", 3, ("enqueue", "bulk", "rate"), PYTHON, FASTEST),
    peers("call, one at a time, p50", 0.5, CALL, ["platformatic"], most=True),
    peers("the same", 0.6, CALL, ["bullmq"], most=True),
    peers("the same", 0.2, CALL, PYTHON, FASTEST, most=True),
    peers("call, 100 in flight, calls/s", 2, CALLS, NODE, FASTER),
    peers("the same, p99", 0.5, ("call", "100", "p99"), NODE, FASTER, most=True),
    peers("pick-up by an idle worker, p50", 0.6, PICKUP, PYTHON, FASTEST, most=True),
    peers("the same", 0.6, PICKUP, NODE, FASTER, most=True),
    itself("two processes, 10 ms handlers, times one", 1.9, ("drain", "10ms-2", "scaling")),
    grown("drain with 1 million waiting, of that with 10 thousand", 0.8, "rate"),
    grown("claim of one job, in the server, the same", 1.2, "claim_server_us", most=True),
    itself(
        "a waiting job in the server",
        350,
        ("growth", "memory", "waiting"),
        most=True,
        unit=" bytes",
    ),
    peers("SQLite, drain", 5, ("sqlite", "drain", "rate"), ["huey"]),
    itself(
        "SQLite, pick-up in another process, p50",
        20,
        ("sqlite", "pickup", "p50"),
        most=True,
        unit=" ms",
    ),
)
TARGETS_WITH_FLOW = (
    (
        "a limit for each of 1,000 keys, 4 processes: of the rate without",
        "≥ 0.7",
        ("limited", "share"),
    ),
    ("200 a second, sliding window: in the fullest 5 s", "≤ 1.02", ("rate-sliding", "most")),
    ("in the emptiest", "≥ 0.98", ("rate-sliding", "least")),
    ("200 a second, bucket of 10: in the fullest 5 s", "≤ 1.02", ("rate-bucket", "most")),
    ("in the emptiest", "≥ 0.98", ("rate-bucket", "least")),
    (
        "a `high` job behind 100,000 of 20 ms, ten at a time, starts after: p50, ms",
        "",
        ("urgent", "p50_ms"),
    ),
    ("worst of 100, ms", "about 20", ("urgent", "worst_ms")),
    ("a delayed job in an idle worker, after its time, p99, ms", "≤ 50", ("delayed", "p99_ms")),
    ("the same, SQLite", "≤ 50", ("delayed-sqlite", "p99_ms")),
    ("drain beside 1.5 million scheduled jobs, of that without", "≥ 0.95", ("scheduled", "share")),
)


# -- tables ----------------------------------------------------------------------------------------


def table(
    heads: Sequence[str], rows: Iterator[str] | Sequence[str], *, words: Sequence[int] = (0,)
) -> list[str]:
    """A table; the columns that are words, and no figures, by their numbers."""
    rules = ["---" if column in words else "---:" for column in range(len(heads))]
    return [f"| {' | '.join(heads)} |", f"|{'|'.join(rules)}|", *rows]


def overview() -> list[str]:
    def row(what: str, where: tuple[str, str, str], unit: str, *, more: bool) -> str:
        def cell(systems: Sequence[str]) -> str:
            if (found := nearest(*where, systems, more=more)) is None:
                return "–"
            name = f" {LABELS[found[1]]}" if len(systems) > 1 else ""
            return f"{found[0]:.{1 if more else 2}f} ×{name}"

        cells = [f"{number(figure(*where))} {unit}", cell(PYTHON), *(cell([name]) for name in NODE)]
        better = "more" if more else "less"
        return f"| {what}, {better} is better | {' | '.join(cells)} |"

    heads = ["", "jobqueue", "the fastest of ten Python queues", *(LABELS[name] for name in NODE)]
    return table(
        heads,
        [
            row("drain, no-op, one process", DRAIN, "jobs/s", more=True),
            row("enqueue, 100 in flight", ("enqueue", "concurrent", "rate"), "jobs/s", more=True),
            row("call, 100 in flight", CALLS, "calls/s", more=True),
            row("call, one at a time, p50", CALL, "ms", more=False),
            row("pick-up by an idle worker, p50", PICKUP, "ms", more=False),
        ],
    )


def machine() -> list[str]:
    about = result("drain")["about"]
    found = about["machine"]
    return [
        f"{found['cpu']}, {found['cores']} cores, shared and noisy; {about['server']}, Python "
        f"{about['versions'][OURS.name]['python']}."
    ]


def cost() -> list[str]:
    def row(name: str, what: str) -> str:
        python, server, scripts = (
            figure("cost", name, metric) for metric in ("python_us", "scripts_us", "scripts")
        )
        return f"| {what} | {number(python)} | {number(server)} | {scripts:.3g} |"

    return table(
        ["step", "Python, µs", "server, µs", "scripts"],
        [
            row("enqueue-single", "enqueue, one at a time"),
            row("enqueue-concurrent", "enqueue, 100 in flight"),
            row("enqueue-bulk", "enqueue, bulk call"),
            row("drain", "claim, run, finish; concurrency 100"),
            row("drain-10", "the same, concurrency 10"),
            row("drain-1", "the same, concurrency 1"),
            row("call", "call, one at a time, both sides"),
        ],
    )


def floor() -> list[str]:
    def row(what: str, name: str, metric: str, unit: str) -> str:
        cells = [
            f"{number(figure('floor', name, metric, system))} {unit}"
            for system in ("floor", OURS.name)
        ]
        return f"| {what} | {' | '.join(cells)} | {ratio('floor', name, metric, 'floor'):.2f} |"

    return table(
        ["", "floor", "jobqueue", "jobqueue / floor"],
        [
            row("enqueue, 100 in flight", "enqueue", "rate", "jobs/s"),
            row("drain, no-op", "drain", "rate", "jobs/s"),
            row("call, one at a time, p50", "call", "p50", "ms"),
            row("pick-up by an idle worker, p50", "pickup", "p50", "ms"),
        ],
    )


def hops() -> list[str]:
    def row(what: str, metric: str) -> str:
        return f"| {what} | {number(figure('pickup', 'hops', metric))} |"

    return table(
        ["a pick-up, from the enqueue on", "ms"],
        [
            row("written by the producer", "sent"),
            row("received by the worker", "received"),
            row("the handler's first line", "started"),
        ],
    )


def tuning() -> list[str]:
    def row(what: str, name: str, system: str = OURS.name) -> str:
        return f"| {what} | {number(figure('cost', name, 'rate', system))} |"

    return table(
        ["", "jobs/s"],
        [
            row("concurrency 1", "drain-1"),
            row("concurrency 10 (the default)", "drain-10"),
            row("concurrency 100", "drain"),
            row("concurrency 1000", "drain-1000"),
            row("concurrency 100, without uvloop", "drain", "no-uvloop"),
            row("concurrency 100, without hiredis", "drain", "no-hiredis"),
        ],
    )


def growth() -> list[str]:
    def row(waiting: int) -> str:
        cells = [
            number(figure("growth", f"waiting-{waiting}", metric))
            for metric in ("rate", "server_us", "claim_server_us")
        ]
        return f"| {waiting:,} | {' | '.join(cells)} |"

    heads = [
        "jobs waiting",
        "drain, jobs/s",
        "server CPU per job, µs",
        "claim of one job in the server, µs",
    ]
    return table(heads, [row(10_000), row(100_000), row(1_000_000)], words=())


def memory() -> list[str]:
    found = step("growth", "memory")

    def rows() -> Iterator[str]:
        for system, label in found["labels"].items():
            if values(found, system, "waiting"):
                waiting, finished = (
                    number(figure("growth", "memory", metric, system))
                    for metric in ("waiting", "finished")
                )
                name = f"**{label}**" if system == OURS.name else label
                yield f"| {name} | {waiting} | {finished} |"

    return table(["", "per waiting job, bytes", "per finished job, bytes"], rows())


def targets() -> list[str]:
    heads = ["", "asked for", "seen", "against"]
    return table(heads, [target.row() for target in TARGETS], words=(0, 3))


def flow() -> list[str]:
    def row(what: str, asked: str, where: tuple[str, str]) -> str:
        found = values(step("flow", where[0]), OURS_WITH_FLOW.name, where[1])
        value = number(median(found))
        spread = f"{number(min(found))} – {number(max(found))}" if len(found) > 1 else ""
        return f"| {what} | {asked} | {value} | {spread} |"

    return table(
        ["", "asked for", "seen", "lowest – highest"], [row(*each) for each in TARGETS_WITH_FLOW]
    )


TABLES: dict[str, Callable[[], list[str]]] = {
    each.__name__: each
    for each in (*(overview, machine, cost, floor, hops, tuning, growth, memory, targets, flow),)
}


def written(page: str) -> str:
    """A page with its tables as they are to be."""

    def block(found: re.Match[str]) -> str:
        lines = "\n".join(TABLES[found["name"]]())
        return f"{found[1]}\n{lines}\n\n{found[3]}"

    return BLOCK.sub(block, page)


def main() -> int:
    parser = argparse.ArgumentParser(description="The tables of the pages, from results/full.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; 1 if there is a change"
    )
    is_check = parser.parse_args().check
    status = 0
    for path in PAGES:
        old = path.read_text(encoding="utf-8")
        if (new := written(old)) == old:
            continue
        if is_check:
            print(
                f"{path.relative_to(ROOT)}: not as in {RESULTS.relative_to(ROOT)}", file=sys.stderr
            )
            status = 1
        else:
            path.write_text(new, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
