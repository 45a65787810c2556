"""Results as JSON, as a table for the terminal, as Markdown and as plots."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import plots
from peers import EVERYBODY, OURS
from rich.console import Console
from rich.table import Table

Result = dict[str, Any]
ORDER = (
    "enqueue",
    "drain",
    "call",
    "pickup",
    "growth",
    "floor",
    "cost",
    "sqlite",
    "memory",
    "flow",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One system's figures in one step."""

    name: str
    label: str
    jobs: int | None
    cells: tuple[tuple[str, str, str], ...]
    """For each metric: median, lowest to highest, ours divided by theirs."""
    missing: str = ""


def rows(step: Result) -> Iterator[Row]:
    """In the order in which they were measured."""
    for name, label in step["labels"].items():
        jobs = step["jobs"].get(name)
        reason = step["missing"].get(name, "")
        if not values(step, name, next(iter(step["metrics"]))):
            yield Row(name, label, None, (("–", "", ""),) * len(step["metrics"]), reason)
            continue
        yield Row(
            name, label, jobs, tuple(_cell(step, name, key) for key in step["metrics"]), reason
        )


def values(step: Result, name: str, metric: str) -> list[float]:
    """A system's figures, one for each round in which it has one."""
    return [figures[name][metric] for figures in step["rounds"] if metric in figures.get(name, {})]


def ratios(step: Result, name: str, metric: str) -> list[float]:
    """Ours divided by theirs, within each round."""
    return [
        figures[OURS.name][metric] / figures[name][metric]
        for figures in step["rounds"]
        if metric in figures.get(OURS.name, {}) and figures.get(name, {}).get(metric)
    ]


def is_compared(step: Result, metric: str) -> bool:
    """Whether anybody but us has this figure."""
    return any(values(step, name, metric) for name in step["labels"] if name != OURS.name)


def _cell(step: Result, name: str, metric: str) -> tuple[str, str, str]:
    found = values(step, name, metric)
    if not found:
        return ("–", "", "")
    ratio = ratios(step, name, metric) if name != OURS.name else []
    return (
        number(median(found)),
        f"{number(min(found))} – {number(max(found))}",
        f"{median(ratio):.2f}" if ratio else "",
    )


def number(value: float) -> str:
    """With three figures that count at least."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def show(console: Console, result: Result) -> None:
    """Tables on the terminal."""
    for step in result["steps"].values():
        table = Table(title=step["title"], title_justify="left")
        table.add_column("")
        compared = [is_compared(step, metric) for metric in step["metrics"]]
        for metric, has_ratio in zip(step["metrics"].values(), compared, strict=True):
            table.add_column(f"{metric['label']}, {metric['unit']}", justify="right")
            if has_ratio:
                table.add_column("ours / theirs", justify="right")
        table.add_column("jobs", justify="right")
        for row in rows(step):
            cells: list[str] = []
            for (figure, _, ratio), has_ratio in zip(row.cells, compared, strict=True):
                cells += [figure, ratio] if has_ratio else [figure]
            last = f"{row.jobs:,}" if row.jobs else row.missing[:40]
            table.add_row(row.label, *cells, last)
        console.print(table)


def write(folder: Path, result: Result) -> None:
    """The scenario's JSON and plots, and the page that shows all scenarios of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    name = result["scenario"]
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    svg = plots.scenario(result)
    if svg:
        (folder / f"{name}.svg").write_text(svg)
    found = [folder / f"{scenario}.json" for scenario in ORDER]
    results = [json.loads(path.read_text()) for path in found if path.is_file()]
    page(folder, results)
    if overview := plots.overview(results):
        (folder / "overview.svg").write_text(overview)


def page(folder: Path, results: list[Result]) -> None:
    """README.md of the results."""
    lines = [
        "# Results",
        "",
        "Written by `benchmarks/bench.py`; [../../README.md](../../README.md) says how it is done. "
        "A figure is the median over the rounds, with the lowest and the highest beside it; "
        "*ours / theirs* is the median of the ratios within each round.",
        "",
    ]
    for result in results:
        lines += _scenario(folder, result)
    lines += _versions(results)
    (folder / "README.md").write_text("\n".join(lines))


def _scenario(folder: Path, result: Result) -> Iterator[str]:
    about = result["about"]
    machine = about["machine"]
    yield f"## {result['title']}"
    yield ""
    yield about["text"]
    yield ""
    if (folder / f"{result['scenario']}.svg").is_file():
        yield f"![{result['title']}]({result['scenario']}.svg)"
        yield ""
    for step in result["steps"].values():
        yield from _markdown(step)
    yield (
        f"{about['when']}, commit {about['commit']}, {about['server']}, {about['rounds']} rounds, "
        f"{machine['cpu']} with {machine['cores']} cores and {machine['memory_gib']} GiB, "
        f"{machine['system']}, load {machine['load_before']} before. `{about['command']}`"
    )
    yield ""


def _markdown(step: Result) -> Iterator[str]:
    heads = [step["title"]]
    compared = [is_compared(step, metric) for metric in step["metrics"]]
    for metric, has_ratio in zip(step["metrics"].values(), compared, strict=True):
        heads += [f"{metric['label']}, {metric['unit']}", "lowest – highest"]
        heads += ["ours / theirs"] if has_ratio else []
    rules = ["---", *["---:"] * (len(heads) - 1)]
    yield f"| {' | '.join([*heads, 'jobs'])} |"
    yield f"| {' | '.join([*rules, '---:'])} |"
    for row in rows(step):
        label = f"**{row.label}**" if row.name == OURS.name else row.label
        cells: list[str] = []
        for cell, has_ratio in zip(row.cells, compared, strict=True):
            cells += cell if has_ratio else cell[:2]
        last = f"{row.jobs:,}" if row.jobs else ""
        if row.missing:
            last = f"{last} {row.missing}".strip().replace("|", "/")
        yield f"| {' | '.join([label, *cells, last])} |"
    yield ""


def _versions(results: list[Result]) -> Iterator[str]:
    versions: dict[str, dict[str, str]] = {}
    for result in results:
        versions |= result["about"]["versions"]
    yield "## Versions and settings"
    yield ""
    yield "| system | versions | in these figures |"
    yield "|---|---|---|"
    for peer in EVERYBODY:
        if peer.name in versions:
            listed = ", ".join(f"{key} {value}" for key, value in versions[peer.name].items())
            yield f"| {peer.label} | {listed} | {peer.about} |"
    yield ""
