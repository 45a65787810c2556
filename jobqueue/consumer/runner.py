"""Runs one job: decode, call the handler within its time, decide, settle. Never raises."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from jobqueue.consumer.active import ActiveJob, ActiveJobs, Interruption, Slots
from jobqueue.consumer.offers import Offers
from jobqueue.consumer.settler import Settler
from jobqueue.consumer.threads import HandlerThreads
from jobqueue.control import Cancel, Retry, Snooze
from jobqueue.errors import SerializationError
from jobqueue.hooks import Execution, HookEvent, Hooks
from jobqueue.job import Job, set_current_job
from jobqueue.options import Policy
from jobqueue.outcome import (
    CancelAsked,
    Happened,
    Outcome,
    Raised,
    Refused,
    Released,
    RetryAsked,
    Returned,
    Snoozed,
    WorkerLost,
    decide,
    decode_error,
    with_result_ttl,
)
from jobqueue.registry import Handler, Registry
from jobqueue.serde import SerdeSet
from jobqueue.spec import Spec, SpecError, decode_spec
from jobqueue.states import EventType, JobState
from jobqueue.values import to_ms
from jobqueue.views import local_event

logger = logging.getLogger("jobqueue")

TIMEOUT_SLACK: Final = 5.0
"""Seconds beyond a job's time limit for which its lease is still renewed."""


class Runner:
    """Runs jobs of one queue for one worker."""

    def __init__(
        self,
        queue: str,
        worker: str,
        registry: Registry,
        serdes: SerdeSet,
        hooks: Hooks,
        settler: Settler,
        offers: Offers,
        slots: Slots,
        active: ActiveJobs,
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._registry = registry
        self._serdes = serdes
        self._hooks = hooks
        self._settler = settler
        self._offers = offers
        self._slots = slots
        self._active = active
        self._threads = HandlerThreads()

    def close(self) -> None:
        """Let go of the threads of sync handlers."""
        threads, self._threads = self._threads, HandlerThreads()
        threads.close()

    async def run(self, active: ActiveJob) -> None:
        """Run a claimed job to its end and hand in its outcome.

        The slot is free as soon as that is done, while there is room.
        """
        try:
            outcome = await self._outcome(active)
        except BaseException:
            self._give_slot(active)
            self._active.remove(active)
            raise
        if outcome is None or active.settled:
            self._give_slot(active)
            self._active.remove(active)
            return
        active.settled = True
        slot_given = self._settler.has_room
        if slot_given:
            self._give_slot(active)
        heard = partial(self._settled, active, outcome, slot_given)
        if len(self._active) == 1 and self._settler.is_idle:
            offer = self._offers.current
            await self._settler.settle_alone(active.claim, outcome, heard, offer)
        else:
            self._settler.settle(active.claim, outcome, heard)

    def _settled(self, active: ActiveJob, outcome: Outcome, slot_given: bool, held: bool) -> None:
        if not slot_given:
            self._give_slot(active)
        if held and self._hooks.wanted(outcome.event):
            active.task = asyncio.create_task(self._tell(active, outcome))
            return
        if not held:
            logger.warning(
                "job %r: its lease was lost, its outcome (%s) does not count",
                active.claim.id,
                outcome.state,
            )
        self._active.remove(active)

    def _give_slot(self, active: ActiveJob) -> None:
        """Give the slot back; a thread that cannot be stopped keeps it until its handler returns,
        so that there are never more threads than slots."""
        if active.thread is None or active.thread.done():
            self._slots.give()
        else:
            active.thread.add_done_callback(lambda _: self._slots.give())

    async def _outcome(self, active: ActiveJob) -> Outcome | None:
        """The outcome of this attempt; ``None`` when the lease was lost and none is wanted."""
        claim = active.claim
        spec, refusal = _read_spec(claim.spec)
        policy = self._registry.policy(claim.name, spec, claim.ttl_ms)
        handler = self._registry.find(claim.name)
        if spec is None or refusal is not None:
            return decide(policy, claim.attempt, refusal or _UNREADABLE)
        if handler is None:
            return decide(policy, claim.attempt, self._no_handler(claim.name))
        try:
            payload = self._serdes.loads(spec.serde, spec.payload, "the payload")
        except SerializationError as error:
            return decide(policy, claim.attempt, Refused(error, "undecodable"))
        active.job = self._job(active, payload, policy)
        if self._hooks.wanted(EventType.STARTED):
            await self._hooks.emit(self._event(active, EventType.STARTED))
        result, error = await self._call(active, handler, policy)
        if active.interruption is Interruption.LEASE_LOST:
            logger.warning("job %r: its lease was lost, its handler was stopped", claim.id)
            return None
        if self._hooks.sees_executions and active.interruption is not Interruption.SHUTDOWN:
            result, error, policy = await self._after_execution(active.job, result, error, policy)
        happened = self._happened(active, result, error, spec.serde)
        cancelled = claim.cancel_requested or active.interruption is Interruption.CANCEL
        return decide(policy, claim.attempt, happened, cancel_requested=cancelled)

    def _job(self, active: ActiveJob, payload: Any, policy: Policy) -> Job:
        claim = active.claim
        deadline = None
        if policy.timeout_ms is not None:
            deadline = datetime.now(UTC) + timedelta(milliseconds=policy.timeout_ms)
            active.renew_until = time.monotonic() + policy.timeout_ms / 1000 + TIMEOUT_SLACK
        return Job(
            id=claim.id,
            name=claim.name,
            payload=payload,
            attempt=claim.attempt,
            max_attempts=policy.max_attempts,
            queue=self._queue,
            enqueued_ms=claim.enqueued_ms,
            deadline=deadline,
        )

    async def _call(
        self, active: ActiveJob, handler: Handler, policy: Policy
    ) -> tuple[Any, BaseException | None]:
        """Call the handler; what it returned, or what it raised, whatever that is."""
        job = active.job
        assert job is not None  # made by the caller
        timer = None
        if policy.timeout_ms is not None:
            timer = asyncio.get_running_loop().call_later(
                policy.timeout_ms / 1000, active.interrupt, Interruption.TIMEOUT
            )
        set_current_job(job)
        active.enter_handler(in_thread=not handler.is_async)
        try:
            if active.interruption is not None or active.claim.cancel_requested:
                return None, asyncio.CancelledError()
            if handler.is_async:
                return await handler.call(job), None
            return await self._call_in_thread(active, handler.call, job)
        except BaseException as error:
            return None, error
        finally:
            active.leave_handler()
            if timer is not None:
                timer.cancel()

    async def _call_in_thread(
        self, active: ActiveJob, call: Callable[[Job], Any], job: Job
    ) -> tuple[Any, BaseException | None]:
        context = contextvars.copy_context()

        def run() -> tuple[Any, BaseException | None]:
            # A thread must not pass on what asyncio cannot carry, such as StopIteration.
            try:
                return context.run(call, job), None
            except BaseException as error:
                return None, error

        active.thread = self._threads.submit(run)
        return await asyncio.shield(active.thread)

    async def _after_execution(
        self, job: Job, result: Any, error: BaseException | None, policy: Policy
    ) -> tuple[Any, BaseException | None, Policy]:
        execution = Execution(
            job=job, result=result, error=error, result_ttl=policy.result_ttl_ms / 1000
        )
        await self._hooks.after_execution(execution)
        try:
            ttl_ms = to_ms(execution.result_ttl, "Execution.result_ttl")
        except (TypeError, ValueError):
            logger.exception("after_execution of job %r set a bad result_ttl", job.id)
            ttl_ms = policy.result_ttl_ms
        return execution.result, execution.error, with_result_ttl(policy, ttl_ms)

    def _happened(
        self, active: ActiveJob, result: Any, error: BaseException | None, serde: str
    ) -> Happened:
        if error is None and not isinstance(result, Exception):
            return self._returned(active.claim.id, result, serde)
        interruption = active.interruption
        if isinstance(error, asyncio.CancelledError) and interruption is not None:
            if interruption is Interruption.SHUTDOWN:
                return Released()
            if interruption is Interruption.TIMEOUT:
                return Raised(TimeoutError("ran longer than its timeout"), "timeout")
        if isinstance(error, asyncio.CancelledError) and active.cancelled_from_outside:
            return WorkerLost(self._worker)
        signal = result if error is None else error
        if isinstance(signal, Retry):
            return RetryAsked(signal.delay_ms)
        if isinstance(signal, Snooze):
            return Snoozed(signal.delay_ms)
        if isinstance(signal, Cancel):
            return CancelAsked(signal.reason)
        if error is not None:
            return Raised(error)
        return self._returned(active.claim.id, result, serde)

    def _returned(self, id: str, result: Any, serde: str) -> Happened:
        try:
            value = self._serdes.dump_alone(result, "the result", serde)
        except SerializationError as error:
            return Refused(error, "unserialisable")
        limit = self._registry.options.max_result
        if len(value) > limit:
            text = f"the result has {len(value)} bytes, max_result is {limit}"
            return Refused(SerializationError(text), "unserialisable")
        return Returned(value)

    def _no_handler(self, name: str) -> Refused:
        known = ", ".join(map(repr, self._registry.names)) or "none"
        error = LookupError(f"no handler for {name!r} in this worker; it has: {known}")
        return Refused(error, "no_handler")

    def _event(self, active: ActiveJob, type: EventType, **more: Any) -> HookEvent:
        claim = active.claim
        return local_event(
            HookEvent,
            type,
            claim.id,
            claim.name,
            self._queue,
            attempt=claim.attempt,
            worker=self._worker,
            **more,
        )

    async def _tell(self, active: ActiveJob, outcome: Outcome) -> None:
        try:
            more: dict[str, Any] = {}
            if outcome.state is JobState.COMPLETED:
                more["result"] = self._serdes.load_alone(outcome.value, "the result")
            elif outcome.value:
                more["error"] = decode_error(outcome.value)
            await self._hooks.emit(self._event(active, outcome.event, **more))
        finally:
            self._active.remove(active)


_UNREADABLE: Final = Refused(SpecError("the job's spec cannot be decoded"), "undecodable")


def _read_spec(data: bytes) -> tuple[Spec | None, Refused | None]:
    try:
        return decode_spec(data), None
    except SpecError as error:
        return None, Refused(error, "undecodable")
