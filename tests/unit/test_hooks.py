"""Hooks: who is called with what, and that one that raises changes nothing."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from jobqueue.hooks import Execution, HookEvent, Hooks
from jobqueue.job import Job
from jobqueue.states import EventType

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def _event(type: EventType = EventType.COMPLETED) -> HookEvent:
    return HookEvent(type=type, id="a", name="n", queue="q", at=NOW, attempt=1, result=3)


def _execution() -> Execution:
    job = Job(id="a", name="n", payload=None, attempt=1, max_attempts=3, queue="q", enqueued_ms=0)
    return Execution(job=job, result="result", error=None, result_ttl=60)


@pytest.mark.parametrize("type", EventType)
async def test_a_hook_hears_its_own_event_alone(type: EventType) -> None:
    hooks = Hooks()
    heard: list[Any] = []
    hooks.add(str(type), heard.append)
    for each in EventType:
        assert hooks.wanted(each) == (each is type)
        await hooks.emit(_event(each))
    assert heard == [_event(type)]


async def test_sync_and_async_hooks_are_called_in_order() -> None:
    hooks = Hooks()
    heard: list[str] = []

    async def second(event: HookEvent) -> None:
        heard.append("second")

    hooks.add("completed", lambda event: heard.append("first"))
    hooks.add("completed", second)
    hooks.add("completed", lambda event: heard.append("third"))
    await hooks.emit(_event())
    assert heard == ["first", "second", "third"]


@pytest.mark.parametrize("wrong", ["finished", "", "COMPLETED", None])
def test_an_unknown_event_names_the_known_ones(wrong: Any) -> None:
    with pytest.raises(ValueError, match="use one of enqueued, started, completed"):
        Hooks().add(wrong, print)


async def test_a_hook_that_raises_is_logged_and_the_next_is_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hooks = Hooks()
    heard: list[Any] = []

    async def later(event: HookEvent) -> None:
        raise KeyError("later")

    def at_once(event: HookEvent) -> None:
        raise KeyError("at once")

    for hook in (at_once, later, heard.append):
        hooks.add("completed", hook)
    with caplog.at_level(logging.ERROR, "jobqueue"):
        await hooks.emit(_event())
    assert heard == [_event()]
    assert all("of job 'a' raised" in record.getMessage() for record in caplog.records)
    assert len(caplog.records) == 2
    assert all(record.exc_info for record in caplog.records)


async def test_after_execution_may_change_the_ending() -> None:
    hooks = Hooks()
    assert not hooks.sees_executions

    def fail(execution: Execution) -> None:
        execution.error = ValueError("not good enough")

    async def keep(execution: Execution) -> None:
        assert isinstance(execution.error, ValueError)
        execution.result_ttl = 5

    hooks.add_after_execution(fail)
    hooks.add_after_execution(keep)
    assert hooks.sees_executions
    execution = _execution()
    await hooks.after_execution(execution)
    assert str(execution.error) == "not good enough"
    assert (execution.result, execution.result_ttl) == ("result", 5)


async def test_what_an_execution_hook_changed_before_it_raised_is_undone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hooks = Hooks()

    def first(execution: Execution) -> None:
        execution.result = "first"

    async def second(execution: Execution) -> None:
        execution.result, execution.error, execution.result_ttl = "second", OSError(), 1
        raise KeyError

    def third(execution: Execution) -> None:
        execution.result += " and third"

    for hook in (first, second, third):
        hooks.add_after_execution(hook)
    execution = _execution()
    await hooks.after_execution(execution)
    assert (execution.result, execution.error, execution.result_ttl) == (
        "first and third",
        None,
        60,
    )
    assert "after_execution of job 'a' raised" in caplog.text


async def test_a_hook_is_not_a_shield_against_the_end_of_the_process() -> None:
    hooks = Hooks()

    def leave(event: HookEvent) -> None:
        raise SystemExit(1)

    hooks.add("completed", leave)
    with pytest.raises(SystemExit):
        await hooks.emit(_event())
