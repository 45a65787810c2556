"""The options about when a job may start: their checks, and what goes to the storage."""

from __future__ import annotations

import time
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobqueue import flow
from jobqueue.arguments import Arguments
from jobqueue.conditions import with_conditions
from jobqueue.flow import Flow, Priority, UniqueUntil
from jobqueue.limits import Limit, LimitInfo, Rate, check_limits, from_port, scope_of, to_port
from jobqueue.options import (
    NO_OPTIONS,
    JobOptions,
    QueueOptions,
    TypeOptions,
    call_options,
    type_options,
)
from jobqueue.serde import SerdeSet
from jobqueue.storage.types import NewJob
from jobqueue.uniqueness import Debounce, KeepLast, Throttle, Unique
from jobqueue.values import UNSET

JOB = NewJob("id", "task", b"spec")
ARGUMENTS = {"customer": 17, "n": 1}


def made(job: NewJob = JOB, payload: Any = ARGUMENTS, **options: Any) -> NewJob:
    arguments = Arguments("task", payload, {}, lambda value: SerdeSet().dumps(value, "it"))
    return with_conditions(job, JobOptions(**options), arguments, 3_600_000)


def flow_of(**options: Any) -> Flow:
    job = made(**options)
    assert job.flow is not None
    return job.flow


# -- the check -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("priority", "urgent", ValueError),
        ("priority", None, TypeError),
        ("priority", 1, TypeError),
        ("expires", 0, ValueError),
        ("expires", "1", TypeError),
        ("group", "", ValueError),
        ("group", 5, TypeError),
        ("group_by", None, TypeError),
        ("group_by", "", ValueError),
        ("unique", 5, TypeError),
        ("unique", None, TypeError),
        ("unique", Throttle(1), TypeError),
        ("throttle", -1, ValueError),
        ("throttle", False, TypeError),
        ("throttle", Unique(), TypeError),
        ("debounce", float("nan"), ValueError),
        ("debounce", "1", TypeError),
        ("keep_last", 0, TypeError),
        ("limits", 5, TypeError),
        ("limits", [5], TypeError),
        ("limits", [Limit(concurrency=1), Limit(concurrency=2)], ValueError),
        ("limit", 5, TypeError),
        ("key", "", ValueError),
        ("drop_abandoned", 1, TypeError),
    ],
)
def test_a_bad_value_names_its_option(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=rf"^{option}\b"):
        JobOptions(**{option: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unique": True, "throttle": 1}, "give unique or throttle"),
        ({"debounce": 1, "keep_last": True}, "give debounce or keep_last"),
        ({"group": "a", "group_by": "b"}, "give group or group_by"),
        ({"limit": "a"}, "limit and key go together"),
        ({"key": "a", "limits": Limit(concurrency=1)}, "limit and key go together"),
        ({"debounce": 1, "delay": 1}, "give debounce, or delay"),
        ({"debounce": 1, "run_at": datetime.now(UTC)}, "give debounce, or delay"),
        ({"expires": 5, "delay": 5}, r"expires \(5\) must be longer than delay \(5\)"),
        ({"expires": 5, "debounce": 1}, "with debounce needs"),
        ({"expires": 5, "debounce": Debounce(1, 5)}, "with debounce needs"),
    ],
)
def test_what_excludes_each_other_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JobOptions(**options)


def test_what_goes_together_is_accepted() -> None:
    JobOptions(expires=5, delay=4.9, priority="low", group="a", limit="b", key="c", unique=True)
    JobOptions(expires=5, debounce=Debounce(1, max_wait=4))
    JobOptions(expires=None, delay=100, keep_last=True, group=None)


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="no option 'prioritty'"):
        JobOptions(prioritty="high")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'delay' is no option of a job type"):
        type_options(delay=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option 'is_plain'"):
        JobOptions(is_plain=True)  # type: ignore[call-arg]
    assert call_options() is NO_OPTIONS
    assert type_options() is NO_OPTIONS
    assert JobOptions(**dict.fromkeys(TypeOptions.__annotations__, UNSET)) == NO_OPTIONS


def test_options_are_values() -> None:
    one, other = JobOptions(priority="high", delay=1), JobOptions(delay=1, priority="high")
    assert one == other
    assert hash(one) == hash(other)
    assert one != JobOptions(delay=1)
    with pytest.raises(FrozenInstanceError):
        one.delay = 2  # type: ignore[misc]
    assert replace(one, delay=3) == JobOptions(priority="high", delay=3)
    assert "priority='high'" in repr(one)


def test_only_options_of_flow_make_a_job_more_than_plain() -> None:
    assert NO_OPTIONS.is_plain
    assert JobOptions(id="a", delay=1, timeout=5, wait=3).is_plain
    assert not JobOptions(priority="normal").is_plain
    assert not JobOptions(id="a").override(JobOptions(unique=True)).is_plain
    assert not JobOptions(unique=True).override(JobOptions(id="a")).is_plain
    assert JobOptions(timeout=1).override(JobOptions(id="a")).is_plain


def test_the_later_layer_decides_about_the_whole_family() -> None:
    merged = JobOptions(unique=True, group_by="a", delay=1).override(
        JobOptions(throttle=5, group="b", run_at=datetime.now(UTC))
    )
    assert (merged.unique, merged.throttle, merged.group_by, merged.group, merged.delay) == (
        *(UNSET, 5, UNSET, "b", UNSET),
    )
    assert JobOptions(debounce=5).override(JobOptions(unique=False)).rule is None
    with pytest.raises(ValueError, match="must be longer than delay"):
        JobOptions(expires=5).override(JobOptions(delay=6))
    assert JobOptions(expires=5).override(JobOptions(delay=6, expires=None)).expires is None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Unique(by=5), TypeError, r"Unique\(by=...\)"),
        (lambda: Unique(by=b"a"), TypeError, r"Unique\(by=...\)"),
        (lambda: Unique(by=[1]), TypeError, r"Unique\(by=...\)"),
        (lambda: Unique(by=""), ValueError, r"Unique\(by=...\)"),
        (lambda: Unique(until="ended"), ValueError, r"Unique\(until=...\)"),
        (lambda: Unique(until=0), ValueError, r"Unique\(until=...\)"),
        (lambda: Unique(until=None), TypeError, r"Unique\(until=...\)"),
        (lambda: Throttle(0), ValueError, "throttle"),
        (lambda: Throttle(1, by=5), TypeError, r"Throttle\(by=...\)"),
        (lambda: Debounce("1"), TypeError, "debounce"),
        (lambda: Debounce(5, max_wait=4), ValueError, "at least the quiet time"),
        (lambda: KeepLast(by=[""]), ValueError, r"KeepLast\(by=...\)"),
        (lambda: Limit(), ValueError, "needs a concurrency or a rate"),
        (lambda: Limit(concurrency=0), ValueError, r"Limit\(concurrency\)"),
        (lambda: Limit(rate=5), TypeError, r"Limit\(rate\)"),
        (lambda: Limit(concurrency=1, name="a"), ValueError, "goes with by"),
        (lambda: Limit(concurrency=1, by=""), ValueError, r"Limit\(by\)"),
        (lambda: Rate(0), ValueError, r"Rate\(count\)"),
        (lambda: Rate(1, per=0), ValueError, r"Rate\(per\)"),
        (lambda: Rate(1, kind="fixed"), ValueError, r"Rate\(kind\)"),
        (lambda: Rate(1, burst=2), ValueError, r"Rate\(burst\) goes with"),
        (
            lambda: QueueOptions(limits=Limit(concurrency=1, by="a")),
            ValueError,
            "belongs to a job type",
        ),
        (lambda: QueueOptions(limits=5), TypeError, "limits of a queue must be"),
        (lambda: QueueOptions(limits=[Limit(concurrency=1)]), TypeError, "limits of a queue"),
    ],
)
def test_bad_values_are_refused_where_they_are_made(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


# -- what goes to the storage ----------------------------------------------------------------------


def test_each_option_has_its_place() -> None:
    assert flow_of(priority="high").priority is Priority.HIGH
    assert flow_of(group="a") == Flow(group="a")
    assert flow_of(group=None) == Flow()
    assert flow_of(group_by="customer") == Flow(group="17")
    assert flow_of(limit="a", key="b") == Flow(limit="a", key="b")
    assert flow_of(limits=Limit(concurrency=1)) == Flow()
    assert flow_of(limits=Limit(concurrency=1, by="n")) == Flow(limit="task", key="1")
    by = Limit(concurrency=1, by="customer", name="customers")
    assert flow_of(limits=[Limit(concurrency=1), by]) == Flow(limit="customers", key="17")
    assert flow_of(limits=by, limit="a", key="b") == Flow(limit="a", key="b")
    assert flow_of(expires=1.5) == Flow(expires_ms=1500)


def test_the_four_rules_in_terms_of_the_port() -> None:
    all_arguments = flow_of(unique=True).unique
    assert all_arguments is not None
    assert all_arguments.key.startswith("task:")
    key, until = all_arguments.key, UniqueUntil
    assert flow_of(unique=True) == Flow(unique=flow.Unique(key, until.FINISHED))
    assert flow_of(unique=Unique(by=(), until="started")) == Flow(
        unique=flow.Unique("task", until.STARTED)
    )
    assert flow_of(unique=Unique(by=["n", "customer"], until=5)) == Flow(
        unique=flow.Unique(key, until.ELAPSED, window_ms=5000)
    )
    assert flow_of(throttle=timedelta(seconds=2)) == flow_of(unique=Unique(by=(), until=2))
    assert flow_of(keep_last=True) == Flow(
        alone="task", unique=flow.Unique("task", until.STARTED, replace=True)
    )
    job = made(debounce=Debounce(2, max_wait=10, by="n"))
    assert job.delay_ms == 2000
    assert job.flow is not None
    assert job.flow.unique == flow.Unique(
        job.flow.unique.key, until.STARTED, replace=True, max_wait_ms=10_000
    )
    assert job.flow.alone == ""
    assert flow_of(unique=False) == flow_of(keep_last=False) == Flow()


def test_a_time_to_live_where_one_is_needed() -> None:
    own = JOB._replace(ttl_ms=5_000)
    assert made(priority="high").ttl_ms == 0
    assert made(unique=True).ttl_ms == 0
    assert made(expires=9).ttl_ms == 3_600_000
    assert made(own, expires=9).ttl_ms == 5_000
    assert made(own, throttle=2).ttl_ms == 5_000
    assert made(own, throttle=60).ttl_ms == 60_000
    assert made(throttle=7200).ttl_ms == 7_200_000


def test_who_waits_may_have_the_job_dropped() -> None:
    awaited = JOB._replace(reply_to="me")

    def expires_ms(job: NewJob, **options: Any) -> int:
        found = made(job, drop_abandoned=True, **options).flow
        assert found is not None
        return found.expires_ms

    assert expires_ms(awaited) == 30_000
    assert expires_ms(awaited, wait=5) == 5_000
    assert expires_ms(awaited, wait=5, expires=3) == 3_000
    assert expires_ms(awaited, wait=5, expires=9) == 5_000
    assert expires_ms(awaited, wait=None) == 0
    assert expires_ms(awaited, wait=None, expires=9) == 9_000
    assert expires_ms(JOB, wait=5) == 0
    assert made(awaited, drop_abandoned=False, wait=5).flow == Flow()


def test_a_moment_after_the_expiry_is_refused() -> None:
    now_ms = time.time_ns() // 1_000_000
    assert made(JOB._replace(due_ms=now_ms + 60_000), expires=600).due_ms == now_ms + 60_000
    assert made(JOB._replace(due_ms=1), expires=600).due_ms == 1
    with pytest.raises(ValueError, match=r"'id' could never start: it would expire 5 s after"):
        made(JOB._replace(due_ms=now_ms + 60_000), expires=5)


def test_limits_there_and_back() -> None:
    rate = Rate(5, per=timedelta(minutes=1), kind="bucket", burst=2)
    limit = Limit(concurrency=3, rate=rate, by="a", name="b")
    stored = to_port(limit, pinned=True)
    assert stored == flow.Limit(3, flow.Rate(5, 60_000, flow.RateKind.BUCKET, 2), pinned=True)
    scope = scope_of(limit, "task")
    assert scope == flow.LimitScope(flow.LimitKind.KEY, "b")
    assert scope_of(Limit(concurrency=1, by="a"), "task").name == "task"
    assert scope_of(Limit(concurrency=1), "task") == flow.LimitScope(flow.LimitKind.TYPE, "task")
    assert from_port(flow.LimitInfo(scope, stored, 1, 2)) == LimitInfo(
        kind="key",
        name="b",
        limit=Limit(concurrency=3, rate=Rate(5, 60.0, "bucket", 2)),
        pinned=True,
        running=1,
        held_back=2,
    )
    assert to_port(Limit(rate=Rate(1))) == flow.Limit(0, flow.Rate(1, 1000))
    assert check_limits(limit) == (limit,)
    assert check_limits([]) == ()
