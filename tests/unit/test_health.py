"""What scrapers, kubelets and people get from the health port."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from worker import health
from worker.health import CannotListen, Check, HealthServer, loop_answers

HOST = "127.0.0.1"
METRICS = ("text/plain; version=1.0.0", b"up 1\n")
#: Patience of a test with what happens in another thread, in seconds.
PATIENCE_S = 10.0


def well() -> str | None:
    return None


def serving(**changes: Any) -> contextlib.closing[HealthServer]:
    parts: dict[str, Any] = {"metrics": lambda: METRICS, "alive": {"loop": well}, "ready": {}}
    return contextlib.closing(HealthServer((HOST, 0), **parts | changes))


@pytest.fixture(scope="module")
def server() -> Iterator[HealthServer]:
    with serving() as running:
        yield running


def ask(
    server: HealthServer, path: str, method: str = "GET"
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()


def test_metrics_are_passed_on_with_their_content_type(server: HealthServer) -> None:
    status, headers, body = ask(server, "/metrics?name[]=up")
    assert (status, headers["Content-Type"], body) == (200, *METRICS)
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_worker_that_is_well_says_ok(server: HealthServer, path: str) -> None:
    status, headers, body = ask(server, path)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {"status": "ok", "failed": {}}


def test_readiness_names_each_check_that_failed_and_what_is_wrong() -> None:
    checks: dict[str, Check] = {
        "redis": lambda: "Redis did not answer within 2 s",
        "broker": well,
        "drain": lambda: "the worker is shutting down",
    }
    with serving(ready=checks) as server:
        status, _, body = ask(server, "/readyz")
        assert status == 503
        assert json.loads(body) == {
            "status": "failed",
            "failed": {
                "redis": "Redis did not answer within 2 s",
                "drain": "the worker is shutting down",
            },
        }
        assert ask(server, "/healthz")[0] == 200


def test_a_check_is_asked_anew_each_time() -> None:
    wrong: list[str] = ["not yet"]
    with serving(ready={"start": lambda: wrong[0] if wrong else None}) as server:
        assert ask(server, "/readyz")[0] == 503
        wrong.clear()
        assert ask(server, "/readyz")[0] == 200


def test_a_check_that_breaks_has_failed_and_the_page_keeps_its_words_to_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def breaks() -> str | None:
        raise ConnectionError("redis://:hush@host")

    with serving(ready={"redis": breaks}) as server:
        status, _, body = ask(server, "/readyz")
    assert status == 503
    assert json.loads(body)["failed"] == {"redis": "the check itself broke (ConnectionError)"}
    assert "the check redis broke" in caplog.text


def test_a_page_that_breaks_answers_500_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def breaks() -> tuple[str, bytes]:
        raise ArithmeticError

    with serving(metrics=breaks) as server:
        status, _, body = ask(server, "/metrics")
    assert (status, body) == (500, b"this page broke; the worker's log says why\n")
    assert "ArithmeticError" in caplog.text


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/nowhere"])
def test_head_answers_as_get_does_without_the_body(server: HealthServer, path: str) -> None:
    got, asked = ask(server, path), ask(server, path, "HEAD")
    assert asked[0] == got[0]
    assert asked[1]["Content-Length"] == got[1]["Content-Length"]
    assert asked[2] == b""


@pytest.mark.parametrize("path", ["/", "/nowhere", "/metrics/", "/../healthz"])
def test_any_other_path_is_not_found_and_told_what_there_is(
    server: HealthServer, path: str
) -> None:
    status, _, body = ask(server, path)
    assert (status, body) == (404, b"not found; there are /metrics, /healthz, /readyz\n")


def test_a_method_that_would_change_something_is_refused_in_plain_text(
    server: HealthServer,
) -> None:
    status, headers, body = ask(server, "/metrics", "POST")
    assert (status, headers["Content-Type"]) == (501, "text/plain")
    assert body == b"501 Unsupported method ('POST')\n"


def test_no_answer_tells_the_version_of_python(server: HealthServer) -> None:
    assert ask(server, "/metrics")[1]["Server"].strip() == "router-worker"


def test_a_port_that_is_taken_is_an_error_that_names_the_variable(server: HealthServer) -> None:
    with pytest.raises(CannotListen) as caught:
        HealthServer((HOST, server.port), metrics=lambda: METRICS, alive={}, ready={})
    assert str(caught.value) == (
        f"{HOST}:{server.port} is taken by another program; set PORT to a free port, or to 0"
    )


def test_an_address_of_another_machine_is_an_error_that_names_the_variable() -> None:
    with pytest.raises(CannotListen, match="look at ROUTER_WORKER_HOST and PORT"):
        HealthServer(("192.0.2.1", 0), metrics=lambda: METRICS, alive={}, ready={})


def test_a_port_below_1024_is_an_error_that_says_what_to_set() -> None:
    error = CannotListen.because(PermissionError(13, "Permission denied"), HOST, 80)
    assert str(error) == f"{HOST}:80 may not be opened by this user; set PORT to 1024 or more"


def test_a_closed_server_frees_its_port() -> None:
    with serving() as server:
        port = server.port
    with contextlib.closing(
        HealthServer((HOST, port), metrics=lambda: METRICS, alive={}, ready={})
    ):
        pass


def ends(connection: socket.socket) -> bool:
    """Tell whether the other side closes the connection, without an answer, in time."""
    connection.settimeout(PATIENCE_S)
    with contextlib.suppress(ConnectionError):
        return connection.recv(1) == b""
    return True


def test_a_client_that_sends_slowly_is_cut_however_often_it_sends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "CLIENT_S", 0.3)
    begun = time.monotonic()
    with serving() as server, socket.create_connection((HOST, server.port)) as client:
        client.settimeout(0.05)
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - begun < PATIENCE_S:
                client.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    if client.recv(1) == b"":
                        break
        assert time.monotonic() - begun < PATIENCE_S
        monkeypatch.setattr(health, "CLIENT_S", PATIENCE_S)
        assert ask(server, "/healthz")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_head_that_is_too_long_is_closed_unanswered(server: HealthServer) -> None:
    with socket.create_connection((HOST, server.port)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * health.HEAD_LIMIT)
        assert ends(client)


def test_a_client_that_goes_away_in_the_middle_is_answered_nothing(server: HealthServer) -> None:
    with socket.create_connection((HOST, server.port)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        client.shutdown(socket.SHUT_WR)
        assert ends(client)


def test_silent_connections_are_bounded_and_the_port_recovers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "CONNECTIONS", 3)
    with serving() as server, contextlib.ExitStack() as clients:
        for _ in range(3):
            client = clients.enter_context(socket.create_connection((HOST, server.port)))
            client.sendall(b"GET")
        with socket.create_connection((HOST, server.port)) as refused:
            assert ends(refused)
        clients.close()
        end = time.monotonic() + PATIENCE_S
        while not answers(server):
            assert time.monotonic() < end


def answers(server: HealthServer) -> bool:
    try:
        return ask(server, "/healthz")[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    running = asyncio.new_event_loop()
    thread = threading.Thread(target=running.run_forever)
    thread.start()
    yield running
    running.call_soon_threadsafe(running.stop)
    thread.join()
    running.close()


def test_a_loop_that_takes_its_turns_is_alive(loop: asyncio.AbstractEventLoop) -> None:
    assert loop_answers(loop)() is None


def test_a_loop_that_is_stuck_is_not_alive_until_it_goes_on(
    loop: asyncio.AbstractEventLoop,
) -> None:
    stuck, free = threading.Event(), threading.Event()

    def hang() -> None:
        stuck.set()
        free.wait(PATIENCE_S)

    loop.call_soon_threadsafe(hang)
    assert stuck.wait(PATIENCE_S)
    with serving(alive={"loop": loop_answers(loop, within_s=0.05)}) as server:
        status, _, body = ask(server, "/healthz")
        assert status == 503
        failed = json.loads(body)["failed"]
        assert failed == {"loop": "the event loop did not answer within 0.05 s"}
        assert ask(server, "/metrics")[0] == 200
    free.set()
    assert loop_answers(loop, PATIENCE_S)() is None


def test_a_loop_that_is_closed_is_not_alive() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert loop_answers(loop)() == "the event loop is closed"


def test_probes_are_logged_only_where_somebody_looks_for_them(
    server: HealthServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ask(server, "/healthz")
    assert caplog.records == []


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_an_ipv6_address_can_be_opened() -> None:
    try:
        server = HealthServer(("::1", 0), metrics=lambda: METRICS, alive={}, ready={})
    except CannotListen:
        pytest.skip("this machine has no IPv6")
    with contextlib.closing(server):
        connection = http.client.HTTPConnection("::1", server.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
