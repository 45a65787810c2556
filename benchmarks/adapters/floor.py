"""The floor: our Lua scripts, driven by the barest client that can be written.

Blocking sockets, hiredis to pack and to parse, and always a second batch on its way while the
server works on the first. No event loop, no handlers, no leases renewed, no hooks, no events,
nothing decoded that is not looked at. What it reaches is what the server and the scripts allow;
ours divided by it says what our own Python costs.

The arguments are those that ``jobqueue/storage/redis/storage.py`` sends; the headers in ``lua/``
describe them.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Sequence
from typing import Any, NoReturn
from urllib.parse import urlsplit

import hiredis

from adapters.base import Message, SyncAdapter, clock, run
from jobqueue.ids import new_job_id
from jobqueue.options import JobOptions
from jobqueue.packing import pack, pack_raw, unpack, unpack_raw
from jobqueue.spec import decode_spec, encode_spec
from jobqueue.storage.redis.keys import QueueKeys
from jobqueue.storage.redis.scripts import load
from jobqueue.storage.types import handed, replies

WORKER = "floor"
CALLER = "caller"
LEASE_MS = 30_000
RESULT_TTL_MS = 3_600_000
INLINE_BYTES = 65_536
MAX_CLAIM_BYTES = 4 * 1024 * 1024
BATCHES_IN_FLIGHT = 2
NOTHING = pack(None)
PING = ("PING",)
"""As in ``jobqueue/storage/redis/connections.py``, in front of a script that somebody waits for."""
Command = tuple[Any, ...]


class Client:
    """A socket to the server: many commands in one write, as many replies read."""

    def __init__(self, url: str, queue: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self._socket = socket.create_connection((address.hostname, address.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self.keys = keys = QueueKeys(queue)
        self._scripts: dict[str, Command] = {}
        for name in ("enqueue", "claim", "finish"):
            script = load(name)
            self.send(("SCRIPT", "LOAD", script.source))
            self.receive()
            named = [keys.named(key, WORKER) for key in script.keys]
            self._scripts[name] = ("EVALSHA", script.sha, len(named), *named)

    def script(self, name: str, *arguments: Any) -> Command:
        """The command that runs a script."""
        return (*self._scripts[name], *arguments)

    def send(self, *commands: Command) -> None:
        self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))

    def receive(self) -> Any:
        """The next reply."""
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 18))
        if isinstance(reply, Exception):
            raise reply
        return reply


class Floor(SyncAdapter):
    def __init__(self, opened: Message) -> None:
        super().__init__(opened)
        self.client = Client(self.url, self.queue)
        self.replies: Client | None = None
        self.tokens = itertools.count()

    def enqueue_one(self, handler: str, args: tuple[Any, ...]) -> None:
        """One job; for the pick-up with the time at which it was enqueued."""
        self._send_one(handler, args, "")
        self._receive_last()

    def call_one(self, payload: str) -> Any:
        if self.replies is None:
            self.replies = Client(self.url, self.queue)
            self.replies.send(("SUBSCRIBE", self.replies.keys.topic(replies(CALLER))))
            self.replies.receive()
        self._send_one("echo", (payload,), CALLER)
        answer = self.replies.receive()
        self._receive_last()
        return answer

    def _receive_last(self) -> None:
        """The answers to a script and to the PING in front of it."""
        self.client.receive()
        self.client.receive()

    def _send_one(self, handler: str, args: tuple[Any, ...], reply_to: str) -> None:
        payload = pack(dict(zip(("data", "enqueued_ns"), args, strict=False)))
        spec = encode_spec(payload, "msgpack", JobOptions())
        jobs = [(new_job_id(), handler, spec, 0, 0, 0, "", reply_to)]
        self.client.send(PING, self.client.script("enqueue", "", INLINE_BYTES, pack_raw(jobs)))

    def do_enqueue(self, message: Message) -> Message:
        """Scripts of ``concurrency`` jobs each: what our producer makes of as many calls."""
        payload = pack({"data": "x" * message["payload_bytes"]})
        spec = encode_spec(payload, "msgpack", JobOptions())
        batch: int = 1 if message["mode"] == "single" else message["concurrency"]
        start = time.perf_counter()
        on_their_way = 0
        for _ in range(message["count"] // batch):
            jobs = [(new_job_id(), "noop", spec, 0, 0, 0, "", "") for _ in range(batch)]
            self.client.send(self.client.script("enqueue", "", INLINE_BYTES, pack_raw(jobs)))
            on_their_way += 1
            if message["mode"] == "single" or on_their_way == BATCHES_IN_FLIGHT:
                self.client.receive()
                on_their_way -= 1
        for _ in range(on_their_way):
            self.client.receive()
        return {"seconds": time.perf_counter() - start, "count": message["count"] // batch * batch}

    def do_claims(self, message: Message) -> Message:
        """Claims of one job each, one after the other: what a claim takes."""
        took: list[float] = []
        for _ in range(message["count"]):
            start = time.perf_counter()
            self.client.send(self._claim(1))
            self.client.receive()
            took.append((time.perf_counter() - start) * 1e6)
        return {"took_us": took}

    def work(self, concurrency: int, handler: str) -> None:
        """Claim and finish until the process ends: ``concurrency`` jobs at a time that are there
        already, or one at a time as they come."""
        if handler != "noop":
            self._work_as_they_come(handler)
        claim = concurrency // BATCHES_IN_FLIGHT
        clock.begin()
        self.client.send(*(self._claim(claim) for _ in range(BATCHES_IN_FLIGHT)))
        for number in itertools.count():
            if number >= BATCHES_IN_FLIGHT:
                self.client.receive()  # the finish that was sent in front of this claim
            jobs = self.client.receive()[2]
            if not jobs:
                break
            clock.ends_ns.extend([time.monotonic_ns()] * len(jobs))
            self.client.send(self._finish(jobs), self._claim(claim))
        while True:
            time.sleep(3600)

    def _work_as_they_come(self, handler: str) -> NoReturn:
        """The first is waited for and claimed; each outcome offers to take the next."""
        keys = self.client.keys
        hearing = Client(self.url, self.queue)
        hearing.send(("SSUBSCRIBE", keys.topic(handed(WORKER))))
        hearing.receive()
        wait = ("BLMOVE", keys.named("ready"), keys.named("inbox", WORKER), "LEFT", "RIGHT", "0")
        self.client.send(wait, self._claim(1))
        self.client.receive()
        (job,) = self.client.receive()[2]
        while True:
            if handler == "stamp":
                clock.stamp(unpack(decode_spec(job[2]).payload)["enqueued_ns"])
            self.client.send(PING, self._finish([job], RESULT_TTL_MS, LEASE_MS))
            job = unpack_raw(hearing.receive()[2])
            self._receive_last()

    def _claim(self, count: int) -> Command:
        token = f"{WORKER}-{next(self.tokens)}"
        return self.client.script("claim", "", WORKER, count, token, LEASE_MS, MAX_CLAIM_BYTES)

    def _finish(self, jobs: Sequence[Sequence[Any]], *offer: int) -> Command:
        done = [
            (job[0], str(job[3]), "completed", "completed", 0, 0, NOTHING, RESULT_TTL_MS)
            for job in jobs
        ]
        return self.client.script("finish", "", WORKER, INLINE_BYTES, pack_raw(done), *offer)


if __name__ == "__main__":
    run(Floor)
