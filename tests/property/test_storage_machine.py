"""Every storage against the model: long random sequences of calls, crashes and jumps in time.

``JOBQUEUE_PROPERTY_STEPS`` is the number of calls for each storage; without it, few, and the same
ones each time. A failure prints the calls that lead to it, as short as could be found.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from jobqueue.states import TRANSITIONS, JobState
from tests.property.machine import STEPS, StorageMachine, is_legal
from tests.support.backends import Backend, BackendEntry
from tests.support.servers import ServerPool

ENVIRONMENT: Final = "JOBQUEUE_PROPERTY_STEPS"
WANTED: Final = int(os.environ.get(ENVIRONMENT, "0"))
STEPS_OF_A_RUN: Final = 50 if WANTED else 30
RUNS: Final = -(-WANTED // STEPS_OF_A_RUN) or 80
SECONDS: Final = 600 + WANTED // 20
"""Far more than it takes: to shorten a failure may take five minutes."""

SETTINGS: Final = settings(
    max_examples=RUNS,
    stateful_step_count=STEPS_OF_A_RUN,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    derandomize=not WANTED,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(SECONDS)
def test_a_storage_does_what_the_model_does(
    backend: Backend, request: pytest.FixtureRequest, servers: ServerPool, tmp_path: Path
) -> None:
    entry: BackendEntry = request.node.callspec.params["backend"]
    numbers = count()

    def make_place() -> Backend:
        folder = tmp_path / f"{next(numbers)}"
        folder.mkdir()
        return entry.make(folder, servers)

    run_state_machine_as_test(lambda: StorageMachine(make_place), settings=SETTINGS)


def test_each_step_that_a_verb_may_take_is_legal() -> None:
    for verb, steps in STEPS.items():
        assert all(is_legal(verb, *step) for step in steps), verb


def test_each_legal_step_is_one_that_some_verb_takes() -> None:
    taken = {step for steps in STEPS.values() for step in steps}
    legal = {(state, after) for state in JobState for after in TRANSITIONS[state]}
    assert legal <= taken
