"""Keys that a test leaves on a server, held against the rules for keys.

A key without a time to live stays for ever, so each has to be one of those that may: the fixed keys
of a queue, and jobs that have not ended. A job that has not ended must not have a time to live: it
would vanish without having run. And each job is where its state says, and is counted once.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from jobqueue.states import TERMINAL, JobState

QUEUE_KEY: Final = re.compile(rb"\A(jq:\{[^{}]*\}:)(.*)\Z", re.DOTALL)
FIXED: Final = re.compile(
    rb"\A(ready|delayed|leases|workers|claimed|handed|counts|stale|listeners|finished:[a-z]+"
    rb"|normal|high|low|group:.*|turns:[a-z]+|limits|busy|held|held:.*|woken:[a-z]+|wakes|expiring|unique:.*"
    rb"|schedules|schedules_due)\Z",
    re.DOTALL,
)
LINE: Final = re.compile(rb"\A(high|low|group:.*|held:.*|woken:[a-z]+)\Z", re.DOTALL)


@dataclass
class _Queue:
    """The keys of one queue, without their common prefix."""

    prefix: bytes
    keys: list[bytes] = field(default_factory=list)

    def key(self, name: bytes) -> bytes:
        return self.prefix + name


def find_faults(admin: Any, allowed: Sequence[str]) -> list[str]:
    """Name every key of a server that breaks a rule.

    Args:
        admin: A client of redis-py, not asyncio, that does not decode.
        allowed: Regular expressions of keys to which the rules for single keys do not apply.
    """
    exempt = [re.compile(pattern.encode(), re.DOTALL) for pattern in allowed]
    queues: defaultdict[bytes, list[bytes]] = defaultdict(list)
    faults: list[str] = []
    for key in admin.keys("*"):
        match = QUEUE_KEY.match(key)
        if match is not None:
            queues[match[1]].append(match[2])
        elif not any(rule.search(key) for rule in exempt):
            faults.append(f"{key!r} belongs to no queue")
    for prefix, names in queues.items():
        faults += _faults_of(admin, _Queue(prefix, names), exempt)
    return faults


def _faults_of(admin: Any, queue: _Queue, exempt: list[re.Pattern[bytes]]) -> Iterator[str]:
    states: dict[bytes, JobState] = {}
    for name in queue.keys:
        key = queue.key(name)
        if any(rule.search(key) for rule in exempt):
            continue
        lives_for_ever = admin.pttl(key) == -1
        if not name.startswith(b"job:"):
            if lives_for_ever and not FIXED.match(name):
                yield f"{key!r} has no time to live"
            continue
        state = admin.hget(key, "state")
        if state is None:
            if admin.exists(key):  # and has not just expired
                yield f"{key!r} is a job without a state"
            continue
        states[name.removeprefix(b"job:")] = JobState(state.decode())
        if lives_for_ever == (state.decode() in TERMINAL):
            yield f"{key!r} is {state.decode()} and has {'no' if lives_for_ever else 'a'} TTL"
    yield from _misplaced(admin, queue, states)


def _misplaced(admin: Any, queue: _Queue, states: dict[bytes, JobState]) -> Iterator[str]:
    """Jobs that are not where their state says, and numbers that are not theirs."""
    lists = [b"ready", b"normal", *(name for name in queue.keys if name.startswith(b"inbox:"))]
    ready = {id for name in lists for id in admin.lrange(queue.key(name), 0, -1)}
    lines = [name for name in queue.keys if LINE.match(name)]
    in_lines = {id for name in lines for id in admin.zrange(queue.key(name), 0, -1)}
    delayed = set(admin.zrange(queue.key(b"delayed"), 0, -1))
    leases = set(admin.zrange(queue.key(b"leases"), 0, -1))
    by_state: defaultdict[JobState, set[bytes]] = defaultdict(set)
    for id, state in states.items():
        by_state[state].add(id)
    # A pointer in a list is no permission, so it may outlive its job; the indexes may not.
    if lost := by_state[JobState.QUEUED] - ready - in_lines:
        yield f"{queue.prefix!r}: queued, and nowhere to be claimed from: {lost}"
    if gone := in_lines - by_state[JobState.QUEUED]:
        yield f"{queue.prefix!r}: in a line, and not queued: {gone}"
    yield from _miscounted(admin, queue, states, in_lines)
    if lost := set(admin.smembers(queue.key(b"stale"))) - ready:
        yield f"{queue.prefix!r}: stale, and not in the list any more: {lost}"
    if delayed != by_state[JobState.SCHEDULED] | by_state[JobState.RETRYING]:
        yield f"{queue.prefix!r}: delayed holds {delayed}, the states are {states}"
    if leases != by_state[JobState.RUNNING]:
        yield f"{queue.prefix!r}: leases holds {leases}, the states are {states}"
    workers = set(admin.zrange(queue.key(b"workers"), 0, -1))
    if gone := set(admin.hkeys(queue.key(b"claimed"))) - workers:
        yield f"{queue.prefix!r}: the last claims of workers that are gone: {gone}"
    if gone := set(admin.hkeys(queue.key(b"handed"))) - workers:
        yield f"{queue.prefix!r}: what was handed to workers that are gone: {gone}"
    numbers = Counter(states.values())
    for state in JobState:
        if state in TERMINAL:
            index = set(admin.zrange(queue.key(b"finished:" + state.encode()), 0, -1))
            if lost := by_state[state] - index:
                yield f"{queue.prefix!r}: {state.value}, and not in the index: {lost}"
        elif state is not JobState.RUNNING:
            # What runs has been held against the leases.
            counted = int(admin.hget(queue.key(b"counts"), state.value) or 0)
            if counted != numbers[state]:
                yield f"{queue.prefix!r}: {numbers[state]} {state.value}, counted as {counted}"


def _miscounted(
    admin: Any, queue: _Queue, states: dict[bytes, JobState], in_lines: set[bytes]
) -> Iterator[str]:
    """What time and flow keeps beside the jobs, held against them."""
    held = {name: int(n) for name, n in admin.hgetall(queue.key(b"held")).items()}
    there = {
        name.removeprefix(b"held:"): admin.zcard(queue.key(name))
        for name in queue.keys
        if name.startswith(b"held:")
    }
    if held != there:
        yield f"{queue.prefix!r}: held back are {there}, counted as {held}"
    if not admin.hexists(queue.key(b"counts"), "flow"):
        return
    alive = {id for id, state in states.items() if state not in TERMINAL}
    flowing = {id for id in alive if admin.hexists(queue.key(b"job:" + id), "flow")}
    counted = int(admin.hget(queue.key(b"counts"), "flowing") or 0)
    if counted != len(flowing):
        yield f"{queue.prefix!r}: {len(flowing)} jobs say when they start, counted as {counted}"
    if (
        lost := in_lines
        - flowing
        - {
            id
            for name in queue.keys
            if name.startswith((b"held:", b"woken:"))
            for id in _members(admin, queue, name)
        }
    ):
        yield f"{queue.prefix!r}: in a line, and say nothing: {lost}"
    if gone := set(admin.zrange(queue.key(b"expiring"), 0, -1)) - alive:
        yield f"{queue.prefix!r}: still to expire, and ended: {gone}"
    for name in queue.keys:
        key = queue.key(name)
        if name.startswith(b"unique:") and admin.pttl(key) == -1 and admin.get(key) not in alive:
            yield f"{key!r} stays for ever, and its job has ended"
    number = sum(map(int, admin.hvals(queue.key(b"busy"))))
    if number and not any(state is JobState.RUNNING for state in states.values()):
        yield f"{queue.prefix!r}: nothing runs, counted as {number} in {queue.key(b'busy')!r}"


def _members(admin: Any, queue: _Queue, name: bytes) -> list[bytes]:
    return admin.zrange(queue.key(name), 0, -1)
