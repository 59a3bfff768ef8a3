"""What is measured: a table of metrics, and the records of what happened that they are fed with.

:data:`METRICS` is the whole list: every metric is built from its row, and so is the README's
table. Labels are closed lists, never what a task brings: a vendor or a model that nobody listed is
``other``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Literal

from api_contracts.names import State
from api_contracts.results import Usage
from worker.protocols.base import ProtocolName

#: Vendors that the router documents, and its own choice. Any other is counted as :data:`OTHER`.
VENDORS: Final = frozenset({
    "auto", "anthropic", "aws", "azure", "deepseek", "google", "mistral", "openai", "volcengine",
    "x",
})  # fmt: skip
#: Kinds of task. What could not be read has none, and is counted as :data:`OTHER`.
KINDS: Final = frozenset({"chat", "vision", "native"})
#: Label of a vendor that is not documented, and of a model that is not in ROUTER_WORKER_MODELS.
OTHER: Final = "other"
#: What was lost with a task that is rung for, by the task's state.
CAUSES: Final = {
    State.RUNNING: "worker",
    State.QUEUED: "doorbell",
    State.RETRYING: "timer",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: what it says, and what an operator does with it."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    use: str
    buckets: tuple[float, ...] = ()


TASKS: Final = Row(
    "router_worker_tasks_total", "counter", ("kind", "vendor", "model", "outcome"),
    "Tasks that ended, by outcome: completed, failed, cancelled or expired. Told by one worker for "
    "all, and exact. Vendor and model of one that was cancelled before it ran are other.",
    "The share of failed ones is what producers feel.",
)  # fmt: skip
TASK_SECONDS: Final = Row(
    "router_worker_task_seconds", "histogram", ("kind", "outcome"),
    "From enqueue to ending, with all waits and attempts.",
    "Under 5 s a person waits, under 60 s a web request lives, 600 s is one call's longest, "
    "3600 s a batch's patience.",
    (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
)  # fmt: skip
QUEUE_WAIT: Final = Row(
    "router_worker_queue_wait_seconds", "histogram", ("queue",),
    "From the moment a task was due to its claim.",
    "Above 0.05 s no slot was free; above 1 s add workers; at 30 s the reaper had to ring again; "
    "above that a batch has piled up.",
    (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)  # fmt: skip
QUEUE_DEPTH: Final = Row(
    "router_worker_queue_depth", "gauge", ("queue",),
    "Doorbells that wait in a queue. Told by one worker for all; absent while Redis or RabbitMQ is "
    "away.",
    "How much work is ahead; how late it is, tells the age of the oldest.",
)  # fmt: skip
OLDEST: Final = Row(
    "router_worker_oldest_waiting_seconds", "gauge", ("queue",),
    "How long ago the doorbell was rung that waits longest in a queue, 0 where none does. Told by "
    "one worker for all; absent where a foreign message is the oldest, and on RabbitMQ.",
    "Scale on it: above 1 s a person waits for a slot.",
)  # fmt: skip
OPEN_TASKS: Final = Row(
    "router_worker_open_tasks", "gauge", (),
    "Tasks that are not over: they wait, run, or will be tried again. Told by one worker for all.",
    "Rises without end where more comes in than goes out.",
)  # fmt: skip
DEAD_WAITING: Final = Row(
    "router_worker_dead_letters_waiting", "gauge", (),
    "Dead letters that nobody has replayed or dropped. Told by one worker for all.",
    "Above 0, look: router-worker dead list.",
)  # fmt: skip
DROPPED: Final = Row(
    "router_worker_doorbells_dropped_total", "counter", ("reason",),
    "Doorbells that led to no attempt: the task was held by a worker, had ended, was due later "
    "(early), has no record (missing), had expired, or was spoilt by another program.",
    "Duplicates that cost nothing. held and ended rise after each reaping; missing asks who "
    "deletes records.",
)  # fmt: skip
RETRY_DELAY: Final = Row(
    "router_worker_retry_delay_seconds", "histogram", ("vendor",),
    "How long a failed call waits for the next one.",
    "Under 1 s is the first back-off; 60 s is the cap, or what a provider's rate limit asked for.",
    (0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 900),
)  # fmt: skip
CONNECTIONS: Final = Row(
    "router_worker_upstream_connections", "gauge", ("state",),
    "Connections to the router: used by a call, or idle and kept for the next.",
    "used follows the calls in flight; idle ones that stay at 0 mean that each call pays for TLS.",
)  # fmt: skip
BUILD: Final = Row(
    "router_worker_build_info", "gauge", ("version", "python", "celery"),
    "Always 1; its labels say what runs.",
    "Join it to see which version a change came with.",
)  # fmt: skip
SLOTS: Final = Row(
    "router_worker_slots", "gauge", (),
    "Tasks that this process takes at once (ROUTER_WORKER_CONCURRENCY).",
    "Calls in flight over slots is how full the worker is.",
)  # fmt: skip
IN_FLIGHT: Final = Row(
    "router_worker_calls_in_flight", "gauge", ("mode",),
    "Calls to the router that run now: streams, or whole answers.",
    "At the number of slots, tasks begin to wait.",
)  # fmt: skip
CALLS: Final = Row(
    "router_worker_calls_total", "counter", ("vendor", "protocol", "status_class"),
    "Calls to the router, by the answer's status: 2xx, 3xx, 4xx, 429, 5xx; none where none came, "
    "stopped where nobody waited for one any more.",
    "429 asks for a higher limit or fewer workers, 4xx for better requests, 5xx and none for "
    "another vendor.",
)  # fmt: skip
ATTEMPT_SECONDS: Final = Row(
    "router_worker_attempt_seconds", "histogram", ("vendor", "outcome"),
    "From sending a call to its end: completed, failed, or stopped (cancelled, handed back, "
    "another worker's, or Redis takes no events).",
    "Under 1 s is an error or a very short answer, 5–30 s a usual one; 600 s is the time-out by "
    "default.",
    (0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600),
)  # fmt: skip
FIRST_CHUNK: Final = Row(
    "router_worker_first_chunk_seconds", "histogram", ("vendor",),
    "From sending a streamed call to its first chunk.",
    "What a person feels first: 0.25–2 s is a usual chat, up to 60 s a model that reasons, 120 s "
    "the time-out by default.",
    (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60, 120),
)  # fmt: skip
CHUNK_GAP: Final = Row(
    "router_worker_chunk_gap_seconds", "histogram", ("vendor",),
    "Between two chunks of a stream.",
    "0.01–0.1 s is a usual pace of tokens; above 0.25 s a reader sees it stutter; above 15 s "
    "a stream is nearly dead: 60 s is the time-out by default.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 30, 60),
)  # fmt: skip
CHUNKS: Final = Row(
    "router_worker_chunks_total", "counter", ("vendor",),
    "Chunks of streamed answers, as they came.",
    "The load on worker and Redis; falling to 0 with streams in flight, a vendor stalls.",
)  # fmt: skip
TOKENS: Final = Row(
    "router_worker_tokens_total", "counter", ("vendor", "model", "type", "provenance"),
    "Tokens of all calls: input, output, cached (a part of input), reasoning (a part of output); "
    "reported by the provider, or estimated.",
    "What the bill is made of. Add input and output only, since the other two are parts of them.",
)  # fmt: skip
COST: Final = Row(
    "router_worker_cost_usd_total", "counter", ("vendor", "model", "provenance"),
    "What calls of the models in ROUTER_WORKER_PRICES cost, in US dollars; of tokens that the "
    "provider reported, or that were estimated.",
    "Its rate is the bill. Models without a price are missing in it.",
)  # fmt: skip
RETRIES: Final = Row(
    "router_worker_retries_total", "counter", ("vendor", "code"),
    "Failed calls after which another was planned, by error code.",
    "Rises before tasks fail: the earliest sign of trouble upstream.",
)  # fmt: skip
GIVE_UPS: Final = Row(
    "router_worker_give_ups_total", "counter", ("vendor", "code", "reason"),
    "Failed calls after which no other was planned: not_retryable, attempts_exhausted, deadline.",
    "attempts_exhausted asks for more patience, deadline for an earlier start, not_retryable for "
    "a look at the request or the key.",
)  # fmt: skip

PARKED: Final = Row(
    "router_worker_parked_messages_total", "counter", ("queue",),
    "Messages on a queue that were none, and were put aside as dead letters.",
    "Above 0, some producer is broken or hostile: look at the dead letters.",
)  # fmt: skip

#: Why tasks are not obeyed: words of signatures, and of encryption.
REFUSALS: Final = ("unsigned", "unknown", "forged", "old", "plain", "altered", "no_key")
REFUSED: Final = Row(
    "router_worker_refused_tasks_total", "counter", ("reason",),
    "Tasks that were not obeyed: not signed (unsigned), or not by a known producer (unknown), or "
    "not as they are (forged), or long ago (old); not encrypted (plain), not as they are (altered) "
    "or with a key that is not here (no_key).",
    "Above 0, somebody else writes to Redis, or a key is missing: no_key and unknown ask for that.",
)  # fmt: skip

LEASES_LOST: Final = Row(
    "router_worker_leases_lost_total", "counter", (),
    "Attempts that were stopped because another worker had the task by then.",
    "Each is a call paid for twice: a worker stood still for longer than a lease "
    "(ROUTER_WORKER_LEASE_S).",
)  # fmt: skip
FENCED: Final = Row(
    "router_worker_fenced_writes_total", "counter", (),
    "Events and endings that Redis refused, since the attempt was another's or cancelled.",
    "The fence at work: nothing of them was seen by anybody.",
)  # fmt: skip
REDELIVERIES: Final = Row(
    "router_worker_redeliveries_total", "counter", ("cause",),
    "Doorbells that the reaper rang: for a worker that died, a doorbell that was lost, or the "
    "timer of a retry that died with its worker.",
    "worker: look for crashes and kills; doorbell: for a broker that loses messages.",
)  # fmt: skip
HANDED_BACK: Final = Row(
    "router_worker_handed_back_total", "counter", (),
    "Attempts that a worker gave up because it was told to end.",
    "Each is a call paid for twice: above a few per deployment, raise ROUTER_WORKER_DRAIN_S.",
)  # fmt: skip
DEAD_LETTERS: Final = Row(
    "router_worker_dead_letters_total", "counter", ("code",),
    "Tasks that failed and were kept for an operator, by error code. Told by one worker for all.",
    "Mend what failed them, then: router-worker dead replay.",
)  # fmt: skip
BUFFERED: Final = Row(
    "router_worker_buffered_bytes", "gauge", (),
    "Events that wait for Redis.",
    "Above a few KiB, Redis is away or too slow; at 64 MiB attempts fail.",
)  # fmt: skip
ROUND_TRIPS: Final = Row(
    "router_worker_redis_round_trips_total", "counter", (),
    "Pipelines that Redis has answered.",
    "Divided by chunks, how well round trips are shared.",
)  # fmt: skip

#: All metrics, in the order of the README's table.
METRICS: Final = (
    TASKS, TASK_SECONDS, OPEN_TASKS, QUEUE_WAIT, QUEUE_DEPTH, OLDEST, SLOTS, IN_FLIGHT, CALLS,
    CONNECTIONS, ATTEMPT_SECONDS, FIRST_CHUNK, CHUNK_GAP, CHUNKS, TOKENS, COST, RETRIES,
    RETRY_DELAY, GIVE_UPS, DEAD_LETTERS, DEAD_WAITING, PARKED, REFUSED, LEASES_LOST, FENCED,
    REDELIVERIES, DROPPED, HANDED_BACK, BUFFERED, ROUND_TRIPS, BUILD,
)  # fmt: skip


def version_of(package: str) -> str:
    """Tell which version of a package runs; ``unknown`` where it was not installed as one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def kind_label(kind: str) -> str:
    """Return the label of a kind of task."""
    return kind if kind in KINDS else OTHER


def vendor_label(vendor: str) -> str:
    """Return the label of a vendor."""
    return vendor if vendor in VENDORS else OTHER


def model_label(model: str | None, listed: Collection[str]) -> str:
    """Return the label of a model, given those that have one."""
    return model if model is not None and model in listed else OTHER


@dataclass(frozen=True, slots=True)
class Fleet:
    """What all workers would tell alike, and one tells."""

    #: Doorbells that wait, and how long the oldest has in seconds, by queue, as far as known.
    depths: Mapping[str, int]
    ages: Mapping[str, float]
    dead_letters: int
    open_tasks: int
    #: What the scripts have counted: the fields of the hash, as they are.
    tally: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True, slots=True)
class CallEnd:
    """One call to the router, as it went: `stopped` where the attempt was to go on no more."""

    vendor: str
    model: str | None
    protocol: ProtocolName
    status: int | None
    outcome: Literal["completed", "failed", "stopped"]
    seconds: float
    usage: Usage


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """A task that ended, as it went. ``outcome`` is the state that it ended in.

    ``seconds`` is None for one that nobody claimed.
    """

    kind: str
    vendor: str
    model: str | None
    outcome: State
    seconds: float | None
