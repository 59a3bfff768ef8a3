"""What the pages of a worker, a Prometheus and a collector of traces say. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from worker.cli.doctor.finding import Finding, advice, bad, counted, good, listed
from worker.cli.terminal import one_line

T = TypeVar("T")

#: The alerts of deploy/prometheus/alerts.yml.
ALERTS: Final = (
    "RouterWorkerGone",
    "RouterWorkerTasksWait",
    "RouterWorkerNobodyCounts",
    "RouterWorkerRedisAway",
    "RouterWorkerUpstreamFails",
    "RouterWorkerKeyRefused",
    "RouterWorkerRateLimited",
    "RouterWorkerStreamsStall",
    "RouterWorkerTasksFail",
    "RouterWorkerDeadLetters",
    "RouterWorkerDeaths",
    "RouterWorkerStalls",
    "RouterWorkerHostileMessages",
    "RouterWorkerRefusesTasks",
)
#: What Prometheus is asked: which workers it reaches, and which versions they are.
UP: Final = 'up{job="router-worker"}'
VERSIONS: Final = "count by (version) (router_worker_build_info)"

#: How a worker's pages name their server (``worker.health``).
_OURS: Final = "router-worker"
_READY: Final = 200
#: Characters of what others say of what is wrong that are shown.
_SAID: Final = 200


@dataclass(frozen=True, slots=True)
class Page:
    """An answer over HTTP."""

    status: int
    server: str
    body: bytes


# --- a worker on this machine ---------------------------------------------------------------------


def check_port(place: str, answer: Page | str | None) -> Finding:
    """Say who answers to ``GET /readyz`` where a worker of these settings would.

    None: nobody listens; a text: nobody answers, and why.
    """
    check = "port"
    if answer is None:
        return good(check, f"{place} is free: no worker runs here with these settings")
    if isinstance(answer, str):
        says = f"{place} is open, and gives no answer: {answer}"
        return bad(check, says, "if it is a worker's, its process hangs: restart it")
    if _OURS not in answer.server:
        says = f"{place} is taken by another program"
        return bad(check, says, "set PORT to a free port, or to 0")
    if answer.status == _READY:
        return good(check, f"a worker answers on {place}, and is ready")
    says = f"the worker on {place} is not ready: {_unready(answer.body)}"
    return bad(check, says, "mend that; if it is leaving or has just begun, look again")


def _unready(body: bytes) -> str:
    """Read why a worker is not ready."""
    try:
        failed = dict(json.loads(body)["failed"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return "its page cannot be read"
    return _cut("; ".join(f"{name}: {why}" for name, why in failed.items()))


# --- Prometheus -----------------------------------------------------------------------------------


class Sample(msgspec.Struct, frozen=True):
    """A series as a query finds it: its labels, and a moment with a number."""

    metric: dict[str, str]
    value: tuple[float, str]


class Alert(msgspec.Struct, frozen=True):
    """An alert of a rule: firing or pending."""

    state: str
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class Rule(msgspec.Struct, frozen=True):
    """A rule that makes alerts."""

    name: str
    health: str = "unknown"
    last_error: str = msgspec.field(default="", name="lastError")
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    alerts: list[Alert] = msgspec.field(default_factory=list)


class _Vector(msgspec.Struct, frozen=True):
    result: list[Sample]


class _Found(msgspec.Struct, frozen=True):
    data: _Vector


class _Group(msgspec.Struct, frozen=True):
    rules: list[Rule]


class _Groups(msgspec.Struct, frozen=True):
    groups: list[_Group]


class _Rules(msgspec.Struct, frozen=True):
    data: _Groups


@dataclass(frozen=True, slots=True)
class Watcher:
    """What a Prometheus said; ``unreachable`` says why it did not."""

    place: str
    #: By instance: whether it answers.
    up: Mapping[str, bool] = field(default_factory=dict)
    versions: Sequence[str] = ()
    rules: Sequence[Rule] = ()
    unreachable: str = ""


def read_samples(page: Page) -> list[Sample]:
    """Read the answer to a query; ValueError where it is none."""
    return _read(page, _Found).data.result


def read_rules(page: Page) -> list[Rule]:
    """Read the answer for all rules of alerts; ValueError where it is none."""
    return [rule for group in _read(page, _Rules).data.groups for rule in group.rules]


def _read(page: Page, kind: type[T]) -> T:
    if page.status != _READY:
        message = f"it answers HTTP {page.status}"
        raise ValueError(message)
    try:
        return msgspec.json.decode(page.body, type=kind)
    except (msgspec.DecodeError, RecursionError):
        message = "its answer is no Prometheus's"
        raise ValueError(message) from None


def check_prometheus(watcher: Watcher, living: int | None) -> Iterator[Finding]:
    """Check whether Prometheus sees every worker, and what its alerts say.

    ``living`` is how many workers have signed the roll lately; None where that is not known.
    """
    check = "prometheus"
    if watcher.unreachable:
        says = f"{watcher.place}: {watcher.unreachable}"
        yield bad(check, says, "look at --prometheus, and at its log")
        return
    yield from _targets(watcher, living)
    if len(watcher.versions) > 1:
        says = f"workers run {listed(sorted(map(_cut, watcher.versions)))} side by side"
        yield advice("versions", says, "right while they are replaced; else restart the old ones")
    yield _rules(watcher)
    yield from _firing(watcher)


def _targets(watcher: Watcher, living: int | None) -> Iterator[Finding]:
    check, names = "prometheus", sorted(map(_cut, watcher.up))
    down = sorted(_cut(name) for name, is_up in watcher.up.items() if not is_up)
    if not names:
        says = f"{watcher.place} scrapes no job router-worker"
        remedy = "scrape the workers under that name: deploy/prometheus/prometheus.yml"
        yield bad(check, says, remedy)
        return
    if down:
        says = f"{len(down)} of {len(names)} workers do not answer it: {listed(down)}"
        remedy = "deploy/README.md#routerworkergone; if they are no more, take them off its targets"
        yield bad(check, says, remedy)
    else:
        who = counted(len(names), "worker")
        yield good(check, f"{watcher.place} scrapes {who}: {listed(names)}")
    if living is not None and living > len(names) - len(down):
        says = f"it reaches {len(names) - len(down)} of {living} workers that live"
        yield advice(check, says, "let it find the others too, each process by its own PORT")


def _rules(watcher: Watcher) -> Finding:
    check = "alert rules"
    loaded = {rule.name for rule in watcher.rules}
    lacking = [name for name in ALERTS if name not in loaded]
    broken = [rule for rule in watcher.rules if rule.name in ALERTS and rule.health == "err"]
    load = "load deploy/prometheus/alerts.yml by rule_files"
    if len(lacking) == len(ALERTS):
        return bad(check, "none of ours is loaded: nobody is called when something breaks", load)
    if broken:
        says = f"{broken[0].name} cannot be evaluated: {_cut(broken[0].last_error)}"
        return bad(check, says, "look at the rule, and at Prometheus's log")
    if lacking:
        return advice(check, f"{len(lacking)} are not loaded: {listed(lacking)}", load)
    return good(check, f"all {len(ALERTS)} are loaded")


def _firing(watcher: Watcher) -> Iterator[Finding]:
    """Tell of each alert of ours that fires, once however many series it fires for."""
    check, silent = "alerts", True
    for rule in watcher.rules:
        firing = [alert for alert in rule.alerts if alert.state == "firing"]
        if rule.name not in ALERTS or not firing:
            continue
        silent = False
        times = f" ({len(firing)} times)" if len(firing) > 1 else ""
        says = f"{rule.name} fires{times}: {_cut(firing[0].annotations.get('summary', ''))}"
        remedy = _cut(rule.annotations.get("runbook_url", "deploy/README.md"))
        tell = bad if rule.labels.get("severity") == "page" else advice
        yield tell(check, says, remedy)
    if silent and watcher.rules:
        yield good(check, "none of ours fires")


# --- traces ---------------------------------------------------------------------------------------


def check_traces(trouble: str | None) -> Finding:
    """Say whether a collector takes spans; ``trouble`` is what it, or our side, has against it."""
    check = "traces"
    if trouble is None:
        return good(check, "the collector takes spans")
    remedy = "look at OTEL_EXPORTER_OTLP_…, or turn traces off: OTEL_TRACES_EXPORTER=none"
    return bad(check, f"they are wanted, and lost: {_cut(trouble)}", remedy)


def _cut(text: str) -> str:
    return one_line(text)[:_SAID]
