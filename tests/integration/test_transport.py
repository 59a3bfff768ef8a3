"""The door of kombu's transport: what it notes, turns away and puts back, on a real server."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis as redis_library
from kombu import Connection, Consumer
from kombu import Queue as KombuQueue

from api_contracts.client.servers import kombu_address
from api_contracts.client.submission import ring
from api_contracts.requests import new_id
from tests.conftest import StartValkey
from tests.parts import foreign
from tests.parts.need import need
from tests.parts.sentinels import Sentinels
from tests.parts.tasks import chat
from tests.parts.wait import until
from worker import embedded, transport
from worker.admission import NotAMessage
from worker.store import UNACKED, UNACKED_INDEX
from worker.transport import guarded_transport


class Door:
    """Notes what happens to messages, and puts them back as a worker does."""

    def __init__(self, redis: redis_library.Redis) -> None:
        self._redis = redis
        self.answers = 0
        self.turned_away: list[tuple[str, bytes, str]] = []
        self.back: list[bytes] = []
        self.room = 1

    def heard(self) -> None:
        self.answers += 1

    def turn_away(self, queue: str, message: bytes, error: NotAMessage) -> None:
        self.turned_away.append((queue, message, str(error)))

    def put_back(self, queue: str, message: bytes) -> None:
        self.back.append(message)
        self._redis.config_set("maxmemory", 0)
        self._redis.rpush(queue, message)


class Consuming:
    """A consumer of the queue behind a door."""

    def __init__(self, url: str, redis: redis_library.Redis, options: Any = None) -> None:
        self.door = Door(redis)
        self.taken: list[str] = []
        guarded = guarded_transport(self.door, url)
        options = {"unacked_key": UNACKED, "unacked_index_key": UNACKED_INDEX, **(options or {})}
        self._connection = Connection(url, transport=guarded, transport_options=options)
        queue = KombuQueue(foreign.QUEUE, exchange="", routing_key=foreign.QUEUE)
        self.consumer = Consumer(self._connection, [queue], on_message=self._take)
        self.consumer.consume()

    def _take(self, message: Any) -> None:
        self.taken.append(message.headers["id"])

    def ask(self) -> None:
        """Ask for messages, as Celery's loop does, and read what has come by now."""
        with suppress(TimeoutError):
            self._connection.drain_events(timeout=0.05)

    def until(self, look: Callable[[], object], what: str) -> None:
        """Consume until ``look`` returns something true."""

        def consumed() -> object:
            self.ask()
            return look()

        until(consumed, what)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def server(start_valkey: StartValkey) -> embedded.EmbeddedServer:
    return start_valkey(persistence=False)


@pytest.fixture(name="redis")
def own_redis(server: embedded.EmbeddedServer) -> Iterator[redis_library.Redis]:
    with redis_library.Redis.from_url(server.url) as redis:
        yield redis


@pytest.fixture
def consuming(server: embedded.EmbeddedServer, redis: redis_library.Redis) -> Iterator[Consuming]:
    consuming = Consuming(server.url, redis)
    yield consuming
    consuming.close()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Sentinels]:
    """Sentinels that do not take a server for dead because it hands over."""
    try:
        sentinels = Sentinels(tmp_path, down_ms=1_500)
    except embedded.EmbeddedUnavailable as error:
        need(condition=False, reason=str(error))
        raise
    yield sentinels
    sentinels.stop()


def id_of(message: bytes) -> str:
    return str(json.loads(message)["headers"]["id"])


def test_every_answer_is_heard_an_empty_one_too(
    consuming: Consuming, redis: redis_library.Redis
) -> None:
    consuming.until(lambda: consuming.door.answers >= 2, "two empty answers")
    before = consuming.door.answers
    foreign.send(redis)
    consuming.until(lambda: consuming.taken, "a message")
    assert consuming.door.answers > before


def test_a_message_that_cannot_be_noted_goes_back_to_be_the_next(
    consuming: Consuming, redis: redis_library.Redis
) -> None:
    redis.lpush(foreign.QUEUE, first := foreign.message("first"), foreign.message("second"))
    redis.config_set("maxmemory", 1)
    consuming.until(lambda: consuming.door.back, "a message that went back")
    assert consuming.door.back == [first.encode()]
    assert consuming.taken == []
    consuming.until(lambda: len(consuming.taken) == 2, "both messages")
    assert consuming.taken[0] == id_of(first.encode())


def test_a_message_that_comes_while_nobody_consumes_any_more_goes_back(
    consuming: Consuming, redis: redis_library.Redis
) -> None:
    channel: Any = consuming.consumer.channel
    # It is asked for while it comes, though this machine stands still between.
    channel.brpop_timeout = 30
    consuming.ask()
    redis.lpush(foreign.QUEUE, message := foreign.message("late"))
    consuming.consumer.cancel()
    assert consuming.door.back == [message.encode()]
    assert redis.lrange(foreign.QUEUE, 0, -1) == [message.encode()]
    assert consuming.taken == []


def test_doorbells_that_wait_are_taken_together_as_far_as_there_is_room(
    consuming: Consuming, redis: redis_library.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long this machine stands still before the answer is read, they have waited.
    monkeypatch.setattr(transport, "AT_ONCE_S", 600)
    ids = [new_id() for _ in range(8)]
    redis.lpush(foreign.QUEUE, *(ring(one, "chat", foreign.QUEUE, 0)[2] for one in ids))
    consuming.door.room = 5
    consuming.until(lambda: len(consuming.taken) == 6, "the first, and as many as there is room")
    consuming.door.room = 1
    consuming.until(lambda: len(consuming.taken) == 8, "the others")
    assert consuming.taken == ids
    assert not redis.exists(UNACKED), "a doorbell is not noted"


def test_what_carries_a_task_is_taken_alone(
    consuming: Consuming, redis: redis_library.Redis
) -> None:
    """Behind doorbells too: until it is noted it is nobody's."""
    bells = [ring(new_id(), "chat", foreign.QUEUE, 0)[2] for _ in range(3)]
    redis.lpush(foreign.QUEUE, *bells, foreign.message(chat()), foreign.message(chat()))
    consuming.door.room = 10
    consuming.until(lambda: len(consuming.taken) == 3, "the doorbells")
    assert redis.llen(foreign.QUEUE) == 2
    consuming.until(lambda: len(consuming.taken) == 5, "the others")
    assert redis.hlen(UNACKED) == 2


@pytest.mark.parametrize("word", ["half a character \ud800", "a line\n"])
def test_a_tag_that_cannot_be_noted_is_turned_away(
    consuming: Consuming, redis: redis_library.Redis, word: str
) -> None:
    message = json.loads(foreign.message(chat()))
    message["properties"]["delivery_tag"] = word
    redis.lpush(foreign.QUEUE, json.dumps(message))
    consuming.until(lambda: consuming.door.turned_away, "a message that was turned away")
    reason = "its property delivery_tag has what cannot be printed"
    assert consuming.door.turned_away[0][2] == reason


def test_what_fails_on_its_way_to_celery_is_turned_away_and_not_noted(
    consuming: Consuming, redis: redis_library.Redis
) -> None:
    def fail(_: Any) -> None:
        raise RecursionError

    consuming.consumer.on_message = fail
    redis.lpush(foreign.QUEUE, foreign.message(chat()))
    consuming.until(lambda: consuming.door.turned_away, "a message that was turned away")
    assert consuming.door.turned_away[0][2] == "it met a fault of the worker"
    assert not redis.exists(UNACKED)


def test_a_message_belongs_to_the_queue_that_it_was_found_in(
    consuming: Consuming, redis: redis_library.Redis
) -> None:
    """Whatever it says of that: it is a label of a metric, and where the message goes back to."""
    message = json.loads(foreign.message(chat()))
    message["properties"]["delivery_info"]["routing_key"] = "evil \ud800"
    redis.lpush(foreign.QUEUE, json.dumps(message))
    consuming.until(lambda: consuming.taken, "the message")
    (noted,) = redis.hvals(UNACKED)
    assert json.loads(noted)[1:] == ["", foreign.QUEUE]


def test_who_stops_consuming_waits_for_the_answer_that_is_on_its_way(
    consuming: Consuming, redis: redis_library.Redis
) -> None:
    """So that no message lies unread in a socket until the process ends."""
    consuming.ask()
    stopping = threading.Thread(target=consuming.consumer.cancel)
    stopping.start()
    redis.lpush(foreign.QUEUE, foreign.message("in time or late"))
    stopping.join(30)
    assert not stopping.is_alive()
    assert redis.llen(foreign.QUEUE) == 1


def test_what_is_no_message_is_turned_away_and_the_next_one_taken(
    consuming: Consuming, redis: redis_library.Redis
) -> None:
    redis.lpush(foreign.QUEUE, "{oops", foreign.message("good"))
    consuming.until(lambda: consuming.taken, "the good message")
    assert consuming.door.turned_away == [(foreign.QUEUE, b"{oops", "its message is not JSON")]


@pytest.mark.timeout(120)
def test_who_stops_after_a_handover_is_not_held_by_the_old_master(patient: Sentinels) -> None:
    """It lives on, and refuses to forget what was noted there: no reason to ask it for ever."""
    with redis_library.Redis.from_url(patient.master.url) as redis:
        broker, options = kombu_address(patient.url)
        consuming = Consuming(broker, redis, options)
        foreign.send(redis)
        consuming.until(lambda: consuming.taken, "a message")
        patient.hand_over()
    stopping = threading.Thread(target=consuming.close, daemon=True)
    stopping.start()
    stopping.join(30)
    assert not stopping.is_alive()
