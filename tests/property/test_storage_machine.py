"""Every storage against the model: long random sequences of calls, crashes and jumps in time.

Few, and the same ones each time; ``make chaos ARGS=S15`` takes 10,000 steps on each storage. A
failure prints the calls that lead to it, as short as could be found.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Final

import pytest

from jobqueue.states import TRANSITIONS, JobState
from tests.property.machine import STEPS, is_legal
from tests.property.running import compare
from tests.support.backends import Backend, BackendEntry
from tests.support.servers import ServerPool

WANTED: Final = 2_000


@pytest.mark.timeout(600)  # far more than it takes: to shorten a failure may take five minutes
def test_a_storage_does_what_the_model_does(
    backend: Backend, request: pytest.FixtureRequest, servers: ServerPool, tmp_path: Path
) -> None:
    entry: BackendEntry = request.node.callspec.params["backend"]
    numbers = count()

    def make_place() -> Backend:
        folder = tmp_path / f"{next(numbers)}"
        folder.mkdir()
        return entry.make(folder, servers)

    done = compare(make_place, steps=WANTED, of_a_run=30)
    # Whatever a storage can be asked to do, it was asked.
    assert min(done[verb] for verb in VERBS) > 0, done


VERBS: Final = (
    *("enqueue", "cancel", "set_result_ttl", "claim", "finish", "heartbeat", "leave"),
    *("recover", "promote", "prune", "reschedule", "clear", "control", "set_limit"),
)


def test_each_step_that_a_verb_may_take_is_legal() -> None:
    for verb, steps in STEPS.items():
        assert all(is_legal(verb, *step) for step in steps), verb


def test_each_legal_step_is_one_that_some_verb_takes() -> None:
    taken = {step for steps in STEPS.values() for step in steps}
    legal = {(state, after) for state in JobState for after in TRANSITIONS[state]}
    assert legal <= taken
