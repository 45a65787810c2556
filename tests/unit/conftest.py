"""Hypothesis for the unit tests: the same examples each time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile(
    "unit",
    deadline=None,
    database=None,
    derandomize=True,
    print_blob=True,
)
settings.load_profile("unit")
