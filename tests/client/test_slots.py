"""Commands on their way through a cluster: to whom, in which order, and what is sent again."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MovedError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from api_contracts.client.slots import AGAIN_S, TRIES, Command, Pause, Place, Routes, Send, slot_of

A, B, SEED = ("a", 1), ("b", 2), ("seed", 3)
#: Slots 9842 and 5649: `1` is A's here, and `2` is B's.
ONE, OTHER = ("GET", "{1}x"), ("GET", "{2}x")
LOAD = ("SCRIPT", "LOAD", "…")

Server = Callable[[Command], Any]


def a_map(*shares: tuple[int, int, Place]) -> list[Any]:
    """What a server answers to CLUSTER SLOTS."""
    return [[first, last, [host.encode(), port, b"id", []]] for first, last, (host, port) in shares]


USUAL = a_map((0, 8191, B), (8192, 16383, A))
ALL_OF_B = a_map((0, 16383, B))


class Servers:
    """Answer steps, and note them."""

    def __init__(self, **answers: Server) -> None:
        """Take an answer for each server, by its host; one that raises is lost."""
        self.steps: list[Any] = []
        self._answers = answers

    def drive(self, steps: Any) -> Any:
        try:
            step = next(steps)
            while True:
                step = self._step(step, steps)
        except StopIteration as stop:
            return stop.value

    def _step(self, step: Send | Pause, steps: Any) -> Any:
        if isinstance(step, Pause):
            self.steps.append(step.seconds)
            return next(steps)
        host = step.place[0]
        self.steps.append((host, *(" ".join(map(str, command[:2])) for command in step.commands)))
        try:
            told = [self._answers[host](command) for command in step.commands]
        except RedisConnectionError as error:
            return steps.throw(error)
        return steps.send(told)


def says(slots: Any, reply: Any = "ok") -> Server:
    """Answer with this map, and to all else with this; an exception in a list is raised."""

    def answer(command: Command) -> Any:
        found = slots if command[0] == "CLUSTER" else reply
        if isinstance(found, RedisConnectionError):
            raise found
        return found

    return answer


def moved_to(place: Place) -> MovedError:
    return MovedError(f"9842 {place[0]}:{place[1]}")


def test_the_slot_of_a_command_is_its_first_key_s() -> None:
    assert slot_of(ONE) == slot_of(("EVALSHA", "sha", 2, "{1}a", b"{1}b", "x")) == 9842
    assert slot_of(("EVAL_RO", "…", 1, b"{1}")) == 9842
    assert slot_of(("PING",)) is None
    assert slot_of(("GET", "\ud800")) is not None, "what cannot be written is refused elsewhere"


def test_commands_go_to_whom_they_concern_in_the_order_in_which_he_appears() -> None:
    servers, routes = (
        Servers(seed=says(USUAL), a=says(USUAL, "A"), b=says(USUAL, "B")),
        Routes([SEED]),
    )
    assert servers.drive(routes.exchange([OTHER, ONE, OTHER])) == ["B", "A", "B"]
    assert servers.steps == [
        ("seed", "CLUSTER SLOTS"), ("b", "GET {2}x", "GET {2}x"), ("a", "GET {1}x"),
    ]  # fmt: skip
    servers.steps.clear()
    assert servers.drive(routes.exchange([LOAD, ONE, OTHER])) == ["B", "A", "B"]
    assert servers.steps == [("a", "SCRIPT LOAD", "GET {1}x"), ("b", "SCRIPT LOAD", "GET {2}x")]
    servers.steps.clear()
    assert servers.drive(routes.exchange([("TIME",)])) == ["B"]


def test_what_has_moved_is_sent_again_by_the_map_of_whoever_says_so() -> None:
    """And what was taken is not, but what is about no key goes along again."""
    replies = iter([moved_to(B)])
    a = says(ALL_OF_B, None)
    servers = Servers(
        seed=says(USUAL),
        a=lambda command: a(command) if command[0] != "GET" else next(replies),
        b=says(USUAL, "B"),
    )
    assert servers.drive(Routes([SEED]).exchange([LOAD, OTHER, ONE])) == ["B", "B", "B"]
    assert servers.steps == [
        ("seed", "CLUSTER SLOTS"),
        ("b", "SCRIPT LOAD", "GET {2}x"),
        ("a", "SCRIPT LOAD", "GET {1}x"),
        ("a", "CLUSTER SLOTS"),
        ("b", "SCRIPT LOAD", "GET {1}x"),
    ]


@pytest.mark.parametrize("error", [TryAgainError("half"), ClusterDownError("down"), moved_to(A)])
def test_a_slot_that_does_not_arrive_is_waited_for_and_then_told(error: Exception) -> None:
    servers = Servers(seed=says(USUAL), a=says(USUAL, error), b=says(USUAL, "B"))
    replies = servers.drive(Routes([SEED]).exchange([ONE, OTHER]))
    assert replies == [error, "B"]
    assert servers.steps.count(("a", "GET {1}x")) == TRIES
    assert servers.steps.count(("b", "GET {2}x")) == 1
    assert servers.steps.count(AGAIN_S) == TRIES - 2, "the second time is at once"


def test_an_error_of_the_command_itself_is_its_answer() -> None:
    error = ResponseError("WRONGTYPE")
    servers = Servers(seed=says(USUAL), a=says(USUAL, error))
    assert servers.drive(Routes([SEED]).exchange([ONE])) == [error]
    assert servers.steps == [("seed", "CLUSTER SLOTS"), ("a", "GET {1}x")]


def test_whoever_has_the_slots_of_a_server_that_is_lost_is_asked_in_its_place() -> None:
    gone = RedisConnectionError("gone")
    servers = Servers(seed=says(USUAL), a=says(gone, gone), b=says(ALL_OF_B, "B"))
    assert servers.drive(Routes([SEED]).exchange([ONE])) == ["B"]
    assert servers.steps == [
        ("seed", "CLUSTER SLOTS"), ("a", "GET {1}x"), ("b", "CLUSTER SLOTS"), ("b", "GET {1}x"),
    ]  # fmt: skip


def test_a_server_that_is_lost_and_has_its_slots_still_is_told() -> None:
    gone = RedisConnectionError("gone")
    servers, routes = (
        Servers(seed=says(USUAL), a=says(gone, gone), b=says(USUAL, "B")),
        Routes([SEED]),
    )
    with pytest.raises(RedisConnectionError, match="gone"):
        servers.drive(routes.exchange([ONE]))
    assert servers.steps[-1] == ("b", "CLUSTER SLOTS"), "the others are asked, and not the lost one"
    assert servers.drive(routes.exchange([OTHER])) == ["B"]


@pytest.mark.parametrize(
    ("told", "raised"),
    [
        (RedisConnectionError("refused"), "refused"),
        (AuthenticationError("wrong password"), "wrong password"),
        (ResponseError("This instance has cluster support disabled"), "support disabled"),
        ([], "no server of the cluster has a slot"),
    ],
)
def test_why_nobody_tells_who_has_what_is_told(told: Any, raised: str) -> None:
    servers, routes = Servers(seed=says(told), other=says(told)), Routes([SEED, ("other", 4)])
    for steps in (routes.exchange([ONE]), routes.owner("{1}x")):
        with pytest.raises((RedisConnectionError, ResponseError), match=raised):
            servers.drive(steps)
    assert servers.steps == [("seed", "CLUSTER SLOTS"), ("other", "CLUSTER SLOTS")] * 2


def test_a_slot_that_nobody_has_is_refused_by_whoever_is_asked() -> None:
    error = ClusterDownError("Hash slot not served")
    servers, routes = (
        Servers(seed=says(a_map((0, 100, B))), b=says(a_map((0, 100, B)), error)),
        Routes([SEED]),
    )
    assert servers.drive(routes.exchange([ONE])) == [error]
    with pytest.raises(ClusterDownError, match="no server of the cluster has slot 9842"):
        servers.drive(routes.owner("{1}x"))


def test_a_server_that_names_no_host_means_the_one_that_was_asked() -> None:
    routes = Routes([SEED])
    servers = Servers(seed=says([[0, 16383, [None, 7, b"id", []]]], "it"))
    assert servers.drive(routes.owner("{1}x")) == ("seed", 7)


def test_the_map_stays_the_same_object_while_it_says_the_same() -> None:
    """Whoever compares it sees at once that nothing has moved."""
    servers, routes = Servers(seed=says(USUAL), a=says(USUAL), b=says(USUAL)), Routes([SEED])
    servers.drive(routes.refresh())
    before = routes.owners
    servers.drive(routes.refresh())
    assert routes.owners is before
