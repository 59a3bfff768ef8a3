"""Signed tasks with encryption and without, and a worker that asks nobody for a signature."""

from typing import Any

import pytest

from tests.conftest import StartWorker
from tests.parts.aimock import Aimock
from tests.parts.secrecy import (
    ANSWER,
    BILLING,
    NEW,
    PROMPT,
    SIGNING,
    WEB,
    answer_of,
    key,
    refused_by,
    secret_task,
    serve,
)
from tests.sealed.conftest import StartClient

KNOWN: Any = {SIGNING: f"{WEB},{BILLING}"}
QUICK: Any = {"ROUTER_WORKER_RETRY_BASE_S": "0.05", "ROUTER_WORKER_RETRY_CAP_S": "0.2"}
#: Stands for what somebody writes who has got at Redis.
EVIL = b'{"model":"m","messages":[{"role":"user","content":"evil"}]}'


@pytest.mark.parametrize("encryption", ["", NEW], ids=["plain", "encrypted"])
def test_a_signed_task_is_obeyed(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient, encryption: str
) -> None:
    serve(aimock)
    worker = worker_process(aimock.url, **KNOWN, ROUTER_WORKER_ENCRYPTION_KEYS=encryption, **QUICK)
    for producer in (WEB, BILLING):
        client = start_client(encryption, producer)
        assert answer_of(client, client.enqueue(secret_task()).id) == ANSWER
        # A failed call is made again.
        assert answer_of(client, client.enqueue(secret_task(f"{PROMPT} busy")).id) == ANSWER
    assert refused_by(worker) == {}


def test_a_worker_that_knows_nobody_obeys_everybody(
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient
) -> None:
    serve(aimock)
    worker_process(aimock.url)
    for signing in ("", WEB, f"stranger:{key(99)}"):
        client = start_client(signing=signing)
        assert answer_of(client, client.enqueue(secret_task()).id) == ANSWER
