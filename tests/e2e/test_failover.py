"""Sentinel: the master dies, and Celery goes on with the next one."""

import redis as redis_library

from api_contracts.client import Client
from tests.conftest import StartWorker
from tests.parts import foreign
from tests.parts.following import result_of
from tests.parts.gate import Gate, whole
from tests.parts.sentinels import Sentinels
from tests.parts.wait import until

QUESTION = [{"role": "user", "content": "hello"}]
GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
#: Longest time from the new master's first write to the answer, in seconds.
RESUME_S = 30.0


def test_a_worker_consumes_over_the_death_of_its_master(
    sentinels: Sentinels, gate: Gate, worker_process: StartWorker
) -> None:
    """Messages that its replica had are run, and so are new ones; the door is guarded as before."""
    gate.answer(*[GOOD] * 6)
    worker = worker_process(gate.url, REDIS_URL=sentinels.url)
    old = sentinels.master
    with redis_library.Redis.from_url(old.url) as redis, Client(sentinels.url) as client:
        assert len(result_of(redis, client.chat("m", QUESTION).id).attempts) == 1
        assert len(result_of(redis, foreign.send(redis)).attempts) == 1
        worker.pause()
        waiting = [client.chat("m", QUESTION).id, foreign.send(redis)]
        assert redis.wait(1, 5000) == 1
    sentinels.kill_master()
    worker.resume()
    sentinels.wait_for_another_than(old)
    with (
        redis_library.Redis.from_url(sentinels.master.url) as redis,
        Client(sentinels.url) as client,
    ):
        fresh = [client.chat("m", QUESTION).id, foreign.send(redis)]
        redis.lpush(foreign.QUEUE, "no message")
        until(lambda: foreign.letters_of(redis), "what is no message is put aside", within=RESUME_S)
        for task in waiting + fresh:
            result_of(redis, task, within=RESUME_S)
    until(lambda: worker.get("/readyz")[0] == 200, "it is ready")
    assert worker.program.running
