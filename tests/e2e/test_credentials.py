"""A task says by name which of the worker's keys it is called with; the key stays here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_library

from api_contracts.client import Client
from tests.e2e.conftest import StartModuleWorker
from tests.parts.dump import everything
from tests.parts.following import error_of, result_of
from tests.parts.gate import Gate, whole
from tests.parts.wait import until
from tests.parts.worker import API_KEY, Worker

#: Keys of this module, none of which may appear anywhere but in a call.
ACME, NEXT = "sk-acme-7be1d2aa", "sk-acme-9f0c33e4"
GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of keys; each test writes into it what it needs."""
    return tmp_path_factory.mktemp("credentials")


@pytest.fixture(scope="module")
def own(module_worker: StartModuleWorker, module_url: str, folder: Path) -> Worker:
    """A worker with that folder, whose own key comes from a file."""
    with redis_library.Redis.from_url(module_url) as client:
        client.flushdb()
    key = folder.parent / f"{folder.name}-own-key"
    key.write_text(f"{API_KEY}\n")
    return module_worker(
        YOUROUTER_API_KEY="",
        YOUROUTER_API_KEY_FILE=str(key),
        ROUTER_WORKER_CREDENTIALS_DIR=str(folder),
    )


@pytest.fixture(autouse=True)
def _nobody_says_a_key(own: Worker, redis: redis_library.Redis) -> Iterator[None]:
    yield
    for place in (own.output, own.get("/metrics")[1], everything(redis).decode()):
        for key in (API_KEY, ACME, NEXT):
            assert key not in place


@pytest.fixture(name="redis")
def module_redis(module_url: str) -> Iterator[redis_library.Redis]:
    with redis_library.Redis.from_url(module_url) as client:
        yield client


@pytest.fixture(name="client")
def module_client(module_url: str) -> Iterator[Client]:
    with Client(module_url) as client:
        yield client


def ask(client: Client, credential: str | None = None) -> str:
    """Enqueue a chat; return its id."""
    options: dict[str, Any] = {} if credential is None else {"credential": credential}
    return client.chat("gpt-4o", MESSAGES, options=options).id


def test_a_task_is_called_with_the_key_that_it_names_and_at_the_same_place(
    gate: Gate, client: Client, redis: redis_library.Redis, folder: Path
) -> None:
    (folder / "acme").write_text(f"{ACME}\n")
    gate.answer(GOOD, GOOD)
    result_of(redis, ask(client, "acme"))
    result_of(redis, ask(client))
    named, own_key = gate.requests
    assert named.headers["authorization"] == f"Bearer {ACME}"
    assert own_key.headers["authorization"] == f"Bearer {API_KEY}"
    assert (named.path, named.headers["host"]) == (own_key.path, own_key.headers["host"])


def test_a_name_that_the_worker_has_no_key_for_ends_the_task_without_a_call(
    gate: Gate, client: Client, redis: redis_library.Redis, folder: Path
) -> None:
    (folder / "acme").write_text(ACME)
    error = error_of(redis, ask(client, "umbrella"))
    assert (error["code"], error["retryable"], error["attempts"]) == ("invalid_request", False, 0)
    assert error["message"] == "options.credential: the worker has no key of that name"
    assert gate.requests == []


def test_a_key_that_cannot_be_used_makes_a_dead_letter_and_replaying_it_mends_it(
    gate: Gate, client: Client, redis: redis_library.Redis, folder: Path
) -> None:
    (folder / "empty").touch()
    task = ask(client, "empty")
    error = error_of(redis, task)
    assert (error["code"], error["attempts"]) == ("authentication", 0)
    assert error["message"].endswith("its key of the name empty: it is empty")
    assert gate.requests == []
    (folder / "empty").write_text(NEXT)
    gate.answer(GOOD)
    client.replay(task)
    result_of(redis, task)
    assert gate.requests[0].headers["authorization"] == f"Bearer {NEXT}"


def test_a_key_that_is_replaced_is_used_soon_and_without_a_restart(
    gate: Gate, client: Client, redis: redis_library.Redis, folder: Path
) -> None:
    (folder / "acme").write_text(ACME)
    gate.answer(*[GOOD] * 2000)

    def sent() -> str:
        result_of(redis, ask(client, "acme"))
        return gate.requests[-1].headers["authorization"]

    until(lambda: sent() == f"Bearer {ACME}", "the key is used")
    (folder / "new").write_text(NEXT)
    (folder / "new").rename(folder / "acme")
    until(lambda: sent() == f"Bearer {NEXT}", "the new key is used")


@pytest.mark.parametrize("quoted", [ACME, API_KEY, NEXT])
def test_an_answer_that_repeats_any_key_is_told_without_it(
    gate: Gate, client: Client, redis: redis_library.Redis, folder: Path, quoted: str
) -> None:
    for name, key in (("acme", ACME), ("next", NEXT)):
        (folder / name).write_text(key)
        gate.answer(GOOD)
        result_of(redis, ask(client, name))
    refusal = {"error": {"message": f"bad key {quoted}!", "code": quoted}}
    gate.answer(whole(refusal, 400, x_request_id=f"of-{quoted}"))
    error = error_of(redis, ask(client, "acme"))
    assert error["message"] == "bad key (not shown)!"
    assert error["provider_code"] == "(not shown)"
    assert error["request_id"] == "of-(not shown)"


def test_names_of_keys_make_no_time_series(
    own: Worker, gate: Gate, client: Client, redis: redis_library.Redis, folder: Path
) -> None:
    (folder / "acme").write_text(ACME)
    gate.answer(*[GOOD] * 2)
    for name in ("acme", "umbrella"):
        task = ask(client, name)
        (result_of if name == "acme" else error_of)(redis, task)
    assert "acme" not in own.get("/metrics")[1]
    assert "umbrella" not in own.get("/metrics")[1]
