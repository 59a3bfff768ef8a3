"""Redis as it is run, in three ways that break differently: alone, behind a proxy, in a set.

Each way is a class with the same face: where clients find it (``url``), and a client of the
server itself, past everything that breaks (``redis``).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any, Final, Protocol

import redis as redis_library

from tests.parts.need import need
from tests.parts.program import Program
from tests.parts.sentinels import Sentinels
from tests.parts.wait import until
from tests.parts.web import free_port
from worker import embedded

#: Longest wait for a server that was started, stopped or promoted, in seconds.
_SERVER_S: Final = 30.0

#: How long a server may be silent before the sentinels take it for dead, in ms.
_DOWN_MS: Final = 1_500

_HAPROXY: Final = """
global
    stats socket {admin} level admin
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
listen redis
    bind 127.0.0.1:{port}
    server valkey 127.0.0.1:{to}
"""


class Front(Protocol):
    """Redis, as the services and the workers know it."""

    url: str

    @property
    def redis(self) -> redis_library.Redis:
        """A client of the server that has the data."""

    def close(self) -> None:
        """End it."""


class Server:
    """One Valkey with its append-only file, which it can be started again from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = embedded.start(folder, port=free_port())
        self.url = self._server.url
        self.port = self._server.port
        self._client = redis_library.Redis.from_url(self.url)

    @property
    def redis(self) -> redis_library.Redis:
        return self._client

    def stop(self) -> None:
        """SIGTERM: it writes what it holds, and ends."""
        self._server.stop()

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self._server.pid, signal.SIGKILL)
        until(lambda: not self._server.running, "the killed server is gone", within=_SERVER_S)
        self._server.stop()

    def start(self) -> None:
        """Start it again from its file, and wait until it answers."""
        self._server = embedded.start(self._folder, port=self.port)

    def close(self) -> None:
        self._client.close()
        self._server.stop()


class Proxied:
    """A server behind haproxy, which cuts."""

    def __init__(self, folder: Path) -> None:
        # Debian's place is in root's path alone.
        program = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
        need(program, "haproxy is not installed; run: apt-get install haproxy")
        self.server = Server(folder / "valkey")
        self._admin = folder / "haproxy.sock"
        port = free_port()
        config = folder / "haproxy.cfg"
        config.write_text(_HAPROXY.format(admin=self._admin, port=port, to=self.server.port))
        log = folder / "haproxy.log"
        self._program = Program([str(program), "-db", "-f", str(config)], log)
        self.url = f"redis://127.0.0.1:{port}/0"
        with redis_library.Redis.from_url(self.url) as client:
            until(lambda: _answers(client), "haproxy leads to the server", within=_SERVER_S)

    @property
    def redis(self) -> redis_library.Redis:
        return self.server.redis

    def cut(self) -> None:
        """Cut every connection; new ones may be made at once."""
        self._say("shutdown sessions server redis/valkey")

    def shut(self) -> None:
        """Cut every connection, and let nobody in."""
        self._say("disable server redis/valkey")
        self.cut()

    def open(self) -> None:
        """Let everybody in again."""
        self._say("enable server redis/valkey")

    def close(self) -> None:
        self._program.stop()
        self.server.close()

    def _say(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self._admin))
            admin.sendall(f"{command}\n".encode())
            with admin.makefile() as said:
                answer = said.read().strip()
        assert not answer, answer


class Watched:
    """A master and its replica, and three sentinels that watch them."""

    def __init__(self, folder: Path) -> None:
        self._sentinels = Sentinels(folder, _DOWN_MS)
        self.url = self._sentinels.url
        self._clients: dict[int, redis_library.Redis] = {}

    @property
    def redis(self) -> redis_library.Redis:
        port = self._sentinels.master.port
        return self._clients.setdefault(port, redis_library.Redis(port=port))

    def kill(self) -> embedded.EmbeddedServer:
        """SIGKILL of the master; return it when its replica has taken over.

        What the master had not sent to its replica yet is gone.
        """
        old = self._sentinels.master
        self._sentinels.kill_master()
        self._sentinels.wait_for_another_than(old)
        return old

    def bring_back(self, old: embedded.EmbeddedServer) -> None:
        """Start a master that was killed again, as a replica."""
        self._sentinels.bring_back(old)

    def hand_over(self) -> None:
        """Let the master hand over to its replica: it takes no writes until that has them all."""
        self._sentinels.hand_over()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._sentinels.stop()


def _answers(redis: redis_library.Redis) -> bool:
    try:
        answer: Any = redis.ping()
    except redis_library.RedisError:
        return False
    return bool(answer)
