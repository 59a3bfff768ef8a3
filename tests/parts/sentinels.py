"""A master, its replica, and three sentinels that watch them: real servers, on this machine."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any, Final

import redis

from tests.parts.program import Program
from tests.parts.wait import until
from tests.parts.web import free_port
from worker import embedded

#: The name under which the sentinels watch the master.
MASTER: Final = "watched"
#: For quick failovers after a death, in ms, on a machine that may stand still for a moment. Too
#: short for others: the sentinels take the new master for dead before they have first heard of it,
#: and make the old one master again.
_DOWN_MS: Final = 1_000
#: Sentinels that must agree on it.
_QUORUM: Final = 2


class Sentinels:
    """The five servers. A failover takes about two seconds."""

    def __init__(self, folder: Path, down_ms: int = _DOWN_MS) -> None:
        """Start them, and wait until all know each other.

        ``down_ms``: how long a server may be silent before a sentinel takes it for dead.
        """
        self._folder = folder
        self._down_ms = down_ms
        first = self._start_server(0)
        self._follower = self._start_server(1, replicaof=f"127.0.0.1 {first.port}")
        self._servers = {one.port: one for one in (first, self._follower)}
        self._ports = [free_port() for _ in range(3)]
        self._programs = [self._start_sentinel(port, first.port) for port in self._ports]
        until(self._settled, "the sentinels know both servers and each other", within=60)

    @property
    def url(self) -> str:
        """Address for a client."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports)
        return f"sentinel://{hosts}/0?master_name={MASTER}"

    @property
    def master(self) -> embedded.EmbeddedServer:
        """The server that the first sentinel calls the master."""
        return self._servers[self._ask(self._ports[0], "get_master_addr_by_name")[1]]

    @property
    def replica(self) -> embedded.EmbeddedServer:
        """The other server."""
        return next(one for port, one in self._servers.items() if port != self.master.port)

    @property
    def servers(self) -> list[embedded.EmbeddedServer]:
        """The first master and its replica."""
        return list(self._servers.values())

    @property
    def sentinels(self) -> list[Program]:
        """The sentinels, in the order in which the URL names them."""
        return self._programs

    def kill_master(self) -> None:
        """End the master at once, with what its replica has not got."""
        os.kill(self.master.pid, signal.SIGKILL)

    def demote_master(self) -> None:
        """Make the replica master, and the old one its replica, which cuts no connection."""
        old = self.master
        self._ask(self._ports[0], "failover")
        self.wait_for_another_than(old)
        with redis.Redis.from_url(old.url) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", self.master.port)

    def wait_for_another_than(self, old: embedded.EmbeddedServer) -> None:
        """Wait until every sentinel names another master, which takes writes."""
        until(lambda: self._agreed() not in (0, old.port), "the replica is master", within=60)

    def wait_for_agreement(self) -> None:
        """Wait until every sentinel names the same master, which takes writes."""
        until(self._agreed, "the sentinels name one living master", within=60)

    def bring_back(self, old: embedded.EmbeddedServer) -> None:
        """Start a master that was killed again, empty, as the replica of its successor."""
        old.stop()
        follow = {"replicaof": f"127.0.0.1 {self.master.port}"}
        back = self._servers[old.port] = self._start_again(old, **follow)
        until(lambda: _follows(back), "the old master follows", within=60)

    def hand_over(self) -> None:
        """Let the master hand over to its replica, which loses nothing, and follow it."""
        old = self.master
        until(lambda: self._handed_over(old), "the replica is master", within=60)
        until(lambda: _role(old)[:1] == [b"slave"], "the old master follows", within=60)

    def stop(self) -> None:
        """End them all, those that hang too."""
        for program in self._programs:
            program.kill()
        for server in self._servers.values():
            if server.running:
                os.kill(server.pid, signal.SIGCONT)
            server.stop()

    def _start_server(self, number: int, **options: str) -> embedded.EmbeddedServer:
        folder = self._folder / f"server-{number}"
        more = {"repl-diskless-sync-delay": "0", **options}
        return embedded.start(folder, port=free_port(), persistence=False, options=more)

    @staticmethod
    def _start_again(old: embedded.EmbeddedServer, **options: str) -> embedded.EmbeddedServer:
        more = {"repl-diskless-sync-delay": "0", **options}
        return embedded.start(old.folder, port=old.port, persistence=False, options=more)

    def _start_sentinel(self, port: int, watched: int) -> Program:
        folder = self._folder / f"sentinel-{port}"
        folder.mkdir()
        (folder / "sentinel.conf").write_text(
            f"port {port}\n"
            "bind 127.0.0.1\n"
            f"dir {folder}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {watched} {_QUORUM}\n"
            f"sentinel down-after-milliseconds {MASTER} {self._down_ms}\n"
            f"sentinel failover-timeout {MASTER} 4000\n"
        )
        command = [str(embedded.binary()), str(folder / "sentinel.conf"), "--sentinel"]
        return Program(command, folder / "sentinel.log")

    def _handed_over(self, old: embedded.EmbeddedServer) -> bool:
        """Tell whether every sentinel names another master; ask for it as long as none is found.

        A handover that takes a sentinel too long is given up by it without a word.
        """
        if self.master is not old:
            return self._agreed() not in (0, old.port)
        with redis.Redis(port=self._ports[0]) as sentinel:
            try:
                sentinel.execute_command("SENTINEL", "FAILOVER", MASTER, "COORDINATED")
            except redis.ResponseError as error:
                # A replica that the sentinel has not heard of for some seconds is none to it.
                if not str(error).startswith(("NOGOODSLAVE", "INPROG")):
                    raise
        return False

    def _settled(self) -> bool:
        """Tell whether a failover could be made now, and would lose nothing."""
        try:
            states = [self._ask(port, "master") for port in self._ports]
        except redis.ConnectionError:
            return False
        known = [(one["num-other-sentinels"], one["num-slaves"]) for one in states]
        return set(known) == {(2, 1)} and _follows(self._follower)

    def _agreed(self) -> int:
        """Return the master's port; 0 while they differ, or name one that is none."""
        named = {self._ask(port, "get_master_addr_by_name")[1] for port in self._ports}
        port = named.pop()
        return 0 if named or _role(self._servers[port])[:1] != [b"master"] else port

    def _ask(self, port: int, question: str) -> Any:
        with redis.Redis(port=port) as sentinel:
            return getattr(sentinel, f"sentinel_{question}")(MASTER)


def _role(server: embedded.EmbeddedServer) -> list[Any]:
    """Ask a server what it is; nothing where it does not answer.

    Whom a sentinel makes another's replica, or a master, hangs up on all its clients.
    """
    answer: Any = []
    with redis.Redis.from_url(server.url, socket_timeout=0.5) as client:
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            answer = client.role()
        return list(answer)


def _follows(server: embedded.EmbeddedServer) -> bool:
    """Tell whether a server is a replica that gets what its master writes."""
    return _role(server)[3:4] == [b"connected"]
