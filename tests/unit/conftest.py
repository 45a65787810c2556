"""Hypothesis for the unit tests: the same examples each time, unless more steps are asked for."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile(
    "unit",
    deadline=None,
    database=None,
    derandomize="JOBQUEUE_PROPERTY_STEPS" not in os.environ,
    print_blob=True,
)
settings.load_profile("unit")
