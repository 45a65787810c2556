"""``RedisStorage``: the port over Lua scripts, one for each verb."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final

from redis.exceptions import NoPermissionError

from jobqueue.errors import AccessDenied, StorageError
from jobqueue.flow import (
    Control,
    Limit,
    LimitInfo,
    LimitKind,
    LimitScope,
    Schedules,
    StoredSchedule,
)
from jobqueue.outcome import EXPIRED
from jobqueue.states import CancelResult, JobState, RescheduleResult, TtlResult
from jobqueue.storage.base import Storage
from jobqueue.storage.clock import Clock
from jobqueue.storage.redis import encoding
from jobqueue.storage.redis.connections import Blocker, Commands, connection_settings
from jobqueue.storage.redis.keys import QueueKeys
from jobqueue.storage.redis.listeners import EventListening
from jobqueue.storage.redis.pubsub import Listener
from jobqueue.storage.redis.server import SECTIONS, check_version, read_info, warn_about_settings
from jobqueue.storage.redis.tls import check_files
from jobqueue.storage.types import (
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
    Offer,
    Settlement,
    Sink,
    StoredJob,
    StoredResult,
    Subscription,
)
from jobqueue.storage.url import masked

logger = logging.getLogger("jobqueue")

_FORGET_DEAD_AFTER_MS: Final = 60_000
"""A dead worker stays on the list that long: a blocked BLMOVE of its may still fill its inbox."""


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
            await commands.try_silence()
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

    def _run(self, queue: str, script: str, *arguments: Any) -> Awaitable[Any]:
        """Run a script with the storage's time as its first argument."""
        commands, keys = self._use(queue)
        if queue in self._unchecked:
            return self._check_and_run(queue, script, *arguments)
        now = "" if self._clock is None else self._clock()
        return commands.call(script, keys, (now, *arguments))

    async def _check_and_run(self, queue: str, script: str, *arguments: Any) -> Any:
        await self._check_access(queue)
        return await self._run(queue, script, *arguments)

    async def enqueue(self, queue: str, jobs: Sequence[NewJob]) -> list[Enqueued]:
        if not jobs:
            return []
        answers = await self._run(queue, "enqueue", INLINE_BYTES, encoding.pack_jobs(jobs))
        return [encoding.enqueued(answer) for answer in answers]

    def send(self, queue: str, job: NewJob) -> bool:
        keys = self._keys.get(queue)
        if self._commands is None or keys is None or queue in self._unchecked:
            return False
        now = "" if self._clock is None else self._clock()
        arguments = (now, INLINE_BYTES, encoding.pack_jobs([job]))
        return self._commands.send("enqueue", keys, arguments)

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
            EXPIRED,
            INLINE_BYTES,
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
                return [encoding.claim_of(job, request.worker) for job in jobs]
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
        self,
        queue: str,
        worker: str,
        settlements: Sequence[Settlement],
        offer: Offer | None = None,
    ) -> list[bool]:
        if not settlements:
            return []
        packed = encoding.pack_settlements(settlements)
        answers = await self._run(queue, "finish", worker, INLINE_BYTES, packed, *(offer or ()))
        return [answer == 1 for answer in answers]

    async def withdraw(self, queue: str, worker: str) -> Claim | None:
        commands, keys = self._use(queue)
        job = await commands.call("withdraw", keys, [worker])
        return None if job is None else encoding.claim_of(job, worker)

    async def heartbeat(
        self, queue: str, worker: str, held: Sequence[Held], lease_ms: int
    ) -> HeartbeatAnswer:
        arguments: list[Any] = []
        for lease in held:
            arguments += lease
        lost, cancelled = await self._run(queue, "heartbeat", worker, lease_ms, *arguments)
        return HeartbeatAnswer([id.decode() for id in lost], [id.decode() for id in cancelled])

    async def recover(
        self, queue: str, reaper: str, limit: int, lease_ms: int, token: str
    ) -> list[Claim]:
        jobs, dead = await self._run(
            queue, "recover", reaper, limit, lease_ms, MAX_CLAIM_BYTES, token
        )
        for worker in dead:
            await self._forget(queue, worker.decode(), _FORGET_DEAD_AFTER_MS)
        return [
            encoding.claim_of(job, job[8].decode(), cancel_requested=job[7] == b"1") for job in jobs
        ]

    async def promote(self, queue: str, limit: int) -> int | None:
        next_ms = await self._run(queue, "promote", limit, EXPIRED, INLINE_BYTES)
        return None if next_ms < 0 else next_ms

    async def prune(self, queue: str, limit: int) -> int:
        return await self._run(queue, "prune", limit)

    async def cancel(
        self, queue: str, ids: Sequence[str], ttl_ms: int, value: bytes, request: str
    ) -> list[CancelResult]:
        if not ids:
            return []
        answers = await self._run(queue, "cancel", ttl_ms, value, INLINE_BYTES, request, *ids)
        return [CancelResult(answer.decode()) for answer in answers]

    async def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        commands, keys = self._use(queue)
        hashes: list[Any] = (
            await commands.execute(*(("HGETALL", keys.job(id)) for id in ids)) if ids else []
        )
        return [encoding.stored_job(id, fields) for id, fields in zip(ids, hashes, strict=True)]

    async def results(
        self, queue: str, ids: Sequence[str], reply_to: str | None = None
    ) -> list[StoredResult | None]:
        commands, keys = self._use(queue)
        answers: list[Any] = (
            await commands.call("results", keys, [reply_to or "", *ids]) if ids else []
        )
        return [
            None if answer is None else StoredResult(encoding.STATES[answer[0]], answer[1])
            for answer in answers
        ]

    async def set_result_ttl(self, queue: str, ids: Sequence[str], ttl_ms: int) -> list[TtlResult]:
        if not ids:
            return []
        answers = await self._run(queue, "set_result_ttl", ttl_ms, *ids)
        return [TtlResult(answer.decode()) for answer in answers]

    async def counts(self, queue: str) -> dict[JobState, int]:
        commands, keys = self._use(queue)
        answer = await commands.call("counts", keys, [self._now])
        return dict(zip(JobState, answer, strict=True))

    async def reschedule(
        self, queue: str, ids: Sequence[str], due_ms: int
    ) -> list[RescheduleResult]:
        if not ids:
            return []
        answers = await self._run(queue, "reschedule", due_ms, *ids)
        return [RescheduleResult(answer.decode()) for answer in answers]

    async def delayed(
        self, queue: str, limit: int, after: tuple[int, str] | None = None
    ) -> list[StoredJob]:
        found = await self._run(queue, "delayed", limit, *(after or ()))
        jobs = [
            encoding.stored_job(id.decode(), fields)
            for id, fields in zip(found[::2], found[1::2], strict=True)
        ]
        return [job for job in jobs if job is not None]

    async def control(self, queue: str, changes: Mapping[str, int] | None = None) -> Control:
        fields = [part for change in (changes or {}).items() for part in change]
        paused, draining, max_waiting, low_every = await self._run(queue, "control", *fields)
        return Control(
            paused=bool(paused),
            draining=bool(draining),
            max_waiting=max_waiting,
            low_every=low_every,
        )

    async def set_limit(self, queue: str, scope: LimitScope, limit: Limit | None) -> None:
        await self._run(queue, "set_limit", *encoding.limit_arguments(scope, limit))

    async def limits(self, queue: str) -> list[LimitInfo]:
        found = [encoding.limit_info(answer) for answer in await self._run(queue, "limits")]
        kinds = list(LimitKind)
        return sorted(found, key=lambda info: (kinds.index(info.scope.kind), info.scope.name))

    async def clear(self, queue: str, limit: int, ttl_ms: int, value: bytes) -> int:
        return await self._run(queue, "clear", limit, ttl_ms, value, INLINE_BYTES)

    async def obliterate(self, queue: str, limit: int) -> int:
        return await self._run(queue, "obliterate", limit)

    async def schedules(
        self, queue: str, ids: Sequence[str] | None = None, *, due: int = 0
    ) -> Schedules:
        wish = ("ids", *ids) if ids is not None else ("due", due) if due else ("all",)
        now_ms, next_ms, packed = await self._run(queue, "schedules", *wish)
        found = [
            encoding.schedule_of(id, record)
            for id, record in zip(packed[::2], packed[1::2], strict=True)
        ]
        if wish == ("all",):
            found.sort(key=lambda schedule: schedule.id)
        return Schedules(now_ms, next_ms, found)

    async def put_schedule(
        self, queue: str, schedule: StoredSchedule, jobs: Sequence[NewJob] = ()
    ) -> bool:
        packed = encoding.pack_jobs(jobs), schedule.id, encoding.pack_schedule(schedule)
        return bool(await self._run(queue, "put_schedule", INLINE_BYTES, *packed))

    async def delete_schedule(self, queue: str, id: str) -> bool:
        return bool(await self._run(queue, "delete_schedule", id))

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
        if topic == CONTROL:
            await self._check_access(queue, to_work=True)
        commands, keys = self._use(queue)  # it may have been closed meanwhile
        listener = self._listener
        assert listener is not None  # as the commands above
        subscription = await listener.add(keys.topic(topic), topic, sink)
        if topic != EVENTS:
            return subscription
        return await EventListening.start(commands, keys, self._clock, subscription)
