"""What a job's options and arguments say about when it may start, as the port has it."""

from __future__ import annotations

import time

from jobqueue.arguments import Arguments
from jobqueue.flow import Flow, Priority, Unique
from jobqueue.limits import check_limits, scope_of
from jobqueue.options import DEFAULT_WAIT, JobOptions
from jobqueue.storage.types import NewJob
from jobqueue.uniqueness import Rule
from jobqueue.values import UNSET, to_ms


def with_conditions(
    job: NewJob, options: JobOptions, arguments: Arguments, result_ttl_ms: int
) -> NewJob:
    """The job with its conditions, and with the due time and the time to live that they need.

    Args:
        job: As its other options make it. Somebody waits for it if it has an address for replies.
        options: Of the job type and the call.
        arguments: What it is called with.
        result_ttl_ms: Milliseconds for which it is kept when it says nothing itself.

    Raises:
        TypeError, ValueError, SerializationError: The options do not fit the arguments or each
            other.
    """
    rule = options.rule
    expires_ms = _expires_ms(options, is_awaited=job.reply_to is not None)
    due_in_ms = job.due_ms - time.time_ns() // 1_000_000 if job.due_ms else job.delay_ms
    if expires_ms and due_in_ms >= expires_ms:
        raise ValueError(
            f"job {job.id!r} could never start: it would expire {expires_ms / 1000:g} s after its "
            f"enqueue, and is due {due_in_ms / 1000:g} s after it"
        )
    limit, key = _limit(options, job.name, arguments)
    unique_key = "" if rule is None else arguments.unique_key(rule.by, rule.option)
    flow = Flow(
        priority=Priority.NORMAL if options.priority is UNSET else Priority(options.priority),
        expires_ms=expires_ms,
        group=_group(options, arguments),
        limit=limit,
        key=key,
        alone=unique_key if rule is not None and rule.alone else "",
        unique=None if rule is None else _unique(rule, unique_key),
    )
    window_ms = 0 if rule is None else rule.window_ms
    ttl_ms = job.ttl_ms
    if expires_ms or window_ms:
        ttl_ms = max(ttl_ms or result_ttl_ms, window_ms)
    delay_ms = rule.delay_ms if rule is not None and rule.delay_ms else job.delay_ms
    return job._replace(flow=flow, delay_ms=delay_ms, ttl_ms=ttl_ms)


def _expires_ms(options: JobOptions, *, is_awaited: bool) -> int:
    expires = None if options.expires is UNSET else options.expires
    expires_ms = 0 if expires is None else to_ms(expires, "expires")
    if is_awaited and options.drop_abandoned is True:
        wait = DEFAULT_WAIT if options.wait is UNSET else options.wait
        if wait is not None:
            wait_ms = to_ms(wait, "wait")
            expires_ms = min(expires_ms, wait_ms) if expires_ms else wait_ms
    return expires_ms


def _group(options: JobOptions, arguments: Arguments) -> str:
    if options.group_by is not UNSET:
        return arguments.key(options.group_by, "group")
    return "" if options.group is UNSET or options.group is None else options.group


def _limit(options: JobOptions, name: str, arguments: Arguments) -> tuple[str, str]:
    """Name of the limit by key, and the job's key there; empty if there is none."""
    if options.limit is not UNSET and options.key is not UNSET:
        return options.limit, options.key
    if options.limits is not UNSET:
        for limit in check_limits(options.limits):
            if limit.by is not None:
                return scope_of(limit, name).name, arguments.key(limit.by, "limit")
    return "", ""


def _unique(rule: Rule, key: str) -> Unique:
    return Unique(
        key=key,
        until=rule.until,
        window_ms=rule.window_ms,
        replace=rule.replace,
        max_wait_ms=rule.max_wait_ms,
    )
