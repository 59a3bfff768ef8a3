"""Users of `deploy/redis/users.acl`, changed as its head says, can do their work on a cluster."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from api_contracts.client import AsyncClient, Client
from api_contracts.errors import TaskCancelled
from tests.cli.shell import Shell
from tests.conftest import StartWorker
from tests.parts import answers
from tests.parts.cluster import Cluster
from tests.parts.following import error_of
from tests.parts.gate import Do, Gate, stream, whole
from tests.parts.roles import USERS, filled_in, password
from tests.parts.wait import until
from worker import embedded

QUESTION = [{"role": "user", "content": "hello"}]


@pytest.fixture
def users(cluster: Cluster) -> Iterator[None]:
    """Every server has the users; nothing was refused yet."""
    said = re.search(r"^#   (sed .*) users\.acl$", USERS.read_text(), re.MULTILINE)
    assert said is not None
    changed = subprocess.run(
        ["/bin/sh", "-c", f"{said[1]} {USERS}"], capture_output=True, check=True, text=True
    ).stdout
    names = []
    for name, rules in re.findall(r"^user (\w+) (.+)$", filled_in(changed), re.MULTILINE):
        if name != "default":
            cluster.everywhere("ACL", "SETUSER", name, *rules.split(" "))
            names.append(name)
    cluster.everywhere("ACL", "LOG", "RESET")
    yield
    cluster.everywhere("ACL", "DELUSER", *names)


async def test_each_does_its_work_and_nothing_is_refused(  # noqa: PLR0913, PLR0917 - all that takes part
    users: None, cluster: Cluster, redis: Redis, gate: Gate, worker_process: StartWorker,
    valkey: embedded.EmbeddedServer, tmp_path: Path,
) -> None:  # fmt: skip
    def url_of(role: str) -> str:
        return cluster.url_of(role, password(role))

    worker_process(gate.url, REDIS_URL=url_of("worker"))
    gate.answer(
        stream(*answers.openai("a", "b")), stream(*answers.openai("a", finish=False), Do.HANG)
    )
    with Client(url_of("producer")) as producer:
        task = producer.chat("m", QUESTION, stream=True, options={"idempotency_key": "k"})
        assert [event.type for event in task][-1] == "completed"
        hanging = producer.chat("m", QUESTION, stream=True)
        until(lambda: len(gate.requests) == 2, "the call")
        assert hanging.cancel()
        with pytest.raises(TaskCancelled):
            hanging.result()
        async with AsyncClient(url_of("subscriber")) as subscriber:
            assert [event.type async for event in subscriber.stream(task.id)][-1] == "completed"
            assert (await subscriber.result(task.id)).finish_reason == "stop"
        gate.answer(whole({"error": {"message": "no"}}, 401), stream(*answers.openai("a")))
        dead = producer.chat("m", QUESTION, stream=True).id
        error_of(redis, dead)
        both = {"ROUTER_WORKER_BROKER_URL": valkey.url}
        operator = Shell(tmp_path, producer, REDIS_URL=url_of("operator"), **both)
        for command in (("top", "--once"), ("dead", "list"), ("status", dead)):
            assert operator.run(*command).status == 0
        maintainer = Shell(tmp_path, producer, REDIS_URL=url_of("maintainer"), **both)
        assert maintainer.run("dead", "replay", dead).status == 0
        assert producer.result(dead, 20).finish_reason == "stop"
    assert cluster.everywhere("ACL", "LOG") == [[]] * 6
