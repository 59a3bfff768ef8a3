"""The pump: order is kept, round trips are shared, nothing is lost while Redis is away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.parts.wait import until_async
from worker import pump as pump_module
from worker.pump import BATCH, BATCH_BYTES, Closed, Command, Operation, Pump


class Gone(Exception):
    """The connection is cut."""


class Server:
    """Takes batches; answers each command with its own first word, or as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[Command]] = []
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()
        self.errors: list[Exception] = []
        #: Replies to the command "refused", until there are no more of them.
        self.refusals: list[Exception] = []

    async def send(self, commands: Sequence[Command]) -> Sequence[Any]:
        self.batches.append(list(commands))
        self.asked.set()
        await self.answers.wait()
        if self.errors:
            raise self.errors.pop(0)
        return [
            self.refusals.pop(0) if command[0] == "refused" and self.refusals else command[0]
            for command in commands
        ]

    @property
    def taken(self) -> list[Any]:
        """The first word of every command, in order."""
        return [command[0] for batch in self.batches for command in batch]


def passing(error: object) -> str | None:
    """Take one kind of error for worth another try."""
    return "it is gone" if isinstance(error, Gone) else None


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def pump(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pump]:
    """A running pump; it has little patience."""
    monkeypatch.setattr(pump_module, "PAUSE_S", 0.01)
    monkeypatch.setattr(pump_module, "CLOSE_S", 0.1)
    pump = Pump(server.send, passing)
    running = asyncio.create_task(pump.run())
    yield pump
    pump.close()
    await running


async def ask_all(pump: Pump, words: Sequence[Any]) -> list[Any]:
    return list(await asyncio.gather(*(pump.ask(word) for word in words), return_exceptions=True))


async def test_each_caller_gets_its_own_reply(pump: Pump) -> None:
    assert await ask_all(pump, ["a", "b", "c"]) == ["a", "b", "c"]


async def test_what_gathers_while_redis_answers_goes_in_one_batch(
    pump: Pump, server: Server
) -> None:
    server.answers.clear()
    first = pump.ask("first")
    await server.asked.wait()
    replies: list[asyncio.Future[Any]] = [asyncio.Future() for _ in range(100)]
    for word, reply in enumerate(replies):
        pump.leave(Operation((word,), reply))
    server.answers.set()
    await first
    assert await asyncio.gather(*replies) == list(range(100))
    assert [len(batch) for batch in server.batches] == [1, 100]


async def test_what_gathers_shortly_behind_a_batch_goes_in_one_batch(
    pump: Pump, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round trip costs."""
    monkeypatch.setattr(pump_module, "PACE_S", 0.3)
    loop = asyncio.get_running_loop()
    began = loop.time()
    after = []
    for words in (["a"], ["b"], ["c", "d"]):
        await ask_all(pump, words)
        after.append(loop.time() - began)
    assert after[1] >= 0.29
    assert after[2] >= 0.59
    assert [len(batch) for batch in server.batches] == [1, 1, 2]


async def test_the_first_batch_and_the_first_after_a_pause_wait_for_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited would be here in an hour."""
    for pause_s in (0, 0.1):
        pump = Pump(server.send, passing)
        running = asyncio.create_task(pump.run())
        if pause_s:
            monkeypatch.setattr(pump_module, "PACE_S", pause_s)
            await pump.ask("before")
            await asyncio.sleep(pause_s)
        monkeypatch.setattr(pump_module, "PACE_S", 3600)
        async with asyncio.timeout(30):
            await pump.ask("now")
        pump.close()
        await running


async def test_a_flood_is_cut_into_batches_in_its_order(pump: Pump, server: Server) -> None:
    words = list(range(2 * BATCH + 7))
    assert await ask_all(pump, words) == words
    assert server.taken == words
    assert max(len(batch) for batch in server.batches) == BATCH


async def test_what_is_large_is_sent_in_several_goes_in_its_order(
    pump: Pump, server: Server
) -> None:
    """Else what gathers while Redis is away would never pass a slow link within its time-out."""
    server.answers.clear()
    first = pump.ask("first")
    await server.asked.wait()
    large = bytes(BATCH_BYTES // 3)
    commands = [(0, large), (1, large), (2, large), (3, large), (4, large * 9), (5,), (6, large)]
    asked = [pump.ask(*command) for command in commands]
    await asyncio.sleep(0)
    server.answers.set()
    await first
    assert await asyncio.gather(*asked) == list(range(7))
    goes = [[command[0] for command in batch] for batch in server.batches]
    assert goes == [["first"], [0, 1, 2], [3], [4], [5, 6]]


async def test_a_batch_that_was_cut_off_is_sent_again_before_all_others(
    pump: Pump, server: Server
) -> None:
    server.errors = [Gone(), Gone()]
    early = asyncio.create_task(ask_all(pump, ["a", "b"]))
    await server.asked.wait()
    late = asyncio.create_task(ask_all(pump, ["c"]))
    assert (await early, await late) == (["a", "b"], ["c"])
    assert server.taken == ["a", "b", "a", "b", "a", "b", "c"]


async def test_a_redis_that_stays_away_is_waited_for(pump: Pump, server: Server) -> None:
    server.errors = [Gone("away") for _ in range(50)]
    assert await ask_all(pump, ["a", "b"]) == ["a", "b"]
    assert len(server.batches) == 51
    assert pump.round_trips == 1


async def test_what_keeps_redis_is_told_as_long_as_it_lasts(pump: Pump, server: Server) -> None:
    server.errors = [Gone("away") for _ in range(1000)]
    assert pump.trouble is None
    asked = pump.ask("a")
    assert await until_async(lambda: pump.trouble, "trouble") == "it is gone"
    server.errors.clear()
    await asked
    assert pump.trouble is None


async def test_from_the_first_refusal_that_passes_a_batch_is_sent_again(
    pump: Pump, server: Server
) -> None:
    server.refusals = [Gone(), Gone()]
    assert await ask_all(pump, ["a", "refused", "c"]) == ["a", "refused", "c"]
    again = ["refused", "c"]
    assert server.taken == ["a", *again, *again, *again]


async def test_a_pump_that_closes_tells_its_callers_in_bounded_time(
    pump: Pump, server: Server
) -> None:
    server.errors = [Gone("away") for _ in range(1000)]
    asked = asyncio.create_task(ask_all(pump, ["a", "b"]))
    await server.asked.wait()
    pump.close()
    assert [type(reply) for reply in await asked] == [Closed, Closed]
    (late,) = await ask_all(pump, ["c"])
    assert isinstance(late, Closed), "a pump that has ended keeps nobody waiting"


async def test_an_error_that_no_repeat_would_cure_is_told_at_once(
    pump: Pump, server: Server
) -> None:
    server.errors = [ValueError("what is this?")]
    (reply,) = await ask_all(pump, ["a"])
    assert isinstance(reply, ValueError)
    assert len(server.batches) == 1
    assert await pump.ask("b") == "b"


async def test_an_error_of_one_command_is_its_caller_s_alone(pump: Pump) -> None:
    error = ValueError("only this one")
    assert await ask_all(pump, ["a", error, "c"]) == ["a", error, "c"]


async def test_a_caller_that_has_gone_disturbs_nobody(pump: Pump, server: Server) -> None:
    server.answers.clear()
    gone = pump.ask("a")
    stays = pump.ask("b")
    await server.asked.wait()
    gone.cancel()
    server.answers.set()
    assert await stays == "b"
    assert gone.cancelled()


async def test_closing_sends_what_is_left(server: Server) -> None:
    pump = Pump(server.send, passing)
    replies: list[asyncio.Future[Any]] = [asyncio.Future() for _ in range(BATCH + 1)]
    for word, reply in enumerate(replies):
        pump.leave(Operation((word,), reply))
    pump.close()
    await pump.run()
    assert [reply.result() for reply in replies] == list(range(BATCH + 1))
