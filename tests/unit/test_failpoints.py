"""Each verb of the port has two failpoints, and without the variable there are none."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from jobqueue import MemoryStorage, Queue
from jobqueue.errors import ConfigurationError
from jobqueue.storage.base import Storage
from jobqueue.storage.failpoints import EXIT_STATUS, MOMENTS, VERBS
from jobqueue.storage.url import FAILPOINT, storage_from

PORT = [
    name
    for name in dir(Storage)
    if not name.startswith("_") and inspect.iscoroutinefunction(getattr(Storage, name))
]


class Ended(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really called, of a storage whose verbs do nothing else."""
    called: list[str] = []

    def spy(verb: str) -> Callable[..., Any]:
        async def call(self: Storage, *arguments: Any, **named: Any) -> Any:
            called.append(verb)
            return verb, arguments, named

        return call

    def end(status: int) -> None:
        raise Ended(status)

    for verb in PORT:
        monkeypatch.setattr(MemoryStorage, verb, spy(verb))
    monkeypatch.setattr(os, "_exit", end)
    return called


def armed(monkeypatch: pytest.MonkeyPatch, failpoint: str) -> Storage:
    monkeypatch.setenv(FAILPOINT, failpoint)
    return storage_from("memory://")


def test_every_verb_of_the_port_has_its_failpoints() -> None:
    assert {"open", "enqueue", "claim", "finish", "close"} <= set(PORT)
    assert sorted(VERBS) == sorted(PORT)
    assert MOMENTS == ("before", "after")


@pytest.mark.parametrize("verb", PORT)
async def test_before_a_call_nothing_has_been_sent(
    monkeypatch: pytest.MonkeyPatch, calls: list[str], verb: str
) -> None:
    storage = armed(monkeypatch, f"{verb}.before")
    with pytest.raises(Ended, match=str(EXIT_STATUS)):
        await getattr(storage, verb)("some", thing=1)
    assert calls == []


@pytest.mark.parametrize("verb", PORT)
async def test_after_a_call_it_has_been_answered(
    monkeypatch: pytest.MonkeyPatch, calls: list[str], verb: str
) -> None:
    storage = armed(monkeypatch, f"{verb}.after")
    with pytest.raises(Ended, match=str(EXIT_STATUS)):
        await getattr(storage, verb)("some", thing=1)
    assert calls == [verb]


@pytest.mark.parametrize("verb", PORT)
async def test_other_verbs_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, calls: list[str], verb: str
) -> None:
    storage = armed(monkeypatch, f"{verb}.before")
    for other in PORT:
        if other != verb:
            assert await getattr(storage, other)("some", thing=1) == (
                (other, ("some",), {"thing": 1})
            )


@pytest.mark.parametrize("moment", MOMENTS)
async def test_the_calls_of_a_handle_and_its_twins_are_counted_together(
    monkeypatch: pytest.MonkeyPatch, calls: list[str], moment: str
) -> None:
    storage = armed(monkeypatch, f"counts.{moment}:3")
    twin = storage.twin()
    assert await storage.counts("q") == ("counts", ("q",), {})
    assert await twin.counts("q") == ("counts", ("q",), {})
    with pytest.raises(Ended):
        await twin.twin().counts("q")
    assert len(calls) == (2 if moment == "before" else 3)


@pytest.mark.parametrize(
    "wrong",
    [
        *("finish", "finish.during", "finish.", ".before", "twin.before", "_open.before"),
        *("finish.after:0", "finish.after:-1", "finish.after:x", "finish.after:", " finish.after"),
    ],
)
def test_an_unknown_failpoint_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv(FAILPOINT, wrong)
    with pytest.raises(ConfigurationError, match=r"no failpoint .* VERB\.before"):
        Queue("q", "memory://")


@pytest.mark.parametrize("value", ["", None])
def test_when_it_is_off_a_handle_is_as_it_was_made(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv(FAILPOINT, raising=False)
    else:
        monkeypatch.setenv(FAILPOINT, value)
    storage = storage_from("memory://")
    assert vars(storage).keys() == vars(MemoryStorage()).keys()
    assert vars(storage.twin()).keys() == vars(MemoryStorage()).keys()


def test_the_process_really_ends_there() -> None:
    program = (
        "import asyncio, atexit, jobqueue\n"
        "atexit.register(print, 'tidied up')\n"
        "queue = jobqueue.Queue('q', 'memory://')\n"
        "asyncio.run(queue.enqueue('task'))\n"
        "print('went on')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {FAILPOINT: "enqueue.after"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == EXIT_STATUS
    assert ended.stdout == ""
    assert ended.stderr == "jobqueue: ended at the failpoint enqueue.after\n"
