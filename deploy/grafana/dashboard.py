"""The Grafana dashboard as code: what an operator asks, in rows, and the panels that answer.

`make dashboard` writes ``dashboards/router-worker.json`` from it. Tests hold the two together, and
ask every query of a real Prometheus that scrapes real workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

FILE: Final = Path(__file__).with_name("dashboards") / "router-worker.json"

Panel = stat.Panel | statetimeline.Panel | timeseries.Panel
#: PromQL by its legend.
Queries = Mapping[str, str]
#: Colours by the value from which on they hold, beside green below all of them.
Limits = Mapping[float, str]

_DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="$datasource")
_GREEN, _YELLOW, _RED = "green", "yellow", "red"
#: Columns of the whole width, and of panels in rows of six, three and two.
_ALL, _SIXTH, _THIRD = 24, 4, 8


def _increase(metric: str, by: str = "") -> str:
    group = f" by ({by})" if by else ""
    return f"sum{group} (increase({metric}[$__rate_interval]))"


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def _quantile(share: float, metric: str, by: str, where: str = "") -> str:
    buckets = f"router_worker_{metric}_bucket{where}"
    return f"histogram_quantile({share}, {_rate(buckets, f'le, {by}')})"


def _limits(limits: Limits, below: str = _GREEN) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color=below)]
    steps += [Threshold(value=value, color=color) for value, color in limits.items()]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _targets(queries: Queries, *, instant: bool = False) -> list[prometheus.Dataquery]:
    targets = [
        prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + number))
        for number, (legend, expr) in enumerate(queries.items())
    ]
    return [one.instant() if instant else one for one in targets]


def _stat(  # noqa: PLR0913, PLR0917 - each is a field of the panel
    title: str, meaning: str, unit: str, queries: Queries, limits: Limits, below: str = _GREEN
) -> stat.Panel:
    """Show a number as it is now; its colour says whether it is well."""
    panel = (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(_DATASOURCE)
        .unit(unit)
        .no_value("none")
        .thresholds(_limits(limits, below))
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common.BigValueGraphMode.NONE)
        .span(_SIXTH)
        .height(4)
    )
    for target in _targets(queries, instant=True):
        panel.with_target(target)
    return panel


def _lines(
    title: str, meaning: str, unit: str, queries: Queries, limits: Limits | None = None
) -> timeseries.Panel:
    """Show numbers over time; ``limits`` are drawn as lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(_DATASOURCE)
        .unit(unit)
        .min(0)
        .fill_opacity(10)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(
            VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .span(_THIRD)
        .height(8)
    )
    if limits is not None:
        panel.thresholds(_limits(limits)).thresholds_style(
            GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    for target in _targets(queries):
        panel.with_target(target)
    return panel


def _states(title: str, meaning: str, queries: Queries) -> statetimeline.Panel:
    """Show what is so, and since when: red while its value is 1."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(meaning)
        .datasource(_DATASOURCE)
        .no_value("none")
        .thresholds(_limits({1: _RED}))
        .show_value(common.VisibilityMode.NEVER)
        .span(_ALL)
        .height(5)
    )
    for target in _targets(queries):
        panel.with_target(target)
    return panel


def _working() -> list[Panel]:
    """Say whether it is working."""
    ended = "sum(increase(router_worker_tasks_total[10m]))"
    failed = 'sum(increase(router_worker_tasks_total{outcome="failed"}[10m]))'
    return [
        _states(
            "Alerts that fire",
            "Each has a section of its name in deploy/README.md: what to look at first, and what "
            "mends it. Empty where all is well.",
            {
                "{{alertname}}": "max by (alertname) "
                '(ALERTS{alertname=~"RouterWorker.+", alertstate="firing"})'
            },
        ),
        _stat(
            "Workers",
            "Processes that answer Prometheus.",
            "none",
            {"answer": 'sum(up{job="router-worker"})'},
            {1: _GREEN},
            below=_RED,
        ),
        _stat(
            "Workers that are gone",
            "Processes that Prometheus is to scrape, and that do not answer. Their tasks are "
            "others' within 30 s.",
            "none",
            {"gone": 'count(up{job="router-worker"} == 0) or vector(0)'},
            {1: _RED},
        ),
        _stat(
            "Oldest waiting",
            "How long ago the doorbell was rung that waits longest. Above 1 s a person waits for a "
            "slot; for interactive tasks somebody is called above 10 s.",
            "s",
            {"{{queue}}": "max by (queue) (router_worker_oldest_waiting_seconds)"},
            {1: _YELLOW, 10: _RED},
        ),
        _stat(
            "Slots in use",
            "Calls in flight over slots. At 100 % tasks begin to wait: start more workers.",
            "percentunit",
            {"used": "sum(router_worker_calls_in_flight) / sum(router_worker_slots)"},
            {0.8: _YELLOW, 1: _RED},
        ),
        _stat(
            "Tasks that fail",
            "Of all that ended in the last ten minutes: what producers feel.",
            "percentunit",
            {"failed": f"({failed} or vector(0)) / {ended}"},
            {0.01: _YELLOW, 0.05: _RED},
        ),
        _stat(
            "Dead letters",
            "Tasks that wait for a decision: router-worker dead list.",
            "none",
            {"waiting": "max(router_worker_dead_letters_waiting)"},
            {1: _YELLOW},
        ),
        _lines(
            "Tasks that end",
            "By outcome.",
            "ops",
            {"{{outcome}}": _rate("router_worker_tasks_total", "outcome")},
        ),
        _lines(
            "Work ahead",
            "Doorbells that wait in each queue, and tasks that are not over: they wait, run, or "
            "will be tried again. Rises without end where more comes in than goes out.",
            "none",
            {
                "waits in {{queue}}": "max by (queue) (router_worker_queue_depth)",
                "not over": "max(router_worker_open_tasks)",
            },
        ),
        _lines(
            "Events that wait for Redis",
            "Above a few KiB, Redis is away, full or too slow; at 64 MiB attempts fail.",
            "bytes",
            {"{{instance}}": "router_worker_buffered_bytes"},
            {65536: _RED},
        ),
    ]


def _slow() -> list[Panel]:
    """Say what is slow."""
    completed = '{outcome="completed"}'
    return [
        _lines(
            "From enqueue to ending",
            "Completed tasks, with all waits and attempts: half of them, and 19 of 20, are "
            "quicker.",
            "s",
            {
                "{{kind}} p50": _quantile(0.5, "task_seconds", "kind", completed),
                "{{kind}} p95": _quantile(0.95, "task_seconds", "kind", completed),
            },
        ),
        _lines(
            "Wait for a slot",
            "From the moment a task was due to its claim; nine of ten are quicker. Above 50 ms no "
            "slot was free; above 1 s add workers.",
            "s",
            {"{{queue}} p90": _quantile(0.9, "queue_wait_seconds", "queue")},
            {1: _YELLOW, 10: _RED},
        ),
        _lines(
            "First chunk",
            "From sending a streamed call to its first chunk: what a person feels first.",
            "s",
            {
                "{{vendor}} p50": _quantile(0.5, "first_chunk_seconds", "vendor"),
                "{{vendor}} p95": _quantile(0.95, "first_chunk_seconds", "vendor"),
            },
        ),
        _lines(
            "Between two chunks",
            "19 of 20 gaps are shorter. Above a quarter of a second a reader sees the text "
            "stutter.",
            "s",
            {"{{vendor}} p95": _quantile(0.95, "chunk_gap_seconds", "vendor")},
            {0.25: _YELLOW},
        ),
        _lines(
            "Calls to the router",
            "From sending a call to its end, of those that completed; 19 of 20 are quicker.",
            "s",
            {"{{vendor}} p95": _quantile(0.95, "attempt_seconds", "vendor", completed)},
        ),
        _lines(
            "Calls in flight",
            "Streams and whole answers that run now, and the slots that there are.",
            "none",
            {
                "{{mode}}": "sum by (mode) (router_worker_calls_in_flight)",
                "slots": "sum(router_worker_slots)",
            },
        ),
    ]


def _failing() -> list[Panel]:
    """Say who is failing."""
    calls = "router_worker_calls_total"
    every = _rate(calls, "vendor")
    bad = _rate(f'{calls}{{status_class!~"2xx|stopped"}}', "vendor")
    return [
        _lines(
            "Calls, by answer",
            "The class of the answer's status; none where no answer came, stopped where nobody "
            "waited for one any more. 429 asks for a higher limit or fewer workers, 4xx for better "
            "requests, 5xx and none for another vendor.",
            "ops",
            {"{{status_class}}": _rate(calls, "status_class")},
        ),
        _lines(
            "Calls that fail, of a vendor's",
            "Whatever the answer's status was, but a success. Those that were stopped are none.",
            "percentunit",
            {"{{vendor}}": f"({bad} or 0 * {every}) / {every}"},
            {0.2: _RED},
        ),
        _lines(
            "Calls that are made again",
            "By error code. Rises before tasks fail: the earliest sign of trouble upstream.",
            "ops",
            {"{{code}}": _rate("router_worker_retries_total", "code")},
        ),
        _lines(
            "Wait before they are",
            "Nine of ten are shorter. 60 s is the cap, or what a provider's rate limit asked for.",
            "s",
            {"{{vendor}} p90": _quantile(0.9, "retry_delay_seconds", "vendor")},
        ),
        _lines(
            "Calls that are not",
            "attempts_exhausted asks for more patience, deadline for an earlier start, "
            "not_retryable for a look at the request or the key.",
            "ops",
            {"{{code}} {{reason}}": _rate("router_worker_give_ups_total", "code, reason")},
        ),
        _lines(
            "Dead letters that come",
            "By error code. Mend the cause, then: router-worker dead replay. Beside them, what was "
            "not obeyed: tasks that are not signed or encrypted as this worker asks for.",
            "none",
            {
                "{{code}}": _increase("router_worker_dead_letters_total", "code") + " > 0",
                "no message, on {{queue}}": _increase(
                    "router_worker_parked_messages_total", "queue"
                ),
                "not obeyed: {{reason}}": _increase("router_worker_refused_tasks_total", "reason"),
            },
        ),
        _lines(
            "Workers that die or stall",
            "Tasks that were rung for because their worker had died; attempts that had become "
            "another's meanwhile; attempts that were left to another by a worker that was told to "
            "end. Each is a call paid for twice.",
            "none",
            {
                "died": _increase('router_worker_redeliveries_total{cause="worker"}'),
                "stalled": _increase("router_worker_leases_lost_total"),
                "handed back": _increase("router_worker_handed_back_total"),
            },
        ),
        _lines(
            "Mended without anybody's notice",
            "Doorbells that were lost, or whose timer died with its worker, and were rung again; "
            "doorbells that came twice, and were dropped; writes of an attempt that was over, "
            "which Redis refused.",
            "none",
            {
                "rung again: {{cause}}": _increase(
                    'router_worker_redeliveries_total{cause!="worker"}', "cause"
                ),
                "dropped: {{reason}}": _increase("router_worker_doorbells_dropped_total", "reason"),
                "writes refused": _increase("router_worker_fenced_writes_total"),
            },
        ),
    ]


def _costs() -> list[Panel]:
    """Say what it costs."""
    cpu = 'process_cpu_seconds_total{job="router-worker"}'
    return [
        _stat(
            "In this time",
            "What the calls cost of the models that ROUTER_WORKER_PRICES has. Models without a "
            "price are missing in it.",
            "currencyUSD",
            {"cost": "sum(increase(router_worker_cost_usd_total[$__range]))"},
            {},
        ),
        _stat(
            "What runs",
            "Workers, by version. More than one line is a deployment that goes on, or one that "
            "got stuck.",
            "none",
            {
                "{{version}}, Python {{python}}, Celery {{celery}}": (
                    "count by (version, python, celery) (router_worker_build_info)"
                )
            },
            {},
        ).text_mode(common.BigValueTextMode.VALUE_AND_NAME),
        _lines(
            "US dollars an hour",
            "By model, of those that ROUTER_WORKER_PRICES has.",
            "currencyUSD",
            {"{{model}}": f"3600 * {_rate('router_worker_cost_usd_total', 'model')}"},
        ),
        _lines(
            "Tokens a second",
            "Cached tokens are a part of the input, reasoning tokens of the output.",
            "none",
            {"{{type}}": _rate("router_worker_tokens_total", "type")},
        ),
        _lines(
            "Chunks a second",
            "The load on workers and Redis.",
            "none",
            {"{{vendor}}": _rate("router_worker_chunks_total", "vendor")},
        ),
        _lines(
            "CPU of each worker",
            "Of one core. A process fills about one: start more of them then.",
            "percentunit",
            {"{{instance}}": f"rate({cpu}[$__rate_interval])"},
            {0.9: _YELLOW},
        ),
        _lines(
            "Memory of each worker",
            "Resident bytes: 80 MiB, and 40 KiB for each open stream.",
            "bytes",
            {"{{instance}}": 'process_resident_memory_bytes{job="router-worker"}'},
        ),
        _lines(
            "Connections to the router",
            "used follows the calls in flight; idle ones that stay at 0 mean that each call pays "
            "for TLS.",
            "none",
            {"{{state}}": "sum by (state) (router_worker_upstream_connections)"},
        ),
    ]


def build() -> dashboard.Dashboard:
    """Put the panels in their rows."""
    rows: dict[str, Sequence[Panel]] = {
        "Is it working?": _working(),
        "What is slow?": _slow(),
        "Who is failing?": _failing(),
        "What does it cost?": _costs(),
    }
    board = (
        dashboard.Dashboard("router-worker")
        .uid("router-worker")
        .description("Made by deploy/grafana/dashboard.py: change that, and run make dashboard.")
        .tags(["router-worker"])
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
    )
    number = count(1)
    for title, panels in rows.items():
        board.with_row(dashboard.Row(title).id(next(number)))
        for panel in panels:
            board.with_panel(panel.id(next(number)))
    return board


def text() -> str:
    """Return the dashboard as the file has it."""
    return JSONEncoder(sort_keys=True, indent=2).encode(build().build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
