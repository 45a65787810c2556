"""A storage against the model, for a number of steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.flowing import FlowMachine
from tests.support.backends import Backend

_SEEDS: Final = 1_000_003


def compare(
    make_place: Callable[[], Backend], *, steps: int, of_a_run: int, start: int = 0
) -> Counter[str]:
    """Do random steps on a storage and on the model; the same ones for the same ``start``.

    Args:
        make_place: Makes an empty place for the jobs of one run.
        steps: That many are taken at least.
        of_a_run: Steps after which a run ends, and another one begins on an empty place.
        start: The seed.

    Returns:
        What was really done: ``steps``, ``runs``, and the calls of each verb of the port, all of
        which both have answered alike.

    Raises:
        AssertionError: They disagree. Its notes are the calls that lead there, as short as could be
            found.
    """
    done: Counter[str] = Counter()
    part = 0
    while done["steps"] < steps:

        def make_machine() -> FlowMachine:
            return FlowMachine(make_place, done)

        # A run ends early now and then: what that leaves is made up for in a further part.
        runs = settings(
            max_examples=-(-(steps - done["steps"]) // of_a_run),
            stateful_step_count=of_a_run,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(seed(start * _SEEDS + part)(make_machine), settings=runs)
        part += 1
    return done
