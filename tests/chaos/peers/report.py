"""What the comparison prints and writes: a line for each run, JSON, and a page of tables."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.chaos.peers.campaign import TRIALS
from tests.chaos.peers.systems import SYSTEMS

_COLUMNS: Final = (
    ("queue", "system"),
    ("acknowledged", "accepted"),
    ("ended before the last fault", "during_faults"),
    ("lost", "lost"),
    ("of them known already", "lost_known"),
    ("not done in the end", "stranded"),
    ("of them never run", "stranded_unrun"),
    ("ended after new jobs came", "needed_new_jobs"),
    ("repeated, justified", "repeated_justified"),
    ("repeated, not justified", "repeated_unjustified"),
    ("ended twice", "ended_twice"),
    ("told as done twice", "settled_twice"),
    ("workers that ended by themselves", "died"),
    ("producers that did", "producers_died"),
    ("recovery p50, s", "recovery_p50"),
    ("max, s", "recovery_max"),
    ("last job's end after the last fault, s", "drained_in"),
)
_SECONDS: Final = ("recovery_p50", "recovery_max", "drained_in")


def line(result: dict[str, Any]) -> str:
    """One run, in one line."""
    parts = [f"{title} {_shown(result[key])}" for title, key in _COLUMNS[1:]]
    parts += [f"{count} {name}" for name, count in result["faults"].items()]
    head = f"{result['scenario']:<3} {result['system']:<9} seed {result['seed']}"
    return f"{head} · {' · '.join(parts)} · took {result['took']:.0f} s"


def write(folder: Path, about: dict[str, Any], result: dict[str, Any]) -> None:
    """Write a run into its scenario's JSON, in the place of the same run of before, and the page
    of all scenarios anew."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['scenario']}.json"
    before: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": []}
    runs = [each for each in before["runs"] if _which(each) != _which(result)]
    systems = before.get("about", {}).get("systems", {}) | about["systems"]
    both = {"about": {**about, "systems": systems}, "runs": [*runs, result]}
    path.write_text(json.dumps(both, indent=1) + "\n")
    (folder / "README.md").write_text(_page(folder))


def _which(result: dict[str, Any]) -> tuple[str, int]:
    return result["system"], result["seed"]


def _page(folder: Path) -> str:
    lines = ["# Other queues under the same faults", ""]
    page = "docs/peers-under-faults.md"
    lines += [f"What the columns mean, and what follows: [{page}](../../../{page})."]
    about: dict[str, Any] = {"systems": {}}
    for trial in TRIALS.values():
        path = folder / f"{trial.name}.json"
        if path.exists():
            both = json.loads(path.read_text())
            about = both["about"]
            lines += ["", f"## {trial.name}: {trial.title}", ""]
            lines += [f'`make chaos ARGS="{trial.name} --peers --seed {about["seed"]}"`, ']
            lines[-1] += f"scale {about['scale']:g}, {about['server']}, Python {about['python']}"
            lines += ["", *_table(both["runs"])]
    lines += ["", "## Settings", "", "| queue | versions | settings |", "|---|---|---|"]
    for name, system in about["systems"].items():
        lines.append(f"| {name} | {system['versions']} | {system['settings']} |")
    return "\n".join(lines) + "\n"


def _table(results: list[dict[str, Any]]) -> list[str]:
    titles = [title for title, _ in _COLUMNS]
    lines = ["| " + " | ".join([*titles, "faults"]) + " |"]
    lines.append("|---" + "|---:" * (len(titles) - 1) + "|---|")
    for name in SYSTEMS:
        rounds = [result for result in results if result["system"] == name]
        if not rounds:
            continue
        of_one = _together(rounds)
        cells = [_shown(of_one[key]) for _, key in _COLUMNS]
        cells.append(", ".join(f"{number} {name}" for name, number in of_one["faults"].items()))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _together(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The rounds of one queue: counts are added up, of seconds the longest is taken."""
    together = dict(rounds[0])
    for result in rounds[1:]:
        for _, key in _COLUMNS[1:]:
            given = [each for each in (together[key], result[key]) if each is not None]
            together[key] = max(given, default=None) if key in _SECONDS else sum(given)
        counted = Counter(together["faults"]) + Counter(result["faults"])
        together["faults"] = dict(counted)
    return together


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
