"""When schedules are due, what is fired then, and what a storage keeps of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import islice
from typing import Any

import pytest

from jobqueue.flow import Flow, Priority, Unique, UniqueUntil
from jobqueue.packing import pack, unpack
from jobqueue.schedules.firing import Due, due, job_id, jobs_of, new_job, without_overlap
from jobqueue.schedules.record import (
    Misfire,
    Overlap,
    Policy,
    RecordError,
    Schedule,
    ScheduledJob,
    decode_record,
    encode_record,
)
from jobqueue.schedules.timing import Cron, Every, Timing, last_instant, next_instant

MINUTE = 60_000
NOW = 2_000_000_000_000 // MINUTE * MINUTE


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def schedule(timing: Timing = Every(60), **changes: Any) -> Schedule:  # noqa: B008 - frozen
    job = ScheduledJob("report", b"spec")
    return Schedule(timing, job, Misfire.ONCE, MINUTE, Overlap.ALLOW)._replace(**changes)


# -- timing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/5 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"),
        ("*/5 * * * *", "2026-01-01T00:04:59.999Z", "2026-01-01T00:05:00Z"),
        ("30 2 * * MON-FRI", "2026-01-02T02:30:00Z", "2026-01-05T02:30:00Z"),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 12 L * *", "2026-02-01T00:00:00Z", "2026-02-28T12:00:00Z"),
        ("0 12 LW * *", "2026-05-01T00:00:00Z", "2026-05-29T12:00:00Z"),
        ("0 9 * * MON#2", "2026-01-01T00:00:00Z", "2026-01-12T09:00:00Z"),
        ("0 9 * * 5L", "2026-01-01T00:00:00Z", "2026-01-30T09:00:00Z"),
        ("0 0 13 * FRI", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("0 0 */13 * FRI", "2026-01-01T00:00:00Z", "2026-02-27T00:00:00Z"),
        ("*/15 30 2 * * *", "2026-01-01T02:30:15Z", "2026-01-01T02:30:30Z"),
        ("  0   3 * jan sun ", "2026-01-01T00:00:00Z", "2026-01-04T03:00:00Z"),
    ],
)
def test_a_cron_rule_is_due(expression: str, after: str, expected: str) -> None:
    assert next_instant(Cron(expression), at(after)) == at(expected)


def test_a_cron_rule_follows_the_clocks_of_its_zone() -> None:
    rule = Cron("30 2 * * *", tz="Europe/Rome")
    spring = list(islice(rule.instants(at("2026-03-28T00:00Z")), 3))
    assert spring == [at(f"2026-03-{day}Z") for day in ("28T01:30", "29T01:00", "30T00:30")]
    autumn = list(islice(rule.instants(at("2026-10-24T12:00Z")), 2))
    assert autumn == [at("2026-10-25T00:30Z"), at("2026-10-26T01:30Z")]


def test_seconds_of_a_skipped_minute_are_due_once_together() -> None:
    rule = Cron("*/20 30 2 * * *", tz="Europe/Rome")
    spring = list(islice(rule.instants(at("2026-03-28T12:00Z")), 2))
    assert spring == [at("2026-03-29T01:00Z"), at("2026-03-30T00:30Z")]


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("0 25 * * *", "bad hour"),
        ("60 * * * *", "bad minute"),
        ("* * * * * * *", "it has 7 fields"),
        ("* * *", "it has 3 fields"),
        ("@daily", "it has 1 field;"),
        ("", "it has 0 fields"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 31 4,6 *", "bad day-of-month"),
        ("0 0 30 feb mon#6", "bad day-of-week"),
        ("0 0 */30 2 MON#5", "it is never due"),
        ("0 0 ² * *", "bad day-of-month"),
        (f"{'1,' * 200}1 * * * *", "it is longer than 255 characters"),
    ],
)
def test_a_bad_expression_says_what_is_wrong(expression: str, fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        Cron(expression)
    assert fault in str(caught.value)
    assert 'for example "30 2 * * MON-FRI"' in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("tz", "hint"),
    [
        ("Europe/Rom", "'Europe/Rome'"),
        ("Europe", "'Europe/Rome'"),
        ("../etc/passwd", "'Europe/Rome'"),
        ("", "'Europe/Rome'"),
        ("America/Sao Paulo", "'America/Sao_Paulo'"),
    ],
)
def test_an_unknown_zone_says_what_is_near(tz: str, hint: str) -> None:
    with pytest.raises(ValueError, match="is no known time zone") as caught:
        Cron("* * * * *", tz=tz)
    assert hint in str(caught.value)


def test_a_wrong_type_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="a cron expression must be text"):
        Cron(wrong)
    with pytest.raises(TypeError, match="tz must be the name"):
        Cron("* * * * *", tz=wrong)
    with pytest.raises(TypeError, match="the period of a schedule must be seconds"):
        Every("5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the period of a schedule must be more than 0"):
        Every(0)
    with pytest.raises(ValueError, match="start must have a time zone"):
        Every(5, start=datetime(2026, 1, 1))


def test_an_interval_counts_from_the_epoch_or_from_its_start() -> None:
    assert list(islice(Every(30).instants(45_000), 3)) == [60_000, 90_000, 120_000]
    assert next_instant(Every(30), 60_000) == 90_000
    assert next_instant(Every(0.25), 60_000) == 60_250
    start = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    rule = Every(timedelta(hours=1), start=start)
    assert next_instant(rule, 0) == at("2026-01-01T00:00:10Z")
    assert next_instant(rule, at("2026-01-01T00:00:10Z")) == at("2026-01-01T01:00:10Z")


def test_equal_rules_are_equal_however_they_are_written() -> None:
    start = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    assert Every(timedelta(minutes=1)) == Every(60)
    assert Every(5, start=start) == Every(5.0, start=start.astimezone(UTC))
    assert Cron(" 0  3 * * *") == Cron("0 3 * * *", tz="UTC")
    assert Cron("0 3 * * *") != Cron("0 3 * * *", tz="Europe/Rome")


@pytest.mark.parametrize(
    "timing", [Every(7), Cron("*/10 * * * * *"), Cron("0 3 * * MON", tz="Europe/Rome")]
)
def test_the_last_instant_up_to_a_moment(timing: Timing) -> None:
    first = next_instant(timing, at("2026-03-01T00:00Z"))
    for until in (first, first + 1, first + 59_999, at("2026-03-20T12:34:56Z")):
        found = last_instant(timing, first, until)
        assert first <= found <= until
        assert next_instant(timing, found) > until
        assert next_instant(timing, found - 1) == found


# -- firing ----------------------------------------------------------------------------------------


def instants_from(first: int, count: int) -> list[int]:
    return [first + n * MINUTE for n in range(count)]


@pytest.mark.parametrize("misfire", list(Misfire))
def test_instants_within_the_grace_all_fire(misfire: Misfire) -> None:
    of_five_seconds = schedule(Every(5), misfire=misfire)
    found = due(of_five_seconds, NOW - 60_000, NOW)
    assert found == Due([NOW - 60_000 + n * 5_000 for n in range(13)], NOW + 5_000)
    assert due(of_five_seconds, NOW + 1, NOW) == Due([], NOW + 1)


def test_missed_instants_are_skipped() -> None:
    found = due(schedule(misfire=Misfire.SKIP), NOW - 60 * MINUTE, NOW + 30_000)
    assert found == Due([NOW], NOW + MINUTE)
    hourly = schedule(Every(3600), misfire=Misfire.SKIP)
    last = NOW // 3_600_000 * 3_600_000
    assert due(hourly, last, last + 2 * MINUTE) == Due([], last + 60 * MINUTE)


def test_missed_instants_make_one_job() -> None:
    found = due(schedule(misfire=Misfire.ONCE), NOW - 60 * MINUTE, NOW + 30_000)
    assert found == Due([NOW], NOW + MINUTE)
    assert due(schedule(misfire=Misfire.ONCE), NOW - 2 * MINUTE, NOW - 1) == Due(
        [NOW - MINUTE], NOW
    )


def test_missed_instants_are_all_fired_500_at_a_step() -> None:
    every = schedule(misfire=Misfire.ALL)
    first = NOW - 600 * MINUTE
    assert due(every, first, NOW) == Due(instants_from(first, 500), first + 500 * MINUTE)
    rest = due(every, first + 500 * MINUTE, NOW)
    assert rest == Due(instants_from(first + 500 * MINUTE, 101), NOW + MINUTE)


def test_what_overlaps_makes_no_job_or_only_the_last_one() -> None:
    instants = [1, 2, 3]
    assert without_overlap(Overlap.ALLOW, instants, False) == instants
    assert without_overlap(Overlap.QUEUE, instants, False) == instants
    assert without_overlap(Overlap.SKIP, instants, False) == []
    assert without_overlap(Overlap.SKIP, instants, True) == [1]
    assert without_overlap(Overlap.REPLACE, instants, False) == [3]


def test_the_id_of_a_job_names_schedule_and_instant() -> None:
    assert job_id("nightly", at("2026-03-29T01:00Z")) == "nightly@2026-03-29T01:00:00Z"
    assert job_id("often", at("2026-03-29T01:00:00.050Z")) == "often@2026-03-29T01:00:00.050Z"


def test_the_jobs_are_as_a_producer_would_store_them() -> None:
    flow = Flow(priority=Priority.HIGH)
    of = schedule(job=ScheduledJob("report", b"spec", 70, 5_000, flow))
    (job,) = jobs_of("s", of, [NOW], "token")
    assert (job.name, job.spec, job.ttl_ms, job.flow) == ("report", b"spec", 5_000, flow)
    assert (job.delay_ms, job.due_ms, job.request) == (70, 0, "token")


@pytest.mark.parametrize("overlap", [Overlap.QUEUE, Overlap.REPLACE])
def test_jobs_that_must_not_overlap_run_alone(overlap: Overlap) -> None:
    assert new_job("s", schedule(overlap=overlap), "id").flow == Flow(alone="schedule:s")
    # A job that runs alone among others keeps that rule.
    own = schedule(overlap=overlap, job=ScheduledJob("report", b"", flow=Flow(alone="mine")))
    assert new_job("s", own, "id").flow == Flow(alone="mine")
    assert new_job("s", schedule(overlap=Overlap.SKIP), "id").flow is None


# -- records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        schedule(),
        schedule(Cron("*/5 2 * * *", tz="Europe/Rome"), paused=True, overlap=Overlap.REPLACE),
        schedule(Every(0.05, start=datetime(2026, 1, 1, 0, 0, 0, 50_000, tzinfo=UTC))),
        schedule(misfire=Misfire.ALL, misfire_grace_ms=0),
        schedule(
            job=ScheduledJob(
                "report",
                b"\x00\xff",
                70,
                7,
                Flow(
                    priority=Priority.LOW,
                    expires_ms=1,
                    group="g",
                    limit="l",
                    key="k",
                    alone="a",
                    unique=Unique("u", UniqueUntil.STARTED, 0, True, 5),
                ),
            )
        ),
    ],
)
def test_a_record_comes_back_as_it_was(given: Schedule) -> None:
    assert decode_record(encode_record(given)) == given
    assert encode_record(decode_record(encode_record(given))) == encode_record(given)


def test_a_record_can_be_read_by_another_program() -> None:
    assert unpack(encode_record(schedule(Cron("0 3 * * *", tz="Europe/Rome")))) == [
        1,
        {
            "timing": ["cron", "0 3 * * *", "Europe/Rome"],
            "job": {"name": "report", "spec": b"spec"},
            "misfire": "once",
            "misfire_grace_ms": 60_000,
            "overlap": "allow",
            "paused": False,
        },
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        pack([]),
        pack([1]),
        pack([1, {}]),
        pack("text"),
        pack([1, {**unpack(encode_record(schedule()))[1], "timing": ["moon", 1, 2]}]),
        pack([1, {**unpack(encode_record(schedule()))[1], "timing": ["cron", "* * * * *", "X/Y"]}]),
        pack([1, {**unpack(encode_record(schedule()))[1], "overlap": "maybe"}]),
    ],
)
def test_a_record_that_cannot_be_read(data: bytes) -> None:
    with pytest.raises(RecordError, match="the schedule's record cannot be decoded"):
        decode_record(data)


def test_a_record_of_a_newer_version_says_so() -> None:
    with pytest.raises(RecordError, match=r"version 2, this program reads 1.*upgrade the workers"):
        decode_record(pack([2, {}]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"misfire": "never"}, "misfire must be one of 'skip', 'once', 'all', not 'never'"),
        ({"overlap": None}, "overlap must be one of 'allow', 'skip', 'queue', 'replace', not None"),
        ({"misfire_grace": -1}, "misfire_grace must be at least 0"),
    ],
)
def test_a_bad_policy_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(**options)
