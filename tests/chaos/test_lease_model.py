"""The lease protocol in every order of its steps, and each of its rules left out once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.lease_model import Broken, Rules, search

SMALL = Rules(max_attempts=2)


@pytest.mark.timeout(300)  # some seconds of plain work, on a machine that has them
def test_every_invariant_holds_in_every_state() -> None:
    found = search(Rules())
    print(f"lease protocol: {found.states} states, {found.steps} steps, {found.depth} deep")
    assert found.states > 50_000
    assert found.depth > 15


def test_also_with_copies_of_calls_that_arrive_at_any_later_time() -> None:
    assert search(Rules(workers=1, reapers=1, max_attempts=2, late_copies=1)).states > 2_000


@pytest.mark.parametrize("late_copies", [0, 1])
def test_also_when_the_job_is_handed_over_as_it_is_stored(late_copies: int) -> None:
    rules = Rules(reapers=1, max_attempts=2, late_copies=late_copies, hands_over=True)
    rules = replace(rules, workers=1) if late_copies else rules
    assert search(rules).states > 5_000


_BREAKS = {
    "finish_checks_fence": "attempt 3 of 2",
    "finish_checks_state": "2 terminal transitions",
    "claim_checks_state": "a job that has ended is running",
    "claim_charges": "an attempt was given back twice",
    "recover_draws_fence": "2 hold the valid fence",
    "reaper_counts_attempts": "attempt 3 of 2",
    "reaper_looks_at_leases": "stuck: the job can never end",
    "reaper_looks_at_inboxes": "stuck: the job can never end",
    "repeat_compares_fence": "answered as if it counted",
    "empty_answer_ends_a_claim": "stuck: the job can never end",
    "recover_repeats": "stuck: until a lease runs out",
}


@pytest.mark.parametrize("rule", _BREAKS)
def test_without_one_of_its_rules_an_invariant_breaks(rule: str) -> None:
    with pytest.raises(Broken, match=_BREAKS[rule]):
        search(replace(SMALL, **{rule: False}))


_BREAKS_OF_HANDING_OVER = {
    "withdraw_compares_fence": "2 hold the valid fence",
    "handed_job_is_taken_once": "2 hold the valid fence",
    "unheard_job_is_asked_for": "stuck: until a lease runs out",
}


@pytest.mark.parametrize("rule", _BREAKS_OF_HANDING_OVER)
def test_without_one_of_the_rules_of_handing_over_an_invariant_breaks(rule: str) -> None:
    with pytest.raises(Broken, match=_BREAKS_OF_HANDING_OVER[rule]):
        search(replace(SMALL, reapers=1, hands_over=True, **{rule: False}))
