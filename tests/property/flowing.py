"""The machine's rules for time and flow: jobs that say when they may start, limits, control."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from jobqueue.flow import Limit, LimitScope
from jobqueue.outcome import Outcome
from jobqueue.storage.types import MAX_BATCH
from tests.property.machine import WAITING, StorageMachine
from tests.property.plans import (
    HOUR,
    LONGEST,
    JobPlan,
    changes,
    counts,
    hours,
    ids,
    limits,
    limits_in_force,
    plans_of_keys,
    plans_that_flow,
    scopes,
    some_outcomes,
    values,
    workers,
)
from tests.support.jobs import QUEUE


class FlowMachine(StorageMachine):
    """Everything that is done to one queue."""

    def teardown(self) -> None:
        if self.agree:
            # What would keep jobs from ever starting ends; what the jobs themselves say holds on.
            self._control({"paused": 0, "draining": 0, "max_waiting": 0, "low_every": 0})
            for scope in list(self.model.rules.limits):
                self._set_limit(scope, None)
            self.check()
        super().teardown()

    @precondition(lambda self: len(self.model.jobs) < 4 or self.any_job("cancelled"))
    @rule(plans=st.lists(plans_that_flow, min_size=1, max_size=4))
    def enqueue_flowing(self, plans: list[JobPlan]) -> None:
        self.enqueue(plans)

    @precondition(lambda self: self.model.jobs)
    @rule(plan=plans_that_flow)
    def enqueue_one_flowing(self, plan: JobPlan) -> None:
        self.enqueue([plan])

    @rule(
        plans=st.lists(plans_that_flow, min_size=3, max_size=6),
        low_every=st.integers(0, 3),
        each=st.lists(counts, min_size=1, max_size=4),
        outcomes=some_outcomes,
    )
    def push_through(
        self, plans: list[JobPlan], low_every: int, each: list[int], outcomes: list[Outcome]
    ) -> None:
        """More jobs than there are ids to choose from, and workers who take some at a time."""
        self._control({"low_every": low_every})
        self.check()
        self.enqueue([replace(plan, has_request=False) for plan in plans])
        for count in each:
            self.check()
            claimed = self._claim_anew("w1", count, LONGEST, 0)
            self.check()
            if claimed:
                self._finish(claimed, outcomes)

    @rule(
        plans=st.lists(plans_of_keys, min_size=2, max_size=4),
        each=st.lists(st.integers(0, 2), min_size=4, max_size=4),
        ms=hours,
        outcomes=some_outcomes,
    )
    def contend(
        self, plans: list[JobPlan], each: list[int], ms: int, outcomes: list[Outcome]
    ) -> None:
        """One job after the other for the same few keys, while some run."""
        for plan, count in zip(plans, each, strict=False):
            self.enqueue([replace(plan, has_request=False)])
            self.check()
            claimed = self._claim_anew("w1", count, LONGEST, 0) if count else []
            self.check()
            if claimed and count > 1:
                self._finish(claimed, outcomes)
                self.check()
        self.advance(ms)
        self.check()
        self.replay_enqueue()

    @precondition(lambda self: self.any_job(*WAITING))
    @rule(limit=limits)
    def promote_what_expires(self, limit: int) -> None:
        self.promote(limit)

    @rule(scope=scopes, limit=limits_in_force)
    def set_limit(self, scope: LimitScope, limit: Limit | None) -> None:
        self._set_limit(scope, limit)

    @precondition(lambda self: self.model.rules.limits and self.any_job(*WAITING))
    @rule(worker=workers, pick=st.integers(0, 3), ms=hours, limit=limits_in_force)
    def work_under_a_changing_limit(
        self, worker: str, pick: int, ms: int, limit: Limit | None
    ) -> None:
        """Somebody finds nothing more to do, and then the limit is another one."""
        self._claim_anew(worker, MAX_BATCH, ms, 0)
        self.check()
        scopes = sorted(self.model.rules.limits)
        self._set_limit(scopes[pick % len(scopes)], limit)
        self.check()
        self._claim_anew(worker, MAX_BATCH, ms, 0)

    def _set_limit(self, scope: LimitScope, limit: Limit | None) -> None:
        self.begin("set_limit")
        self.run(self.storage.set_limit(QUEUE, scope, limit))
        self.model.set_limit(scope, limit)

    @rule(changes=changes)
    def control(self, changes: dict[str, Any]) -> None:
        self._control(changes)

    def _control(self, changes: dict[str, int]) -> None:
        self.begin("control")
        answer = self.run(self.storage.control(QUEUE, changes))
        assert answer == self.model.control(changes)

    @precondition(lambda self: self.any_job("scheduled", "retrying"))
    @rule(ids=ids, due=st.integers(-1, 4).map(lambda n: n * HOUR))
    def reschedule(self, ids: list[str], due: int) -> None:
        self.begin("reschedule")
        due += self.model.now
        answers = self.run(self.storage.reschedule(QUEUE, ids, due))
        assert answers == self.model.reschedule(ids, due)
        assert self.run(self.storage.delayed(QUEUE, MAX_BATCH)) == self.model.delayed()

    @precondition(lambda self: self.any_job(*WAITING))
    @rule(limit=limits, ttl=hours, value=values)
    def clear(self, limit: int, ttl: int, value: bytes) -> None:
        self.begin("clear")
        answer = self.run(self.storage.clear(QUEUE, limit, ttl, value))
        assert answer == self.model.clear(limit, ttl, value, self.states)

    def check(self) -> None:
        super().check()
        if self.model.rules.limits:
            self.model.check_limits(self.run(self.storage.limits(QUEUE)))
