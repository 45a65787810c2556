"""Plots as SVG, written by hand: bars for what is compared, lines for what grows."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from statistics import median
from typing import Any

from peers import OURS

Result = dict[str, Any]
WIDTH = 760
LABEL = 190
VALUE = 110
BAR = 16
GAP = 6
TITLE = 34
OURS_COLOUR = "#d9480f"
THEIRS_COLOUR = "#868e96"
TEXT_COLOUR = "#495057"
STYLE = (
    "text{font-family:system-ui,sans-serif;font-size:12px;fill:" + TEXT_COLOUR + "}"
    ".title{font-size:14px;font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#ced4da}}"
)


OVERVIEW = (
    ("drain", "noop"),
    ("enqueue", "concurrent"),
    ("call", "one"),
    ("pickup", "idle"),
)
"""Scenarios and steps of the one plot that says most."""


def scenario(result: Result) -> str:
    """A panel of bars for each step, by its first metric; of growth, also the memory."""
    shown = [
        (step, metric)
        for step in result["steps"].values()
        for metric in list(step["metrics"])[: None if "waiting" in step["metrics"] else 1]
    ]
    return _panels(result["title"], shown)


def overview(results: list[Result]) -> str:
    """The panels of :data:`OVERVIEW`, as far as they have been measured."""
    steps = {
        (result["scenario"], name): step
        for result in results
        for name, step in result["steps"].items()
    }
    found = [steps[key] for key in OVERVIEW if key in steps]
    return _panels("Overview", [(step, next(iter(step["metrics"]))) for step in found])


def _panels(label: str, shown: list[tuple[Result, str]]) -> str:
    panels: list[str] = []
    top = 8
    for step, metric in shown:
        panel, height = _bars(step, metric, top)
        if height:
            panels.append(panel)
            top += height
    if not panels:
        return ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" '
        f'height="{top}" role="img" aria-label="{escape(label)}">\n'
        f"<style>{STYLE}</style>\n" + "\n".join(panels) + "\n</svg>\n"
    )


def _bars(step: Result, metric: str, top: int) -> tuple[str, int]:
    """The bars of one metric, best first, and the height of the panel (0: nothing to show)."""
    found = {
        name: [
            figures[name][metric] for figures in step["rounds"] if metric in figures.get(name, {})
        ]
        for name in step["labels"]
    }
    medians = {name: median(values) for name, values in found.items() if values}
    if not medians:
        return "", 0
    about = step["metrics"][metric]
    best_first = sorted(medians, key=lambda name: medians[name], reverse=about["higher_is_better"])
    better = "higher" if about["higher_is_better"] else "lower"
    title = f"{step['title']} – {about['label']}, {about['unit']} ({better} is better)"
    lines = [f'<text class="title" x="8" y="{top + 18}">{escape(title)}</text>']
    longest = max(medians.values()) or 1
    y = top + TITLE
    for name in best_first:
        lines += _bar(step["labels"][name], medians[name], longest, y, name == OURS.name)
        y += BAR + GAP
    return "\n".join(lines), y - top + 12


def _bar(label: str, value: float, longest: float, y: int, is_ours: bool) -> Iterator[str]:
    length = max(1.0, (WIDTH - LABEL - VALUE) * value / longest)
    colour = OURS_COLOUR if is_ours else THEIRS_COLOUR
    text = y + BAR - 4
    yield f'<text x="{LABEL - 8}" y="{text}" text-anchor="end">{escape(label)}</text>'
    yield f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
    yield f'<text x="{LABEL + length + 6:.1f}" y="{text}">{_number(value)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
