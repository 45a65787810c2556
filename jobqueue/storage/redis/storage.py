"""``RedisStorage``: the port over Lua scripts, one for each verb."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import NoPermissionError

from jobqueue.errors import AccessDenied, StorageError
from jobqueue.packing import pack_raw
from jobqueue.states import (
    CancelResult,
    EnqueueStatus,
    JobState,
    TtlResult,
)
from jobqueue.storage.base import (
    CONTROL,
    EVENTS,
    INLINE_BYTES,
    MAX_CLAIM_BYTES,
    Claim,
    ClaimRequest,
    Enqueued,
    HeartbeatAnswer,
    Held,
    NewJob,
    Settlement,
    Sink,
    Storage,
    StoredJob,
    StoredResult,
    Subscription,
)
from jobqueue.storage.clock import Clock
from jobqueue.storage.redis.connections import Blocker, Commands, connection_settings
from jobqueue.storage.redis.keys import QueueKeys
from jobqueue.storage.redis.listeners import EventListening
from jobqueue.storage.redis.pubsub import Listener
from jobqueue.storage.redis.server import SECTIONS, check_version, read_info, warn_about_settings
from jobqueue.storage.redis.tls import check_files
from jobqueue.storage.url import masked

logger = logging.getLogger("jobqueue")

_FORGET_DEAD_AFTER_MS: Final = 60_000
"""A dead worker stays on the list that long: a blocked BLMOVE of its may still fill its inbox."""
_STATES: Final = {state.encode(): state for state in JobState}
_ENQUEUE_STATUSES: Final = {status.encode(): status for status in EnqueueStatus}


class RedisStorage(Storage):
    """Jobs on a Redis (7.0 or newer) or Valkey (7.2 or newer) server.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` or ``valkeys://``.
        clock: Gives milliseconds since the epoch in place of the server's clock; for tests.

    Raises:
        ConfigurationError: The URL is malformed.
    """

    in_flight = 2

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        super().__init__()
        connection_settings(url)  # so that a malformed one is found out now
        self._full_url = url
        self._clock = clock
        self._keys: dict[str, QueueKeys] = {}
        self._blockers: dict[tuple[str, str], Blocker] = {}
        self._next_due: dict[tuple[str, str], float] = {}
        self._last_token: dict[tuple[str, str], str] = {}
        self._unchecked: set[str] = set()
        """Queues of which nobody has asked yet whether this user may change them."""
        self._commands: Commands | None = None
        self._listener: Listener | None = None

    @property
    def url(self) -> str:
        return masked(self._full_url)

    def twin(self) -> RedisStorage:
        return RedisStorage(self._full_url, clock=self._clock)

    async def _open(self) -> None:
        commands = Commands(self._full_url)
        check_files(commands.settings, self.url)
        try:
            await self._look_at_server(commands)
        except BaseException:
            await commands.close()
            raise
        self._unchecked = set(self._keys)
        self._commands = commands
        self._listener = Listener(commands.settings, self.url)

    async def _look_at_server(self, commands: Commands) -> None:
        try:
            (answer,) = await commands.execute(("INFO", *SECTIONS))
        except AccessDenied as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            logger.info("%s tells this user neither version nor settings; not checked", self.url)
            return
        info = read_info(answer)
        check_version(info, self.url)
        warn_about_settings(info, self.url)

    async def _close(self) -> None:
        commands, listener = self._commands, self._listener
        self._commands = self._listener = None
        blockers, self._blockers = list(self._blockers.values()), {}
        self._next_due.clear()
        self._last_token.clear()
        for blocker in blockers:
            await blocker.close()
        if listener is not None:
            await listener.close()
        if commands is not None:
            await commands.close()

    def _use(self, queue: str) -> tuple[Commands, QueueKeys]:
        if self._commands is None:
            raise StorageError(f"the storage {self.url} is closed: open it first")
        keys = self._keys.get(queue)
        if keys is None:
            keys = self._keys[queue] = QueueKeys(queue)
            self._unchecked.add(queue)
        return self._commands, keys

    async def _check_access(self, queue: str, *, to_work: bool = False) -> None:
        """See that the server lets this user do all that it will have to, while nothing is done.

        Raises:
            AccessDenied: It does not; the message names what is missing.
        """
        commands, keys = self._use(queue)
        try:
            answer = await commands.call("access", keys, ["1" if to_work else ""])
            refused = ", ".join(name.decode() for name in answer)
        except AccessDenied as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            refused = f"EVALSHA or SCRIPT|LOAD on its keys ({error.__cause__})"
        if refused:
            raise AccessDenied(
                f"{self.url} refuses this user what queue {queue!r} needs: {refused}. Grant it "
                f"those commands, the keys ~{keys.pattern} and the channels &{keys.pattern} "
                "(ACL SETUSER)"
            )
        self._unchecked.discard(queue)

    @property
    def _now(self) -> int | str:
        return "" if self._clock is None else self._clock()

    async def enqueue(self, queue: str, jobs: Sequence[NewJob]) -> list[Enqueued]:
        commands, keys = self._use(queue)
        if queue in self._unchecked:
            await self._check_access(queue)
        # One packed argument for the batch: both sides read it faster than eight for each job.
        packed = pack_raw(
            [
                (
                    job.id,
                    job.name,
                    job.spec,
                    job.delay_ms,
                    job.due_ms,
                    job.ttl_ms,
                    job.request,
                    job.reply_to or "",
                )
                for job in jobs
            ]
        )
        arguments = (self._now, INLINE_BYTES, packed)
        answers: list[Any] = await commands.call("enqueue", keys, arguments) if jobs else []
        return [
            Enqueued(_ENQUEUE_STATUSES[status], _STATES[state], value)
            for status, state, value in answers
        ]

    async def claim(self, queue: str, request: ClaimRequest) -> list[Claim]:
        _, keys = self._use(queue)
        place = (queue, request.worker)
        blocker = self._blocker(place)
        arguments = (
            self._now,
            request.worker,
            request.count,
            request.token,
            request.lease_ms,
            MAX_CLAIM_BYTES,
        )
        give_up_at = time.monotonic() + request.block_ms / 1000
        blocker.wanted = True
        if self._last_token.get(place) == request.token:
            self._next_due.pop(place, None)  # what that claim brought is there already
        self._last_token[place] = request.token
        while True:
            block_ms = self._block_ms(place, give_up_at)
            next_due, more, jobs = await blocker.claim(keys, request.worker, arguments, block_ms)
            self._next_due[place] = time.monotonic() + next_due / 1000 if next_due >= 0 else 0.0
            if jobs:
                return [_claim(job, request.worker) for job in jobs]
            if not more and (not blocker.wanted or time.monotonic() >= give_up_at):
                return []

    def _blocker(self, place: tuple[str, str]) -> Blocker:
        blocker = self._blockers.get(place)
        if blocker is None:
            commands, _ = self._use(place[0])
            blocker = self._blockers[place] = Blocker(commands)
        return blocker

    def _block_ms(self, place: tuple[str, str], give_up_at: float) -> int:
        """How long BLMOVE may wait: not beyond the time at which the next job is due.

        The first claim does not wait: only its answer says when that is.
        """
        now = time.monotonic()
        next_due = self._next_due.get(place)
        if next_due is None or give_up_at <= now:
            return 0
        until = min(give_up_at, next_due) if next_due else give_up_at
        return max(1, round((until - now) * 1000))

    async def unblock(self, queue: str, worker: str) -> None:
        self._use(queue)
        blocker = self._blockers.get((queue, worker))
        if blocker is not None:
            blocker.wanted = False
            await blocker.unblock()

    async def finish(
        self, queue: str, worker: str, settlements: Sequence[Settlement]
    ) -> list[bool]:
        commands, keys = self._use(queue)
        packed = pack_raw(
            [
                (
                    id,
                    str(fence),
                    outcome.state,
                    outcome.event,
                    1 if outcome.refund else 0,
                    outcome.delay_ms,
                    outcome.value,
                    outcome.ttl_ms,
                )
                for id, fence, outcome in settlements
            ]
        )
        arguments = (self._now, worker, INLINE_BYTES, packed)
        answers: list[Any] = await commands.call("finish", keys, arguments) if settlements else []
        return [answer == 1 for answer in answers]

    async def heartbeat(
        self, queue: str, worker: str, held: Sequence[Held], lease_ms: int
    ) -> HeartbeatAnswer:
        commands, keys = self._use(queue)
        arguments: list[Any] = [self._now, worker, lease_ms]
        for lease in held:
            arguments += lease
        lost, cancelled = await commands.call("heartbeat", keys, arguments)
        return HeartbeatAnswer([id.decode() for id in lost], [id.decode() for id in cancelled])

    async def recover(
        self, queue: str, reaper: str, limit: int, lease_ms: int, token: str
    ) -> list[Claim]:
        commands, keys = self._use(queue)
        if queue in self._unchecked:
            await self._check_access(queue)
        arguments = [self._now, reaper, limit, lease_ms, MAX_CLAIM_BYTES, token]
        jobs, dead = await commands.call("recover", keys, arguments)
        for worker in dead:
            await self._forget(queue, worker.decode(), _FORGET_DEAD_AFTER_MS)
        return [_claim(job, job[8].decode(), cancel_requested=job[7] == b"1") for job in jobs]

    async def promote(self, queue: str, limit: int) -> int | None:
        commands, keys = self._use(queue)
        if queue in self._unchecked:
            await self._check_access(queue)
        next_due = await commands.call("promote", keys, [self._now, limit])
        return None if next_due < 0 else next_due

    async def prune(self, queue: str, limit: int) -> int:
        commands, keys = self._use(queue)
        if queue in self._unchecked:
            await self._check_access(queue)
        return await commands.call("prune", keys, [self._now, limit])

    async def cancel(
        self, queue: str, ids: Sequence[str], ttl_ms: int, value: bytes, request: str
    ) -> list[CancelResult]:
        commands, keys = self._use(queue)
        if queue in self._unchecked:
            await self._check_access(queue)
        arguments = [self._now, ttl_ms, value, INLINE_BYTES, request, *ids]
        answers: list[Any] = await commands.call("cancel", keys, arguments) if ids else []
        return [CancelResult(answer.decode()) for answer in answers]

    async def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        commands, keys = self._use(queue)
        hashes: list[Any] = (
            await commands.execute(*(("HGETALL", keys.job(id)) for id in ids)) if ids else []
        )
        return [_stored_job(id, fields) for id, fields in zip(ids, hashes, strict=True)]

    async def results(
        self, queue: str, ids: Sequence[str], reply_to: str | None = None
    ) -> list[StoredResult | None]:
        commands, keys = self._use(queue)
        answers: list[Any] = (
            await commands.call("results", keys, [reply_to or "", *ids]) if ids else []
        )
        return [
            None if answer is None else StoredResult(_STATES[answer[0]], answer[1])
            for answer in answers
        ]

    async def set_result_ttl(self, queue: str, ids: Sequence[str], ttl_ms: int) -> list[TtlResult]:
        commands, keys = self._use(queue)
        if queue in self._unchecked:
            await self._check_access(queue)
        arguments = [self._now, ttl_ms, *ids]
        answers: list[Any] = await commands.call("set_result_ttl", keys, arguments) if ids else []
        return [TtlResult(answer.decode()) for answer in answers]

    async def counts(self, queue: str) -> dict[JobState, int]:
        commands, keys = self._use(queue)
        answer = await commands.call("counts", keys, [self._now])
        return dict(zip(JobState, answer, strict=True))

    async def leave(self, queue: str, worker: str) -> None:
        await self._forget(queue, worker, None)
        self._next_due.pop((queue, worker), None)
        self._last_token.pop((queue, worker), None)
        blocker = self._blockers.pop((queue, worker), None)
        if blocker is not None:
            await blocker.close()

    async def _forget(self, queue: str, worker: str, dead_for_ms: int | None) -> None:
        commands, keys = self._use(queue)
        arguments = [self._now, worker, "" if dead_for_ms is None else dead_for_ms]
        await commands.call("leave", keys, arguments, worker)

    async def listen(self, queue: str, topic: str, sink: Sink) -> Subscription:
        commands, keys = self._use(queue)
        if topic == CONTROL:
            await self._check_access(queue, to_work=True)
        listener = self._listener
        assert listener is not None  # as the commands above
        subscription = await listener.add(keys.topic(topic), topic, sink)
        if topic != EVENTS:
            return subscription
        return await EventListening.start(commands, keys, self._clock, subscription)


def _claim(fields: list[Any], worker: str, *, cancel_requested: bool = False) -> Claim:
    id, name, spec, fence, attempt, enqueued_ms, ttl_ms = fields[:7]
    return Claim(
        id.decode(),
        name.decode(),
        spec,
        int(fence),
        int(attempt),
        int(enqueued_ms),
        int(ttl_ms),
        cancel_requested,
        worker,
    )


def _stored_job(id: str, answer: list[bytes]) -> StoredJob | None:
    if not answer:
        return None
    fields = dict(zip(answer[::2], answer[1::2], strict=True))

    def number(name: bytes) -> int:
        return int(fields.get(name, 0))

    return StoredJob(
        id=id,
        name=fields[b"name"].decode(),
        spec=_joined(fields, b"spec"),
        state=JobState(fields[b"state"].decode()),
        attempt=int(fields.get(b"attempt", b"fence" in fields)),
        fence=number(b"fence"),
        enqueued_ms=number(b"enqueued_ms"),
        due_ms=number(b"due_ms"),
        started_ms=number(b"started_ms"),
        finished_ms=number(b"finished_ms"),
        expires_ms=number(b"finished_ms") + number(b"kept_ms"),
        ttl_ms=number(b"ttl_ms"),
        worker=fields.get(b"worker", b"").decode(),
        cancel_requested=b"cancel_value" in fields,
        value=_joined(fields, b"value"),
    )


def _joined(fields: dict[bytes, bytes], name: bytes) -> bytes:
    """A field that ``lua/include/pieces.lua`` may have stored in pieces."""
    return b"".join(fields.get(name + piece, b"") for piece in (b"", b"1", b"2", b"3"))
