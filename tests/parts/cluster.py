"""A cluster of real servers on this machine: three masters, each with a replica or without."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, Final

import redis
from redis.crc import key_slot

from tests.parts.program import ROOT
from tests.parts.wait import until
from tests.parts.web import free_port
from worker import embedded

#: How long a server may be silent before the others take it for dead, in ms: a failover takes three
#: times as long. Too short for others than tests, whose machine may stand still for a second.
_NODE_TIMEOUT_MS: Final = 1500
_MASTERS: Final = 3
_SLOTS: Final = 16384


class Cluster:
    """The servers, which know each other and take commands."""

    def __init__(self, folder: Path, *, replicas: bool = True) -> None:
        """Start them, and wait until the cluster stands: some seconds."""
        self._folder = folder
        self._copies = 2 if replicas else 1
        self._bus = [free_port() for _ in range(self._copies * _MASTERS)]
        self._servers = [self._start(number) for number in range(len(self._bus))]
        self._introduce()

    @property
    def url(self) -> str:
        """Address for a client: two of the servers, which name the others."""
        first, second = self._servers[:2]
        return f"redis-cluster://127.0.0.1:{first.port},127.0.0.1:{second.port}"

    def url_of(self, user: str, password: str) -> str:
        """Address for a user."""
        return self.url.replace("://", f"://{user}:{password}@")

    @property
    def masters(self) -> list[embedded.EmbeddedServer]:
        """The servers that have slots."""
        return [self._by_port(port) for port in sorted({one[2][1] for one in self._slots()})]

    def master_of(self, key: str) -> embedded.EmbeddedServer:
        """Return the server that has a key."""
        slot = key_slot(key.encode())
        return next(
            self._by_port(master[1])
            for first, last, master, *_ in self._slots()
            if first <= slot <= last
        )

    def client(self) -> redis.RedisCluster:
        """Make a client of the whole."""
        return redis.RedisCluster(host="127.0.0.1", port=self._alive.port)

    def everywhere(self, *command: Any) -> list[Any]:
        """Send a command to every server; return what each says."""
        told = []
        for server in self._servers:
            with _client(server) as client:
                told.append(client.execute_command(*command))
        return told

    def sizes(self) -> list[int]:
        """Count the keys of each master."""
        return [_size(server) for server in self.masters]

    def empty(self) -> None:
        """Forget every key and script."""
        for server in self.masters:
            with _client(server) as client:
                client.flushall()
                client.script_flush()

    def kill_master_of(self, key: str) -> embedded.EmbeddedServer:
        """End the master of a key at once; return it. Its replica has what was written."""
        old = self.master_of(key)
        with _client(old) as client:
            assert client.wait(1, 5_000) == 1
        os.kill(old.pid, signal.SIGKILL)
        return old

    def hang_master_of(self, key: str) -> embedded.EmbeddedServer:
        """Let the master of a key stand still; return it."""
        old = self.master_of(key)
        os.kill(old.pid, signal.SIGSTOP)
        return old

    def hand_over(self, key: str) -> None:
        """Make the replica of a key's master its master; both live on, and lose nothing."""
        old = self.master_of(key)
        _, _, _, (_, port, *_), *_ = next(one for one in self._slots() if one[2][1] == old.port)
        with _client(self._by_port(port)) as replica:
            replica.execute_command("CLUSTER FAILOVER")
        self.wait_for_another_than(old)

    def wait_for_another_than(self, old: embedded.EmbeddedServer) -> None:
        """Wait until every server that lives knows another master for its slots."""
        until(lambda: self._left(old), "the replica is master", within=30)

    def bring_back(self, old: embedded.EmbeddedServer) -> None:
        """Let a server that was killed, or hangs, come back as the replica of its successor."""
        if old.running:
            os.kill(old.pid, signal.SIGCONT)
        else:
            old.stop()
            place = self._servers.index(old)
            self._servers[place] = self._start(place, port=old.port)
        until(self._whole, "the cluster is whole again", within=30)

    def move(self, key: str, *, half_way: Any = None) -> None:
        """Move a key's slot to another master, key by key; ``half_way`` is called in between."""
        slot, source = key_slot(key.encode()), self.master_of(key)
        target = next(one for one in self.masters if one.port != source.port)
        with _client(source) as old, _client(target) as new:
            there, here = new.execute_command("CLUSTER MYID"), old.execute_command("CLUSTER MYID")
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", here)
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", there)
            keys = old.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000)
            for number, one in enumerate(sorted(keys)):
                old.execute_command("MIGRATE", "127.0.0.1", target.port, one, 0, 5_000)
                if number == 0 and half_way:
                    half_way()
            new.execute_command("CLUSTER SETSLOT", slot, "NODE", there)
            old.execute_command("CLUSTER SETSLOT", slot, "NODE", there)
        self._wait_until_moved(slot, target)

    def move_whole(self, key: str) -> None:
        """Move a key's slot to another master as Valkey 9 does: at one blow."""
        slot, source = key_slot(key.encode()), self.master_of(key)
        target = next(one for one in self.masters if one.port != source.port)
        with _client(source) as old, _client(target) as new:
            there = new.execute_command("CLUSTER MYID")
            old.execute_command("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", there)
        self._wait_until_moved(slot, target)

    def stop(self) -> None:
        """End them all, those that hang too."""
        for server in self._servers:
            if server.running:
                os.kill(server.pid, signal.SIGCONT)
            server.stop()

    @property
    def _alive(self) -> embedded.EmbeddedServer:
        def first() -> embedded.EmbeddedServer | None:
            return next((one for one in self._servers if one.running and _answers(one)), None)

        found = until(first, "a server that answers")
        assert found is not None
        return found

    def _start(self, number: int, port: int = 0) -> embedded.EmbeddedServer:
        options = {
            "include": str(ROOT / "deploy/redis/cluster.conf"),
            "cluster-port": str(self._bus[number]),
            "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
            "repl-diskless-sync-delay": "0",
        }
        folder = self._folder / f"server-{number}"
        port = port or free_port()
        return embedded.start(folder, port=port, persistence=False, options=options)

    def _introduce(self) -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(_client(server)) for server in self._servers]
            for number, client in enumerate(clients):
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            share = _SLOTS // _MASTERS + 1
            for number, client in enumerate(clients[:_MASTERS]):
                last = min((number + 1) * share, _SLOTS) - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
            for client in clients[1:]:
                where = ("127.0.0.1", self._servers[0].port, self._bus[0])
                client.execute_command("CLUSTER MEET", *where)
            everybody = str(len(clients))
            until(
                lambda: all(_info(one)["cluster_known_nodes"] == everybody for one in clients),
                "all know each other",
                within=60,
            )
            ids = [client.execute_command("CLUSTER MYID") for client in clients]
            for master, replica in zip(ids, clients[_MASTERS:], strict=False):
                replica.execute_command("CLUSTER REPLICATE", master)
        until(self._whole, "the cluster stands", within=60)

    def _whole(self) -> bool:
        """Tell whether all take commands, and each master has a replica that follows it.

        Nobody is held for failed any more, either: a replica may still take over from whom it holds
        for that, though he is back, and what he has taken since is lost.
        """
        try:
            for server in self._servers:
                with _client(server) as client:
                    slots = client.execute_command("CLUSTER SLOTS")
                    if _info(client)["cluster_state"] != "ok" or not self._all_served(slots):
                        return False
                    if any({"fail", "fail?"} & flags for flags in _flags(client)):
                        return False
                    if client.role()[0] == b"slave" and client.role()[3] != b"connected":
                        return False
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        return True

    def _all_served(self, slots: list[Any]) -> bool:
        """Tell whether every slot has a master, with its replica."""
        covered = sum(last + 1 - first for first, last, *_ in slots)
        return covered == _SLOTS and all(len(one) >= self._copies for _, _, *one in slots)

    def _left(self, old: embedded.EmbeddedServer) -> bool:
        """Tell whether nobody takes this server for a master any more, and all take commands."""
        for server in self._servers:
            if server.port == old.port or not _answers(server):
                continue
            with _client(server) as client:
                ports = {one[2][1] for one in client.execute_command("CLUSTER SLOTS")}
                if old.port in ports or _info(client)["cluster_state"] != "ok":
                    return False
        return True

    def _wait_until_moved(self, slot: int, target: embedded.EmbeddedServer) -> None:
        def moved() -> bool:
            return all(_owner(server, slot) == target.port for server in self.masters)

        until(moved, "all know where the slot is", within=20)

    def _slots(self) -> list[Any]:
        with _client(self._alive) as client:
            found: list[Any] = client.execute_command("CLUSTER SLOTS")
            return found

    def _by_port(self, port: int) -> embedded.EmbeddedServer:
        return next(one for one in self._servers if one.port == port)


class Apart:
    """Redis as a test looks at it: the queues are on the broker, all else is on the cluster."""

    def __init__(self, cluster: redis.RedisCluster, broker: redis.Redis) -> None:
        self._cluster = cluster
        self._broker = broker

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            key = str(arguments[0]) if arguments else ""
            is_queue = key.startswith(("router.", "_kombu"))
            return getattr(self._broker if is_queue else self._cluster, name)(*arguments, **options)

        return call

    def publish(self, channel: str, message: bytes) -> None:
        """Say something on a task's channel, which is sharded here."""
        self._cluster.spublish(channel, message)

    def pubsub_numsub(self, channel: str) -> list[tuple[bytes, int]]:
        """Tell how many listen to a task's channel, which is sharded here."""
        told = self._cluster.pubsub_shardnumsub(channel, target_nodes="primaries")
        return [(channel.encode(), sum(count for _, count in told))]


def _client(server: embedded.EmbeddedServer) -> Any:
    return redis.Redis.from_url(server.url, socket_timeout=10)


def _flags(client: Any) -> list[set[str]]:
    """Return what a server holds each one for that it knows."""
    nodes = client.execute_command("CLUSTER NODES").values()
    return [set(node["flags"].split(",")) for node in nodes]


def _size(server: embedded.EmbeddedServer) -> int:
    with _client(server) as client:
        return int(client.dbsize())


def _answers(server: embedded.EmbeddedServer) -> bool:
    with redis.Redis.from_url(server.url, socket_timeout=0.3) as client:
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


def _info(client: Any) -> dict[str, str]:
    told: dict[str, str] = client.execute_command("CLUSTER INFO")
    return told


def _owner(server: embedded.EmbeddedServer, slot: int) -> int:
    with _client(server) as client:
        for first, last, master, *_ in client.execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return int(master[1])
    return 0
