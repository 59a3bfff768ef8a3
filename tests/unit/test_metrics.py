"""What a scrape sees of what happened."""

from __future__ import annotations

import shutil
import subprocess
import threading
import timeit
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from api_contracts.errors import ErrorCode
from api_contracts.names import Queue, State
from api_contracts.requests import CELERY_TASKS
from api_contracts.results import Usage
from tests.parts.need import need
from worker.errors import Failure
from worker.metrics import CONTENT_TYPE, ChunkMeter, Metrics, Readings
from worker.outcome import REPLAYABLE
from worker.prices import Price
from worker.retry import GiveUp, Reason, Retry
from worker.tally import Tally
from worker.telemetry import (
    BUFFERED,
    CHUNK_GAP,
    CONNECTIONS,
    FENCED,
    METRICS,
    ROUND_TRIPS,
    VENDORS,
    CallEnd,
    Fleet,
    TaskEnd,
)

PRICES = {"priced": Price(input=2, cached=1, output=10)}
UNKNOWN = Usage(provenance="unavailable")
FAILURE = Failure(ErrorCode.OVERLOADED)
COUNTED = Tally({"m"}).ended(TaskEnd("native", "aws", "m", State.FAILED, None), ErrorCode.POISON)
FLEET = Fleet(
    depths={Queue.BATCH: 7},
    ages={Queue.BATCH: 2.5},
    dead_letters=3,
    open_tasks=9,
    tally=[(name.encode(), b"4") for name in COUNTED.split("\n")],
)
Labels = frozenset[tuple[str, str]]


def made(
    models: tuple[str, ...] = (),
    fleet: Fleet | None = None,
    readings: Readings | None = None,
) -> Metrics:
    return Metrics(
        slots=400,
        models=models,
        prices=PRICES,
        fleet=lambda: fleet,
        readings=lambda: readings or {},
    )


def scraped(metrics: Metrics, name: str) -> dict[Labels, float]:
    """Return the samples of this name, by their labels."""
    return {
        frozenset(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name == name
    }


def of(**labels: str) -> Labels:
    return frozenset(labels.items())


def call(**changes: Any) -> CallEnd:
    fields: dict[str, Any] = {
        "vendor": "auto", "model": "m", "protocol": "openai", "status": 200,
        "outcome": "completed", "seconds": 2.0, "usage": UNKNOWN,
    }  # fmt: skip
    return CallEnd(**fields | changes)


def everything_once(metrics: Metrics) -> None:
    """Let each thing happen that can."""
    usage = Usage(
        provenance="reported", input_tokens=1, output_tokens=2, cached_tokens=3, reasoning_tokens=4
    )
    metrics.claimed(Queue.BATCH, 0.2)
    with metrics.calling(stream=True):
        metrics.first_chunk("auto", 0.3).next(0.04, 1)
    metrics.called(call(usage=usage, model="priced"))
    metrics.decided("auto", Retry(FAILURE, 1000))
    metrics.decided("auto", GiveUp(FAILURE, Reason.DEADLINE))
    metrics.ended(TaskEnd("chat", "auto", "m", State.COMPLETED, 4.0))
    metrics.parked(Queue.BATCH)
    metrics.lease_lost()
    metrics.redelivered("worker")
    metrics.dropped("held")
    metrics.handed_back()
    metrics.refused("unsigned")


def test_every_metric_of_the_table_is_there_as_the_table_says_and_no_other() -> None:
    readings: Readings = {
        FENCED: 1, BUFFERED: 2, ROUND_TRIPS: 3, CONNECTIONS: {"used": 1, "idle": 2},
    }  # fmt: skip
    metrics = made(fleet=FLEET, readings=readings)
    everything_once(metrics)
    families = {
        family.name: family
        for family in text_string_to_metric_families(metrics.exposition().decode())
        if not family.name.startswith("process_")
    }
    assert set(families) == {row.name.removesuffix("_total") for row in METRICS}
    for row in METRICS:
        family = families[row.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (row.type, row.meaning)
        labels = {name for sample in family.samples for name in sample.labels}
        assert labels - {"le"} == set(row.labels), row.name
        bounds = [sample.labels["le"] for sample in family.samples if "le" in sample.labels]
        assert [float(bound) for bound in bounds[:-1]] == list(row.buckets)


def test_every_row_says_what_an_operator_does_with_it_and_its_buckets_rise() -> None:
    for row in METRICS:
        assert row.meaning.endswith(".")
        assert row.use.endswith(".")
        assert list(row.buckets) == sorted(set(row.buckets))
        assert bool(row.buckets) == (row.type == "histogram")
        assert row.name.endswith("_total") == (row.type == "counter")


def test_the_processs_own_cpu_and_memory_are_told_too() -> None:
    assert scraped(made(), "process_resident_memory_bytes")[of()] > 0


def test_two_workers_in_one_process_do_not_share_numbers() -> None:
    one, other = made(), made()
    one.claimed(Queue.BATCH, 1.0)
    assert scraped(other, "router_worker_queue_wait_seconds_count") == {}


@pytest.mark.parametrize(
    ("status", "status_class"),
    [
        (200, "2xx"), (302, "3xx"), (400, "4xx"), (404, "4xx"), (429, "429"), (500, "5xx"),
        (529, "5xx"), (None, "none"),
    ],
)  # fmt: skip
def test_a_call_is_counted_under_its_status_class(status: int | None, status_class: str) -> None:
    metrics = made()
    metrics.called(call(status=status, protocol="gemini", vendor="google"))
    labels = of(vendor="google", protocol="gemini", status_class=status_class)
    assert scraped(metrics, "router_worker_calls_total") == {labels: 1}


@pytest.mark.parametrize(("status", "status_class"), [(None, "stopped"), (200, "2xx")])
def test_a_call_that_was_stopped_before_its_answer_came_is_no_failure_of_the_router(
    status: int | None, status_class: str
) -> None:
    metrics = made()
    metrics.called(call(status=status, outcome="stopped"))
    labels = of(vendor="auto", protocol="openai", status_class=status_class)
    assert scraped(metrics, "router_worker_calls_total") == {labels: 1}


def test_failed_and_completed_attempts_are_timed_apart() -> None:
    metrics = made()
    metrics.called(call(seconds=3.0))
    metrics.called(call(seconds=0.5, outcome="failed"))
    assert scraped(metrics, "router_worker_attempt_seconds_sum") == {
        of(vendor="auto", outcome="completed"): 3.0,
        of(vendor="auto", outcome="failed"): 0.5,
    }


def test_tokens_are_counted_with_their_provenance_and_what_nobody_reported_is_not() -> None:
    metrics = made(models=("m",))
    metrics.called(call(usage=Usage(provenance="reported", input_tokens=10, output_tokens=4)))
    metrics.called(call(usage=Usage(provenance="estimated", output_tokens=6)))
    metrics.called(call(usage=UNKNOWN))
    common = {"vendor": "auto", "model": "m"}
    assert scraped(metrics, "router_worker_tokens_total") == {
        of(**common, type="input", provenance="reported"): 10,
        of(**common, type="output", provenance="reported"): 4,
        of(**common, type="output", provenance="estimated"): 6,
    }


def test_retries_and_give_ups_are_counted_by_their_reason() -> None:
    metrics = made()
    limited = Failure(ErrorCode.RATE_LIMITED)
    metrics.decided("openai", Retry(limited, 500))
    metrics.decided("openai", GiveUp(limited, Reason.ATTEMPTS_EXHAUSTED))
    common = {"vendor": "openai", "code": "rate_limited"}
    assert scraped(metrics, "router_worker_retries_total") == {of(**common): 1}
    give_ups = scraped(metrics, "router_worker_give_ups_total")
    assert give_ups == {of(**common, reason="attempts_exhausted"): 1}


def test_a_clock_that_went_back_does_no_harm() -> None:
    metrics = made()
    metrics.ended(TaskEnd("native", "aws", "m", State.EXPIRED, -3.0))
    metrics.claimed(Queue.INTERACTIVE, -3.0)
    assert scraped(metrics, "router_worker_task_seconds_sum") == {
        of(kind="native", outcome="expired"): 0
    }
    waits = scraped(metrics, "router_worker_queue_wait_seconds_sum")
    assert waits == {of(queue="router.interactive"): 0}


def test_calls_in_flight_are_those_that_run_even_when_one_breaks() -> None:
    metrics = made()
    name = "router_worker_calls_in_flight"
    with metrics.calling(stream=True), metrics.calling(stream=True), metrics.calling(stream=False):
        assert scraped(metrics, name) == {of(mode="stream"): 2, of(mode="whole"): 1}
    with pytest.raises(OSError, match="cut"), metrics.calling(stream=True):
        raise OSError("cut")
    assert scraped(metrics, name) == {of(mode="stream"): 0, of(mode="whole"): 0}


def test_what_all_workers_know_is_told_by_the_one_that_was_elected() -> None:
    told: list[Fleet | None] = [None]
    metrics = Metrics(slots=1, models=("m",), prices={}, fleet=lambda: told[0], readings=dict)
    names = {
        "router_worker_queue_depth": {of(queue="router.batch"): 7},
        "router_worker_oldest_waiting_seconds": {of(queue="router.batch"): 2.5},
        "router_worker_dead_letters_waiting": {of(): 3},
        "router_worker_open_tasks": {of(): 9},
        "router_worker_tasks_total": {
            of(kind="native", vendor="aws", model="m", outcome="failed"): 4
        },
        "router_worker_dead_letters_total": {
            **{of(code=code): 0 for code in REPLAYABLE}, of(code="poison"): 4,
        },
    }  # fmt: skip
    assert [scraped(metrics, name) for name in names] == [{}] * len(names)
    told[0] = FLEET
    assert {name: scraped(metrics, name) for name in names} == names


def test_what_calls_cost_is_added_up_where_the_model_has_a_price() -> None:
    metrics = made()
    usage = Usage(provenance="reported", input_tokens=1000, cached_tokens=400, output_tokens=100)
    for model in ("priced", "priced", "free", None):
        metrics.called(call(usage=usage, model=model))
    metrics.called(call(usage=UNKNOWN, model="priced"))
    cost = scraped(metrics, "router_worker_cost_usd_total")
    assert cost == {
        of(vendor="auto", model="priced", provenance="reported"): pytest.approx(0.0052),
        of(vendor="auto", model="priced", provenance="unavailable"): 0,
    }


def test_a_counter_that_calls_somebody_is_there_before_it_has_counted() -> None:
    """From no sample to 1, Prometheus sees no increase."""
    metrics = made()
    deaths = scraped(metrics, "router_worker_redeliveries_total")
    assert deaths == {of(cause=cause): 0 for cause in ("worker", "doorbell", "timer")}
    parked = scraped(metrics, "router_worker_parked_messages_total")
    assert parked == {of(queue=queue): 0 for queue in Queue}


def test_the_number_of_slots_is_told() -> None:
    assert scraped(made(), "router_worker_slots") == {of(): 400}


#: Hypothesis draws words from our own modules too, vendors among them: those are labels.
UNLISTED = st.text().filter(lambda word: word not in {*VENDORS, *CELERY_TASKS, "listed"})


@given(vendor=UNLISTED, model=st.none() | UNLISTED)
def test_nothing_that_a_task_brings_becomes_a_label(vendor: str, model: str | None) -> None:
    metrics = made(models=("listed",))
    metrics.called(call(vendor=vendor, model=model))
    metrics.ended(TaskEnd(vendor, vendor, model, State.FAILED, 1.0))
    metrics.first_chunk(vendor, 0.1)
    metrics.decided(vendor, Retry(Failure(ErrorCode.TIMEOUT), 0))
    labels = {
        value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        for name, value in sample.labels.items()
        if name in ("kind", "vendor", "model")
    }
    assert labels == {"other"}


def test_as_many_models_and_vendors_as_one_likes_make_no_more_series() -> None:
    metrics = made(fleet=FLEET)
    everything_once(metrics)
    brought(metrics, "nobody's")
    before = len(metrics.exposition().splitlines())
    for number in range(100_000):
        brought(metrics, f"model {number}")
    assert len(metrics.exposition().splitlines()) == before


def brought(metrics: Metrics, word: str) -> None:
    """Count a task that brings this word wherever it may."""
    metrics.called(call(vendor=word, model=word))
    metrics.ended(TaskEnd(word, word, word, State.FAILED, 1.0))
    metrics.decided(word, Retry(FAILURE, 0))


@given(gaps=st.lists(st.sampled_from([*CHUNK_GAP.buckets]) | st.floats(0, 200)))
def test_gaps_fall_into_the_same_buckets_as_in_the_clients_own_histogram(gaps: list[float]) -> None:
    metrics, registry = made(), CollectorRegistry()
    theirs = Histogram(CHUNK_GAP.name, "x", buckets=CHUNK_GAP.buckets, registry=registry)
    meter = metrics.first_chunk("auto", 0.3)
    for gap in gaps:
        meter.next(gap, 1)
        theirs.observe(gap)
    (family,) = registry.collect()
    expected = {
        sample.labels["le"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_bucket")
    }
    buckets = scraped(metrics, f"{CHUNK_GAP.name}_bucket")
    assert {dict(labels)["le"]: value for labels, value in buckets.items()} == expected
    (total,) = scraped(metrics, f"{CHUNK_GAP.name}_sum").values()
    assert total == pytest.approx(sum(gaps))
    assert scraped(metrics, "router_worker_chunks_total") == {of(vendor="auto"): len(gaps) + 1}


def test_chunks_of_all_streams_of_a_vendor_add_up() -> None:
    metrics = made()
    one, other = metrics.first_chunk("auto", 0.3), metrics.first_chunk("auto", 0.4)
    one.next(0.1, 1)
    other.next(0.1, 3)
    metrics.first_chunk("mistral", 0.1)
    assert scraped(metrics, "router_worker_chunks_total") == {
        of(vendor="auto"): 6,
        of(vendor="mistral"): 1,
    }
    assert scraped(metrics, "router_worker_chunk_gap_seconds_count") == {
        of(vendor="auto"): 4,
        of(vendor="mistral"): 0,
    }
    assert scraped(metrics, "router_worker_first_chunk_seconds_count") == {
        of(vendor="auto"): 2,
        of(vendor="mistral"): 1,
    }


def test_scrapes_while_chunks_arrive_see_numbers_that_only_rise() -> None:
    metrics, chunks = made(), 100_000

    def stream() -> None:
        meter = metrics.first_chunk("auto", 0.1)
        for _ in range(chunks - 1):
            meter.next(0.02, 1)

    streaming = threading.Thread(target=stream)
    streaming.start()
    seen = [0.0]
    while streaming.is_alive():
        seen.extend(scraped(metrics, "router_worker_chunks_total").values())
    streaming.join()
    assert seen == sorted(seen)
    assert scraped(metrics, "router_worker_chunks_total") == {of(vendor="auto"): chunks}


def test_counting_a_chunk_costs_less_than_the_clients_own_way() -> None:
    """The best of ten rounds each, so that a busy machine harms neither."""
    registry = CollectorRegistry()
    histogram = Histogram("a", "a", buckets=CHUNK_GAP.buckets, registry=registry)
    counter, meter = Counter("b", "b", registry=registry), ChunkMeter()

    def theirs() -> None:
        histogram.observe(0.04)
        counter.inc()

    ours_s = min(timeit.repeat(lambda: meter.next(0.04, 1), number=2000, repeat=10))
    theirs_s = min(timeit.repeat(theirs, number=2000, repeat=10))
    assert ours_s < theirs_s / 2


def test_promtool_finds_nothing_to_complain_of() -> None:
    promtool = shutil.which("promtool")
    need(promtool, "promtool is not installed; Debian has it in the package prometheus")
    assert promtool is not None
    metrics = made(models=("m",), fleet=FLEET)
    everything_once(metrics)
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=metrics.exposition(),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_the_content_type_is_the_text_format() -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=")
