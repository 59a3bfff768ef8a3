"""What was seen of a workload becomes figures; what is lost, doubled or astray is told."""

from typing import Any

import pytest

from tests.bench import marks
from tests.bench.account import Seen, account, calm_of
from tests.bench.subscriber import Counts
from tests.bench.workloads import Workload

STREAMS = Workload("a", "", 2, slots=2, chunks=3, gap_s=0.1)
CALLS = Workload("slots", "", 4, slots=2, delay_s=1.0)


def counted(*messages: tuple[str, bytes], streams: bool = True) -> dict[str, Any]:
    counts = Counts(streams=streams)
    for channel, message in messages:
        counts.take(channel.encode(), message, 5_000_000_000)
    return counts.report()


def chunk(number: int, seq: int, sent_ns: int = 4_999_000_000) -> bytes:
    return b'{"object":"chat.completion.chunk","content":"%b"}' % marks.write(number, seq, sent_ns)


def event(kind: str, data: bytes = b"{}") -> bytes:
    """An event of router-worker: chunks tell their type before their moment, endings behind it."""
    head = b'{"id":"1-7","task_id":"0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d"'
    if kind == "chunk":
        return head + b',"type":"chunk","at":1,"data":%b}' % data
    return head + b',"at":1,"type":"%b","result":%b}' % (kind.encode(), data)


def peers_stream(number: int, *seqs: int) -> list[tuple[str, bytes]]:
    channel = f"bench:{number}"
    return [*((channel, chunk(number, seq)) for seq in seqs), (channel, b"[DONE]")]


def own_stream(number: int, *seqs: int) -> list[tuple[str, bytes]]:
    channel = f"rw:{{{number}}}:live"
    chunks = [(channel, event("chunk", chunk(number, seq))) for seq in seqs]
    # The folded answer repeats the mark of some chunk.
    return [(channel, event("started")), *chunks, (channel, event("completed", chunk(number, 0)))]


def seen(subscriber: dict[str, Any], work: Workload = STREAMS, **changed: Any) -> Seen:
    numbers = range(work.tasks)
    upstream = {
        "calls": {str(number): [1_500_000_000 + number * 1_000_000] for number in numbers},
        "sent": {str(number): work.chunks or 1 for number in numbers},
        "late_ms_p99": 0.5,
    }
    nothing = {"cpu_s": 1.0, "resident_mib": 50.0, "peak_mib": 60.0, "threads": 3}
    before = {"worker": nothing, "commands": 10, "bytes": 100}
    before |= {f"{name}_cpu_s": 0.0 for name in ("redis", "upstream", "producer")}
    after = before | {"worker": nothing | {"cpu_s": 1.6}, "commands": 22, "bytes": 1300}
    after |= {"redis_cpu_s": 0.3}
    moments = [1_000_000_000] * work.tasks + [1_100_000_000]
    parts = {"upstream": upstream, "subscriber": subscriber, "before": before, "after": after}
    return Seen(moments=moments, over_ns=6_000_000_000, **(parts | changed))


@pytest.mark.parametrize("stream", [peers_stream, own_stream])
def test_a_stream_that_came_whole_has_its_figures(stream: Any) -> None:
    figures = account(STREAMS, seen(counted(*stream(0, 0, 1, 2), *stream(1, 0, 1, 2))))
    assert figures["lost"] == figures["doubled"] == figures["lost_endings"] == 0
    assert figures["doubled_endings"] == figures["failed"] == figures["strays"] == 0
    assert figures["chunks"] == 6
    assert figures["wall_s"] == pytest.approx(4.0)
    assert figures["cpu_us_chunk"] == pytest.approx(100_000)
    assert figures["chunks_s_core"] == pytest.approx(10)
    assert figures["busy"] == pytest.approx(0.15)
    assert figures["latency_ms"] == {"p50": 1.0, "p90": 1.0, "p99": 1.0, "most": 1.0}
    assert figures["call_ms"] == {"p50": 500.0, "p99": 501.0, "most": 501.0}
    assert figures["redis_commands_chunk"] == 2
    assert figures["redis_bytes_chunk"] == 200
    assert figures["redis_cpu_us_chunk"] == pytest.approx(50_000)


def test_chunks_that_were_sent_while_the_core_was_busy_are_told_apart() -> None:
    """Here a quarter of a second each: 40 %, 72 %, 68 %, and then nobody has looked."""
    used = [(1_000, 0.0), (250_001_000, 0.1), (500_001_000, 0.28), (750_001_000, 0.45)]
    moments_ms = {0: 5.0, 0.001: 7.0, 250: 9.0, 251: 100.0, 500: 100.0, 501: 8.0, 751: 100.0}
    latencies = [(int(ms * 1e6), latency_ms) for ms, latency_ms in moments_ms.items()]
    assert calm_of(latencies, used) == [7.0, 9.0, 8.0]


def test_what_did_not_come_is_lost() -> None:
    figures = account(STREAMS, seen(counted(*peers_stream(0, 0, 2))))
    assert (figures["lost"], figures["lost_endings"], figures["doubled"]) == (4, 1, 0)


def test_what_came_twice_is_doubled() -> None:
    twice = [*peers_stream(1, 0, 1, 2), ("bench:1", b"[DONE]")]
    figures = account(STREAMS, seen(counted(*peers_stream(0, 0, 1, 1, 2), *twice)))
    assert (figures["doubled"], figures["doubled_endings"], figures["lost"]) == (1, 1, 0)


def test_each_of_several_subscribers_must_have_it() -> None:
    work = Workload("g", "", 1, chunks=2, subscribers=2)
    once, twice = peers_stream(0, 0, 1), peers_stream(0, 0)
    figures = account(work, seen(counted(*once, *twice), work))
    assert (figures["lost"], figures["doubled"], figures["lost_endings"]) == (1, 0, 0)


@pytest.mark.parametrize("kind", ["failed", "cancelled", "expired"])
def test_a_task_that_ended_otherwise_has_failed(kind: str) -> None:
    assert counted(("x", event(kind)))["failed"] == 1


def test_a_whole_answer_is_its_ending_and_has_a_mark() -> None:
    channels = [(f"bench:{number}", chunk(number, 0)) for number in range(3)]
    own = ("rw:{3}:live", event("completed", chunk(3, 0)))
    figures = account(CALLS, seen(counted(*channels, own, streams=False), CALLS))
    assert figures["lost"] == figures["lost_endings"] == figures["doubled"] == 0
    assert figures["cpu_ms_task"] == pytest.approx(150)
    # Two rounds of a second, in four.
    assert figures["efficiency"] == pytest.approx(0.5)


def test_a_call_that_is_made_twice_is_counted_twice() -> None:
    subscriber = counted(*peers_stream(0, 0, 1, 2), *peers_stream(1, 0, 1, 2))
    twice = {"calls": {"0": [1_100_000_000, 1_200_000_000], "1": [1]}}
    twice = {**seen(subscriber).upstream, **twice}
    assert account(STREAMS, seen(subscriber, upstream=twice))["calls"] == 3


def test_a_task_from_before_is_told_apart() -> None:
    subscriber = counted(*peers_stream(0, 0, 1, 2), *peers_stream(1, 0, 1, 2))
    upstream = seen(subscriber).upstream
    late = {name: {**upstream[name], "900001": [3]} for name in ("calls",)}
    late |= {"sent": {**upstream["sent"], "900001": 5}}
    figures = account(STREAMS, seen(subscriber, upstream={**upstream, **late}))
    assert (figures["strays"], figures["lost"], figures["chunks"]) == (1, 0, 6)


def test_where_nothing_is_published_the_last_look_ends_it() -> None:
    done = seen(counted(), CALLS)
    unpublished = Seen(**{**vars(done), "published": False})
    figures = account(CALLS, unpublished)
    assert figures["wall_s"] == pytest.approx(5.0)
    assert figures["latency_ms"] is None
    assert "lost" not in figures
