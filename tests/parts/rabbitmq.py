"""A RabbitMQ of Debian's, on ports of its own."""

import base64
import contextlib
import hashlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import amqp
import trustme

from api_contracts.names import Queue
from tests.parts.foreign import QUEUE
from tests.parts.need import installed, need
from tests.parts.program import Program, without_settings
from tests.parts.tasks import chat
from tests.parts.wait import until
from tests.parts.web import free_port

Json = dict[str, Any]

#: Behind Debian's own script, which only root and the user `rabbitmq` may call.
_SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
#: Virtual hosts: one for a worker of many tests, and one for each test in its turn.
_HOSTS: Final = ("shared", "own")
#: Users: one who may do everything, and one for each role that the README names.
ANYBODY: Final = "anybody"
_ROLES: Final = {
    ANYBODY: {"configure": ".*", "write": ".*", "read": ".*"},
    "worker": {
        "configure": r"^router\.(interactive|batch)$",
        "write": r"^amq\.default$",
        "read": r"^router\.(interactive|batch)$",
    },
    "producer": {"configure": "^$", "write": r"^amq\.default$", "read": "^$"},
}
#: Of all users here.
PASSWORD: Final = "hush-4711"
#: Two cores are shared with what is tested: schedulers that wait shall sleep.
_ERLANG: Final = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"


class Host:
    """A virtual host, as a producer sees it. Threads may use it at once."""

    def __init__(self, port: int, name: str, user: str = ANYBODY) -> None:
        """Prepare; nothing is connected yet."""
        self._port, self.name = port, name
        self._lock = threading.Lock()
        self._connection: Any = None
        self.url = f"amqp://{user}:{PASSWORD}@127.0.0.1:{port}/{name}"

    def waiting(self, queue: str = QUEUE) -> int:
        """Tell how many messages wait: those that a worker has taken do not."""
        with self._channel() as channel:
            return int(channel.queue_declare(queue, passive=True).message_count)

    def publish(
        self, body: bytes, *, exchange: str = "", routing_key: Any = QUEUE, **properties: Any
    ) -> None:
        """Publish a message, and wait until the server has it."""
        with self._channel() as channel:
            message = amqp.Message(body, **properties)
            channel.basic_publish_confirm(message, exchange, routing_key)

    def send(self, task: Json | None = None, **fields: Any) -> str:
        """Send a chat, or ``task``, whole, as a foreign producer does; return its id."""
        whole = {"id": str(uuid.uuid4())} | (task or chat()) | fields
        self.publish(
            json.dumps([[whole], {}, {}]).encode(),
            content_type="application/json",
            content_encoding="utf-8",
            application_headers={"lang": "py", "task": "router.chat", "id": str(uuid.uuid4())},
            delivery_mode=2,
        )
        return str(whole["id"])

    def bind(self, exchange: str, queue: str = QUEUE) -> None:
        """Let what is published to an exchange reach a queue."""
        with self._channel() as channel:
            channel.queue_bind(queue, exchange)

    def make_quorum_queues(self) -> None:
        """Make the queues before anybody else does, of RabbitMQ's replicated kind."""
        with self._channel() as channel:
            for queue in Queue:
                kind = {"x-queue-type": "quorum"}
                channel.queue_declare(queue, durable=True, auto_delete=False, arguments=kind)

    def clear(self) -> None:
        """Delete the queues, with what waits there."""
        with self._channel() as channel:
            for queue in Queue:
                channel.queue_delete(queue)

    def connect(self) -> None:
        """Connect; an error where it is not there, or not yet."""
        with self._channel():
            pass

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.collect()
            self._connection = None

    @contextlib.contextmanager
    def _channel(self) -> Iterator[Any]:
        with self._lock:
            if self._connection is None:
                self._connection = amqp.Connection(
                    f"127.0.0.1:{self._port}", ANYBODY, PASSWORD, virtual_host=self.name
                )
                self._connection.connect()
            try:
                with self._connection.channel() as channel:
                    yield channel
            except (OSError, amqp.AMQPError):
                self.close()
                raise


class Rabbitmq:
    """A server that keeps its data while it is away."""

    def __init__(self, folder: Path) -> None:
        """Start it, and wait until it answers."""
        need(_SERVER.exists(), "RabbitMQ is not installed; run: apt-get install rabbitmq-server")
        self._folder = folder
        self._ports = {name: free_port() for name in ("amqp", "tls", "dist", "epmd")}
        self._authority = trustme.CA()
        self._write()
        # Erlang starts one by itself, which would outlive it.
        command = [installed("epmd", "rabbitmq-server"), "-port", str(self._ports["epmd"])]
        self._names = Program(command, folder / "epmd.log", env=self._environment)
        self.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._ports["amqp"]

    @property
    def program(self) -> Program:
        """The server that runs now."""
        return self._program

    def host(self, name: str) -> Host:
        """Return a virtual host: `shared` or `own`."""
        return Host(self.port, name)

    def as_role(self, host: Host, user: str) -> str:
        """Return a virtual host's URL for the user of a role."""
        return Host(self.port, host.name, user).url

    def over_tls(self, host: Host, *, trusted: bool = True) -> str:
        """Return a virtual host's URL with TLS."""
        port = self._ports["tls"]
        url = Host(port, host.name).url.replace("amqp://", "amqps://")
        return f"{url}?ssl_ca_certs={self._folder / 'ca.pem'}" if trusted else url

    def start(self) -> None:
        """Start it, with the data that it has."""
        log = self._folder / "rabbitmq.log"
        self._program = Program([str(_SERVER)], log, env=self._environment)
        try:
            until(self._answers, "RabbitMQ answers", within=60)
        except AssertionError as error:
            error.add_note(f"it said:\n{self._program.output}")
            raise

    def stop(self) -> None:
        """End it as an operator would; what is on its way to the disk gets there."""
        self._program.stop(within=30)

    def kill(self) -> None:
        """End it at once; return when it takes nothing any more."""
        self._program.kill()
        # What was waited for is the script that started it.
        until(lambda: not self._listens(), "RabbitMQ is gone")

    def close(self) -> None:
        """End everything that was started."""
        self._program.kill()
        self._names.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def _answers(self) -> bool:
        assert self._program.running, "RabbitMQ ended at its start"
        with contextlib.suppress(OSError, amqp.AMQPError):
            for name in _HOSTS:
                with contextlib.closing(self.host(name)) as host:
                    host.connect()
            return True
        return False

    @property
    def _environment(self) -> dict[str, str]:
        folder = self._folder
        return {
            **without_settings(os.environ),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(folder / "crash.dump"),
            "RABBITMQ_NODENAME": f"t{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._ports["dist"]),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        }

    def _write(self) -> None:
        """Write what it reads when it starts."""
        folder = self._folder
        self._authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        certificate = self._authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq-env.conf").touch()
        (folder / "advanced.config").write_text("[].\n")
        (folder / "definitions.json").write_text(json.dumps(_definitions()))
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"listeners.ssl.1 = 127.0.0.1:{self._ports['tls']}\n"
            f"ssl_options.cacertfile = {folder / 'ca.pem'}\n"
            f"ssl_options.certfile = {folder / 'cert.pem'}\n"
            f"ssl_options.keyfile = {folder / 'key.pem'}\n"
            f"load_definitions = {folder / 'definitions.json'}\n"
            "log.console.level = warning\n"
        )


def _definitions() -> Json:
    """Write users, virtual hosts and who may do what in them, as RabbitMQ imports them."""
    salt = b"salt"
    hashed = salt + hashlib.sha256(salt + PASSWORD.encode()).digest()
    user = {
        "password_hash": base64.b64encode(hashed).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
    }
    return {
        "users": [{"name": name, **user} for name in _ROLES],
        "vhosts": [{"name": host} for host in _HOSTS],
        "permissions": [
            {"user": name, "vhost": host, **may} for name, may in _ROLES.items() for host in _HOSTS
        ],
    }
