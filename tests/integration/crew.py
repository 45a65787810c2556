"""Further processes: each runs one of the programs, says when it is ready, and goes on when told.

A storage that only one process can use gets threads instead, each with an event loop and a handle
of its own, which is as far apart as its users can be.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from jobqueue import Queue
from tests.integration.programs import Program
from tests.support.backends import Backend

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 20.0
"""Seconds after which a program that says nothing counts as hung."""


class Member(ABC):
    """One program that runs elsewhere."""

    @abstractmethod
    async def ready(self) -> None:
        """Wait until it is ready."""

    @abstractmethod
    def go(self) -> None:
        """Let it go on."""

    @abstractmethod
    async def result(self) -> Any:
        """Wait for its end; what it returned.

        Raises:
            AssertionError: It failed.
        """

    @abstractmethod
    async def end(self) -> None:
        """Make sure that it has ended."""


class ProcessMember(Member):
    """In a process of its own."""

    def __init__(self, url: str, program: Program, arguments: tuple[Any, ...]) -> None:
        command = [sys.executable, "-m", "tests.integration.programs"]
        command += [url, program.__name__, json.dumps(arguments)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def ready(self) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await asyncio.to_thread(self.process.stdout.readline)
        if line != "ready\n":
            _, err = await self._end_of_output()
            raise AssertionError(f"the program failed before it was ready: {line!r}\n{err}")

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    async def result(self) -> Any:
        out, err = await self._end_of_output()
        assert self.process.returncode == 0, f"exit code {self.process.returncode}\n{err}"
        return json.loads(out.splitlines()[-1])

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Send a signal."""
        self.process.send_signal(signal_number)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self._end_of_output()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    async def _end_of_output(self) -> tuple[str, str]:
        return await asyncio.to_thread(self.process.communicate, timeout=PATIENCE)


class ThreadMember(Member):
    """In a thread of this process, for a storage that cannot leave it."""

    def __init__(self, backend: Backend, program: Program, arguments: tuple[Any, ...]) -> None:
        self._ready = threading.Event()
        self._go = threading.Event()
        self._future: Future[Any] = Future()

        def make_queue(name: str = "q", **options: Any) -> Queue:
            return Queue(name, backend.handle(), **options)

        async def ready() -> None:
            self._ready.set()
            await asyncio.to_thread(self._go.wait)

        def run() -> None:
            try:
                self._future.set_result(asyncio.run(program(make_queue, ready, *arguments)))
            except BaseException as error:
                self._future.set_exception(error)
                self._ready.set()

        self._thread = threading.Thread(target=run, name=f"crew-{program.__name__}")
        self._thread.start()

    async def ready(self) -> None:
        assert await asyncio.to_thread(self._ready.wait, PATIENCE), "not ready in time"

    def go(self) -> None:
        self._go.set()

    async def result(self) -> Any:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.wrap_future(self._future)

    async def end(self) -> None:
        self._go.set()
        await asyncio.to_thread(self._thread.join, PATIENCE)
        assert not self._thread.is_alive(), f"{self._thread.name} does not end"


class Crew:
    """Starts members, and ends those that are left."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._members: list[Member] = []

    async def hire(self, program: Program, *arguments: Any) -> Member:
        """Start a program, and return when it is ready."""
        member = self._start(program, arguments)
        await member.ready()
        return member

    async def hire_many(self, count: int, program: Program, *arguments: Any) -> list[Member]:
        """Start a program several times, and return when all are ready."""
        members = [self._start(program, arguments) for _ in range(count)]
        for member in members:
            await member.ready()
        return members

    async def hire_process(self, program: Program, *arguments: Any) -> ProcessMember:
        """Like :meth:`hire`, for a test that does something to the process."""
        member = await self.hire(program, *arguments)
        assert isinstance(member, ProcessMember)
        return member

    def _start(self, program: Program, arguments: tuple[Any, ...]) -> Member:
        if self._backend.shared_between_processes:
            member: Member = ProcessMember(self._backend.url, program, arguments)
        else:
            member = ThreadMember(self._backend, program, arguments)
        self._members.append(member)
        return member

    async def dismiss(self) -> None:
        """End them all."""
        for member in self._members:
            await member.end()
