"""Counts what happened, for Prometheus. The only importer of prometheus_client.

Methods are named for what happened; what each metric means stands in ``worker.telemetry``.

Chunks are counted in plain numbers and turned into samples when somebody scrapes: 0.2 µs a chunk,
where a bound histogram and counter of prometheus_client cost 1.1 µs, and more when a scrape holds
their locks.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from api_contracts.names import Queue
from worker.outcome import REPLAYABLE
from worker.prices import Price
from worker.retry import GiveUp, Retry
from worker.tally import Tally
from worker.telemetry import (
    ATTEMPT_SECONDS,
    BUILD,
    CALLS,
    CAUSES,
    CHUNK_GAP,
    CHUNKS,
    COST,
    DEAD_LETTERS,
    DEAD_WAITING,
    DROPPED,
    FIRST_CHUNK,
    GIVE_UPS,
    HANDED_BACK,
    IN_FLIGHT,
    LEASES_LOST,
    OLDEST,
    OPEN_TASKS,
    PARKED,
    QUEUE_DEPTH,
    QUEUE_WAIT,
    REDELIVERIES,
    REFUSALS,
    REFUSED,
    RETRIES,
    RETRY_DELAY,
    SLOTS,
    TASK_SECONDS,
    TOKENS,
    CallEnd,
    Fleet,
    Row,
    TaskEnd,
    kind_label,
    model_label,
    vendor_label,
    version_of,
)

#: Values of counters and gauges, by label where a metric has one.
Readings = Mapping[Row, float | Mapping[str, float]]

#: Content type of :meth:`Metrics.exposition`.
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_TOO_MANY_REQUESTS: Final = 429
#: What is told before Redis has counted any: from no sample to 1, Prometheus sees no increase, and
#: the first refused key would call nobody.
_FROM_0: Final[Mapping[Row, Mapping[tuple[str, ...], int]]] = {
    DEAD_LETTERS: {(code,): 0 for code in sorted(REPLAYABLE)}
}


class ChunkMeter:
    """Counts the chunks of one vendor's streams. Only one thread writes; any may read.

    A reader may see the last chunks, and not yet their gaps, or these not yet in ``seconds``.
    """

    __slots__ = ("chunks", "gaps", "seconds")

    def __init__(self) -> None:
        """Begin at 0."""
        self.chunks = 0
        self.gaps = [0] * (len(CHUNK_GAP.buckets) + 1)
        self.seconds = 0.0

    def first(self) -> None:
        """Count a stream's first chunk, before which there is no gap."""
        self.chunks += 1

    def next(self, gap_s: float, chunks: int) -> None:
        """Count chunks that came together, so many seconds after the one before."""
        self.chunks += chunks
        self.gaps[0] += chunks - 1
        self.gaps[bisect_left(CHUNK_GAP.buckets, gap_s)] += 1
        self.seconds += gap_s


class _Counted(Collector):
    """Metrics whose numbers are kept elsewhere and read at a scrape."""

    def __init__(
        self,
        meters: Mapping[str, ChunkMeter],
        fleet: Callable[[], Fleet | None],
        readings: Callable[[], Readings],
        tally: Tally,
    ) -> None:
        self._meters = meters
        self._fleet = fleet
        self._tally = tally
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        chunks = CounterMetricFamily(CHUNKS.name, CHUNKS.meaning, labels=CHUNKS.labels)
        gaps = HistogramMetricFamily(CHUNK_GAP.name, CHUNK_GAP.meaning, labels=CHUNK_GAP.labels)
        bounds = [*(str(float(bound)) for bound in CHUNK_GAP.buckets), "+Inf"]
        for vendor, meter in list(self._meters.items()):
            chunks.add_metric([vendor], meter.chunks)
            totals = accumulate(meter.gaps)
            gaps.add_metric([vendor], list(zip(bounds, totals, strict=True)), meter.seconds)
        yield from (chunks, gaps)
        for row, reading in self._readings().items():
            yield _family(row, _by_labels(reading))
        fleet = self._fleet()
        if fleet is not None:
            yield from _told(fleet, self._tally)


def _told(fleet: Fleet, tally: Tally) -> Iterator[Metric]:
    """Write what this process tells of the fleet."""
    known: Readings = {
        QUEUE_DEPTH: fleet.depths,
        OLDEST: fleet.ages,
        DEAD_WAITING: fleet.dead_letters,
        OPEN_TASKS: fleet.open_tasks,
    }
    for row, reading in known.items():
        yield _family(row, _by_labels(reading))
    for row, counts in tally.read(fleet.tally).items():
        yield _family(row, {**_FROM_0.get(row, {}), **counts})


def _by_labels(reading: float | Mapping[str, float]) -> Mapping[tuple[str, ...], float]:
    """Give a reading the form of a metric with any number of labels."""
    if isinstance(reading, Mapping):
        return {(label,): value for label, value in reading.items()}
    return {(): reading}


def _family(row: Row, values: Mapping[tuple[str, ...], float]) -> Metric:
    """Write a counter or a gauge whose values are kept elsewhere."""
    family = (CounterMetricFamily if row.type == "counter" else GaugeMetricFamily)(
        row.name, row.meaning, labels=row.labels
    )
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(
        self,
        *,
        slots: int,
        models: Collection[str],
        prices: Mapping[str, Price],
        fleet: Callable[[], Fleet | None],
        readings: Callable[[], Readings],
    ) -> None:
        """Build every metric.

        ``models`` are those with a label of their own; so are those with a price. ``fleet`` and
        ``readings`` are asked at every scrape, in the scrape's thread: what this process tells for
        all, if it is the one, and numbers that are kept elsewhere, at once, and never raise.
        """
        # They would be a third of all series, and nothing here needs them.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._models = frozenset(models) | prices.keys()
        #: Counts what is counted in Redis, under the same labels.
        self.tally = Tally(self._models)
        self._prices = prices
        self._meters: dict[str, ChunkMeter] = {}
        self._task_seconds = self._histogram(TASK_SECONDS)
        self._queue_wait = self._histogram(QUEUE_WAIT)
        self._calls = self._counter(CALLS)
        self._attempt_seconds = self._histogram(ATTEMPT_SECONDS)
        self._first_chunk = self._histogram(FIRST_CHUNK)
        self._retries = self._counter(RETRIES)
        self._give_ups = self._counter(GIVE_UPS)
        self._handed_back = self._counter(HANDED_BACK)
        self._tokens = self._counter(TOKENS)
        self._cost = self._counter(COST)
        self._parked = self._counter(PARKED)
        self._refused = self._counter(REFUSED)
        in_flight = self._gauge(IN_FLIGHT)
        self._streams, self._whole = in_flight.labels("stream"), in_flight.labels("whole")
        self._gauge(SLOTS).set(slots)
        self._leases_lost = self._counter(LEASES_LOST)
        self._redeliveries = self._counter(REDELIVERIES)
        self._dropped = self._counter(DROPPED)
        self._retry_delay = self._histogram(RETRY_DELAY)
        self._gauge(BUILD).labels(*_build()).set(1)
        # As with _FROM_0: an alert looks at these.
        for cause in CAUSES.values():
            self._redeliveries.labels(cause)
        for queue in Queue:
            self._parked.labels(queue)
        for reason in REFUSALS:
            self._refused.labels(reason)
        self._registry.register(_Counted(self._meters, fleet, readings, self.tally))
        ProcessCollector(registry=self._registry)

    def claimed(self, queue: Queue, waited_s: float) -> None:
        """Count a claim: the task had been due for so many seconds."""
        self._queue_wait.labels(queue).observe(max(0.0, waited_s))

    def calling(self, *, stream: bool) -> AbstractContextManager[object]:
        """Count a call as in flight for as long as the context lasts."""
        return (self._streams if stream else self._whole).track_inprogress()

    def first_chunk(self, vendor: str, waited_s: float) -> ChunkMeter:
        """Count a stream's first chunk; return what the rest of its chunks are counted with.

        Call this and the meter from one thread only, the loop's.
        """
        vendor = vendor_label(vendor)
        self._first_chunk.labels(vendor).observe(waited_s)
        meter = self._meters.setdefault(vendor, ChunkMeter())
        meter.first()
        return meter

    def called(self, call: CallEnd) -> None:
        """Count a call that has ended, and its tokens as far as they are known."""
        vendor = vendor_label(call.vendor)
        self._calls.labels(vendor, call.protocol, _status_class(call)).inc()
        self._attempt_seconds.labels(vendor, call.outcome).observe(call.seconds)
        usage, model = call.usage, model_label(call.model, self._models)
        for kind, tokens in (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached", usage.cached_tokens),
            ("reasoning", usage.reasoning_tokens),
        ):
            if tokens:
                self._tokens.labels(vendor, model, kind, usage.provenance).inc(tokens)
        if price := self._prices.get(model):
            self._cost.labels(vendor, model, usage.provenance).inc(price.cost(usage))

    def decided(self, vendor: str, decision: Retry | GiveUp) -> None:
        """Count what follows a failed call."""
        code, vendor = decision.failure.code, vendor_label(vendor)
        if isinstance(decision, Retry):
            self._retries.labels(vendor, code).inc()
            self._retry_delay.labels(vendor).observe(decision.delay_ms / 1000)
        else:
            self._give_ups.labels(vendor, code, decision.reason).inc()

    def ended(self, task: TaskEnd) -> None:
        """Note how long a task took that has ended."""
        if task.seconds is not None:
            seconds = self._task_seconds.labels(kind_label(task.kind), task.outcome)
            seconds.observe(max(0.0, task.seconds))

    def parked(self, queue: str) -> None:
        """Count a message that was none; ``queue`` is one that we consume."""
        self._parked.labels(queue).inc()

    def refused(self, reason: str) -> None:
        """Count a task that was not obeyed."""
        self._refused.labels(reason).inc()

    def lease_lost(self) -> None:
        """Count an attempt that had become another worker's."""
        self._leases_lost.inc()

    def redelivered(self, cause: str) -> None:
        """Count a doorbell that the reaper rang."""
        self._redeliveries.labels(cause).inc()

    def dropped(self, reason: str) -> None:
        """Count a doorbell that led to no attempt."""
        self._dropped.labels(reason).inc()

    def handed_back(self) -> None:
        """Count an attempt that was left to another worker."""
        self._handed_back.inc()

    def exposition(self) -> bytes:
        """Write all metrics as a scrape wants them, in :data:`CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def _counter(self, row: Row) -> Counter:
        return Counter(row.name, row.meaning, row.labels, registry=self._registry)

    def _gauge(self, row: Row) -> Gauge:
        return Gauge(row.name, row.meaning, row.labels, registry=self._registry)

    def _histogram(self, row: Row) -> Histogram:
        return Histogram(
            row.name, row.meaning, row.labels, buckets=row.buckets, registry=self._registry
        )


def _build() -> tuple[str, ...]:
    """Tell which version of what runs."""
    return version_of("router-worker"), platform.python_version(), version_of("celery")


def _status_class(call: CallEnd) -> str:
    """Group a status: 429 stands alone, since what helps against it is another matter.

    A call that was stopped before its answer came is no failure of whoever was called.
    """
    if call.status is None:
        return "stopped" if call.outcome == "stopped" else "none"
    return "429" if call.status == _TOO_MANY_REQUESTS else f"{call.status // 100}xx"
