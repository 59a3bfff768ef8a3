"""A real Prometheus on the configuration and the alerts that are shipped, in a hurry."""

import json
import math
import re
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
import yaml

from tests.parts.need import installed
from tests.parts.program import ROOT, Program
from tests.parts.wait import until
from tests.parts.web import free_port, get
from tests.parts.worker import Worker

#: Where the configuration is.
SHIPPED: Final = ROOT / "deploy" / "prometheus"
#: How often it scrapes, and looks at its rules.
_INTERVAL: Final = "1s"
#: How long an alert's condition must hold, in place of minutes.
_FOR: Final = "2s"
#: A metric's name in an expression.
_METRIC: Final = re.compile(r"\b(?:router_worker_\w+|up\b)")


class Prometheus:
    """A running Prometheus that scrapes these workers."""

    def __init__(self, folder: Path, workers: Iterable[Worker]) -> None:
        """Start it, and wait until it answers."""
        folder.mkdir()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        _write_config(folder, [f"127.0.0.1:{worker.port}" for worker in workers])
        self.program = Program(
            [
                installed("prometheus", "prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder / "prometheus.log",
        )
        self.program.wait_for(f"{self.url}/-/ready", within=30)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Ask for what an expression is now; AssertionError in Prometheus's words where it is none.

        Each series has `metric`, its labels, and `value`, a moment and a text.
        """
        answer = self._ask(f"query?{urlencode({'query': expression})}")
        assert answer["resultType"] == "vector", expression
        series: list[dict[str, Any]] = answer["result"]
        return series

    def numbers(self, expression: str) -> list[float]:
        """Return the numbers that an expression gives now, without NaN and infinity."""
        values = (float(one["value"][1]) for one in self.query(expression))
        return [value for value in values if math.isfinite(value)]

    def firing(self) -> set[str]:
        """Name the alerts that fire."""
        return {
            one["labels"]["alertname"]
            for one in self._ask("alerts")["alerts"]
            if one["state"] == "firing"
        }

    def wait_firing(self, expected: set[str], *, within: float) -> None:
        """Wait until these alerts fire; AssertionError, with what those saw that do not."""
        try:
            until(lambda: expected <= self.firing(), f"{expected} fire", within=within)
        except AssertionError as error:
            missing = expected - self.firing()
            for rule in rules():
                if rule["alert"] in missing:
                    error.add_note(f"{rule['alert']} saw:\n{self._seen_by(rule['expr'])}")
            raise

    def wait_scraped(self, workers: Iterable[Worker], metric: str) -> None:
        """Wait until it has a metric of ours, summed up, as the workers have it now."""
        workers = list(workers)

        def same() -> bool:
            now = sum(value for worker in workers for value in worker.samples(metric).values())
            return self.numbers(f"sum(router_worker_{metric})") == [pytest.approx(now)]

        until(same, f"Prometheus has scraped {metric}", within=30)

    def _seen_by(self, expression: str) -> str:
        """Write the samples of the last minutes of every metric that is looked at."""
        lines = []
        for metric in sorted(set(_METRIC.findall(expression))):
            for series in self._ask(f"query?{urlencode({'query': f'{metric}[10m]'})}")["result"]:
                runs = groupby(value for _, value in series["values"])
                values = [f"{value} x {len(list(run))}" for value, run in runs]
                lines.append(f"{series['metric']}: {', '.join(values)}")
        return "\n".join(lines)

    def _ask(self, what: str) -> Any:
        answer = json.loads(get(f"{self.url}/api/v1/{what}")[1])
        assert answer["status"] == "success", (what, answer.get("error"))
        return answer["data"]


def shipped(name: str) -> Any:
    """Read one of the files."""
    return yaml.safe_load((SHIPPED / name).read_text())


def rules() -> list[dict[str, Any]]:
    """Return the alerts that are shipped."""
    return [rule for group in shipped("alerts.yml")["groups"] for rule in group["rules"]]


def _write_config(folder: Path, targets: list[str]) -> None:
    config, alerts = shipped("prometheus.yml"), shipped("alerts.yml")
    config["global"] = dict.fromkeys(config["global"], _INTERVAL)
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": targets}]
    for group in alerts["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _FOR
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "alerts.yml").write_text(yaml.safe_dump(alerts))
