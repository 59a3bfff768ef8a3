"""The examples for Redis, run: TLS with a certificate of our own, and sentinels."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis as redis_library
import trustme

from api_contracts.client import Client
from api_contracts.client.connection import Address
from api_contracts.errors import StoreUnavailable
from api_contracts.names import Keys
from tests.conftest import StartValkey, StartWorker
from tests.parts import answers
from tests.parts.gate import Gate, stream
from tests.parts.need import installed
from tests.parts.program import ROOT, Program
from tests.parts.roles import Roles, password, users_file
from tests.parts.wait import until
from tests.parts.web import free_port
from worker import embedded
from worker.store.view import View

EXAMPLES = ROOT / "deploy" / "redis"
QUESTION = [{"role": "user", "content": "hello"}]
ANSWER = stream(*answers.openai("a", "b", "c"))
DISTRUST = "certificate verify failed"


class Secure:
    """Debian's redis-server by the examples, which takes TLS alone."""

    def __init__(self, folder: Path) -> None:
        """Start it with a certificate of an authority that nobody else knows."""
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        key, chain, self.ca = folder / "server.key", folder / "server.pem", folder / "ca.pem"
        certificate.private_key_pem.write_to_path(str(key))
        certificate.cert_chain_pems[0].write_to_path(str(chain))
        authority.cert_pem.write_to_path(str(self.ca))
        self.port = free_port()
        self.program = Program(
            [
                installed("redis-server", "redis-server"), str(EXAMPLES / "redis.conf"),
                "--include", str(EXAMPLES / "tls.conf"), "--tls-port", str(self.port),
                "--tls-cert-file", str(chain), "--tls-key-file", str(key),
                "--bind", "127.0.0.1", "--dir", str(folder),
            ],
            folder / "redis.log",
        )  # fmt: skip
        with redis_library.Redis.from_url(self.url()) as redis:
            until(lambda: self._answers(redis), "the server answers")

    def url(self, ca: Path | None = None) -> str:
        """Address for a client that trusts this authority, by default the right one."""
        return f"{self.stranger}?ssl_ca_certs={quote(str(ca or self.ca))}"

    @property
    def stranger(self) -> str:
        """Address for a client that trusts the system's authorities."""
        return f"rediss://127.0.0.1:{self.port}/0"

    def _answers(self, redis: redis_library.Redis) -> bool:
        assert self.program.running, self.program.output
        try:
            return bool(redis.ping())
        except redis_library.ConnectionError:
            return False


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Secure]:
    secure = Secure(tmp_path)
    yield secure
    secure.program.stop()


def test_a_streamed_task_goes_through_tls(
    gate: Gate, secure: Secure, worker_process: StartWorker
) -> None:
    gate.answer(ANSWER)
    worker_process(gate.url, REDIS_URL=secure.url())
    with Client(secure.url()) as client:
        assert "".join(client.chat("m", QUESTION, stream=True).text()) == "abc"
    with (
        redis_library.Redis(port=secure.port, socket_timeout=2) as plain,
        pytest.raises(redis_library.ConnectionError),
    ):
        plain.ping()


def test_who_trusts_another_authority_is_told_so_and_sends_nothing(
    gate: Gate, secure: Secure, worker_process: StartWorker, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with Client(secure.url(other)) as client, pytest.raises(StoreUnavailable, match=DISTRUST):
        client.chat("m", QUESTION)
    worker = worker_process(gate.url, ready=False, REDIS_URL=secure.url(other))
    until(lambda: DISTRUST in worker.output, "the worker says why")
    assert worker.get("/readyz")[0] == 503


def test_the_queues_are_asked_for_their_certificate_too(
    gate: Gate, secure: Secure, worker_process: StartWorker
) -> None:
    """Without an option in the URL, kombu would speak plainly."""
    queues = {"REDIS_URL": secure.url(), "ROUTER_WORKER_BROKER_URL": secure.stranger}
    worker = worker_process(gate.url, ready=False, **queues)
    until(lambda: DISTRUST in worker.output, "the worker says why")
    assert worker.get("/readyz")[0] == 503


def test_a_look_leaves_no_connection_open_though_the_server_says_no_farewell(
    secure: Secure,
) -> None:
    """Pytest fails a test in which a connection is thrown away that was not closed."""

    async def look() -> None:
        view = View(Address(secure.url(), secure.url(), Keys()))
        await view.read()
        secure.program.pause()
        await view.close()

    try:
        asyncio.run(look())
    finally:
        secure.program.resume()
    gc.collect()


@pytest.fixture
def sentinel(tmp_path: Path, start_valkey: StartValkey) -> Iterator[str]:
    """Address of a sentinel by the example, which watches a master."""
    master, port = start_valkey(), free_port()
    config = tmp_path / "sentinel.conf"
    text = (EXAMPLES / "sentinel.conf").read_text()
    text = text.replace("port 26379", f"port {port}\nbind 127.0.0.1\ndir {tmp_path}")
    config.write_text(text.replace("192.0.2.1 6379", f"127.0.0.1 {master.port}"))
    command = [str(embedded.binary()), str(config), "--sentinel"]
    program = Program(command, tmp_path / "sentinel.log")
    with redis_library.Redis(port=port) as redis:
        until(lambda: _knows(redis), "the sentinel knows its master")
    yield f"sentinel://127.0.0.1:{port}/0?master_name=router-worker"
    program.stop()


def _knows(redis: redis_library.Redis) -> bool:
    try:
        return bool(redis.sentinel_get_master_addr_by_name("router-worker"))
    except redis_library.ConnectionError:
        return False


def test_a_streamed_task_finds_its_master_by_the_sentinels_of_the_example(
    gate: Gate, sentinel: str, worker_process: StartWorker
) -> None:
    gate.answer(ANSWER)
    worker_process(gate.url, REDIS_URL=sentinel)
    with Client(sentinel) as client:
        assert "".join(client.chat("m", QUESTION, stream=True).text()) == "abc"


def with_all_users(folder: Path) -> Path:
    """Write the file of users with passwords, and with those that only some need."""
    path = users_file(folder)
    path.write_text(path.read_text().replace("#user ", "user "))
    return path


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[embedded.EmbeddedServer]]:
    """A master and its replica, which know the users."""
    users = with_all_users(tmp_path)
    servers: list[embedded.EmbeddedServer] = []
    for _ in range(2):
        options = {
            "include": str(users),
            "masteruser": "replica",
            "masterauth": password("replica"),
            "repl-diskless-sync-delay": "0",
        }
        if servers:
            options["replicaof"] = f"127.0.0.1 {servers[0].port}"
        folder = tmp_path / f"server-{len(servers)}"
        servers.append(embedded.start(folder, persistence=False, options=options))
    yield servers
    for server in servers:
        server.stop()


def test_replica_and_sentinel_do_their_work_as_the_users_of_the_file(
    tmp_path: Path, pair: list[embedded.EmbeddedServer]
) -> None:
    master, replica = pair
    port = free_port()
    text = (EXAMPLES / "sentinel.conf").read_text()
    text = text.replace("port 26379", f"port {port}\nbind 127.0.0.1\ndir {tmp_path}")
    text = text.replace("192.0.2.1 6379 2", f"127.0.0.1 {master.port} 1")
    text = text.replace("router-worker 5000", "router-worker 500")
    text += "sentinel auth-user router-worker sentinel\n"
    text += f"sentinel auth-pass router-worker {password('sentinel')}\n"
    (tmp_path / "sentinel.conf").write_text(text)
    command = [str(embedded.binary()), str(tmp_path / "sentinel.conf"), "--sentinel"]
    program = Program(command, tmp_path / "sentinel.log")
    try:
        with redis_library.Redis(port=port) as sentinel, Roles(replica).admin as follower:
            until(lambda: follower.role()[3] == b"connected", "the replica follows")
            until(lambda: _replicas(sentinel) == 1, "the sentinel knows it", within=20)
            refused = Roles(master).refused()
            master.stop()
            until(lambda: _master(sentinel) == replica.port, "it takes over", within=60)
            refused |= Roles(replica).refused()
        hosts = f"producer:{password('producer')}@127.0.0.1:{port}"
        with Client(f"sentinel://{hosts}/0?master_name=router-worker") as client:
            handle = client.chat("m", QUESTION)
            assert handle.status().state == "queued"
    finally:
        program.stop()
    assert refused == set()


def _master(sentinel: redis_library.Redis) -> int:
    """The port of whom a sentinel names as the living master; 0 while it names none."""
    asked: Any = sentinel
    state = asked.sentinel_master("router-worker")
    return 0 if state["is_sdown"] else int(state["port"])


def _replicas(sentinel: redis_library.Redis) -> int:
    """How many replicas a sentinel knows; none while it does not answer."""
    asked: Any = sentinel
    try:
        return int(asked.sentinel_master("router-worker")["num-slaves"])
    except redis_library.ConnectionError:
        return 0
