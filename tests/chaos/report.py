"""What a run prints: one line for people, or one of JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.chaos.stage import Size
from tests.chaos.verdict import Verdict

_SHOWN: Final = 5
"""Examples of each bad class."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One run and its verdict."""

    scenario: str
    title: str
    server: str
    seed: int
    scale: float
    size: Size
    verdict: Verdict
    faults: dict[str, int]
    figures: dict[str, Any]
    warnings: list[str]
    seconds: float

    @property
    def good(self) -> bool:
        return self.verdict.good and not self.verdict.late

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON can hold them."""
        verdict = self.verdict
        return {
            "scenario": self.scenario,
            "title": self.title,
            "good": self.good,
            "server": self.server,
            "seed": self.seed,
            "scale": self.scale,
            **asdict(self.size),
            "accepted": verdict.accepted,
            "completed": verdict.completed,
            "lost": len(verdict.lost),
            "excused": verdict.excused,
            "duplicated_justified": verdict.justified,
            "duplicated_unjustified": len(verdict.unjustified),
            "recovered": verdict.recovered,
            "unexpected": len(verdict.unexpected),
            "late": len(verdict.late),
            "recovery_p50": verdict.share(0.5),
            "recovery_p99": verdict.share(0.99),
            "faults": self.faults,
            "warnings": len(self.warnings),
            **self.figures,
            "took": round(self.seconds, 2),
            "examples": self.examples(),
        }

    def line(self) -> str:
        """The figures in one line."""
        verdict = self.verdict
        parts = [
            f"{verdict.jobs:,} jobs",
            f"{verdict.accepted:,} accepted",
            f"{verdict.completed:,} completed",
            f"lost {len(verdict.lost)} (+{verdict.excused} excused)",
            f"duplicated {len(verdict.unjustified)} (+{verdict.justified} justified)",
            f"recovered {verdict.recovered}",
            f"unexpected {len(verdict.unexpected)}",
            f"late {len(verdict.late)}",
            *(f"{number} {name}" for name, number in self.faults.items()),
        ]
        if verdict.recovery:
            parts.append(
                f"recovery p50 {verdict.share(0.5):.2f} s, p99 {verdict.share(0.99):.2f} s"
            )
        parts += [f"{name} {_shown(value)}" for name, value in self.figures.items()]
        word = "good" if self.good else "BAD "
        head = f"{self.scenario:<4} {word} seed {self.seed} {self.server}"
        return f"{head} · {' · '.join(parts)} · took {self.seconds:.1f} s"

    def examples(self) -> list[str]:
        """Some of what makes the verdict bad, in words."""
        verdict = self.verdict
        return [
            *(f"lost: {each}" for each in verdict.lost[:_SHOWN]),
            *(f"duplicated: {each}" for each in verdict.unjustified[:_SHOWN]),
            *(f"unexpected: {each}" for each in verdict.unexpected[:_SHOWN]),
            *(f"late: {each}" for each in verdict.late[:_SHOWN]),
        ]


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
