"""An adapter as a process: started, asked, ended."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

import envs
from peers import Peer

Message = dict[str, Any]
POLL_SECONDS = 0.05
STOP_SECONDS = 5.0


class Failed(Exception):
    """A system did not do what it was asked to; the message says what it said."""


class Unsupported(Exception):
    """A system has nothing of the kind."""


class Adapter:
    """One process of one system.

    Args:
        peer: The system.
        url: Its storage.
        queue: Name of the queue.
        role: ``"producer"``, ``"worker"`` or ``"both"``.
        results: Whether results will be asked for.
        patience: Seconds to wait for an answer.
    """

    def __init__(
        self,
        peer: Peer,
        url: str,
        queue: str,
        role: str,
        *,
        results: bool = False,
        patience: float = 300,
    ) -> None:
        self.peer = peer
        self.patience = patience
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._answers: Queue[str] = Queue()
        self._process = subprocess.Popen(
            envs.command(peer.env, peer.program),
            cwd=envs.HERE,
            env=envs.variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        opened = {"do": "open", "url": url, "queue": queue, "role": role, "results": results}
        try:
            self.versions: dict[str, str] = self.ask(opened, timeout=60)["versions"]
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def ask(self, message: Message, timeout: float | None = None) -> Message:
        """Send a command and wait for its answer.

        Raises:
            Unsupported: The system has nothing of the kind.
            Failed: It answered with an error, ended, or took too long.
        """
        assert self._process.stdin is not None
        timeout = timeout or self.patience
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=timeout)
        except OSError as error:
            raise Failed(f"{self.peer.label} ended: {self._last_words()}") from error
        except Empty:
            raise Failed(f"no answer to {message['do']!r} within {timeout:g} s") from None
        if not line:
            raise Failed(f"{self.peer.label} ended: {self._last_words()}")
        answer: Message = json.loads(line)
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def stop(self) -> None:
        """End the process, at once. Idempotent."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.readlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"


def wait_until_done(workers: list[Adapter], count: int) -> list[Message]:
    """Wait until the handlers of all these processes together ran so often.

    Raises:
        Failed: It took too long.
    """
    timeout = workers[0].patience
    deadline = time.monotonic() + timeout
    while True:
        reports = [worker.ask({"do": "report"}) for worker in workers]
        done = sum(report["count"] for report in reports)
        if done >= count:
            return reports
        if time.monotonic() > deadline:
            raise Failed(f"{done} of {count} jobs done within {timeout:g} s")
        time.sleep(POLL_SECONDS)
