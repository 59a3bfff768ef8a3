"""The dashboard's file is what its program makes, and each panel says what it shows."""

import json
import re
from typing import Any

import pytest

from deploy.grafana import dashboard
from tests.parts.program import ROOT
from tests.parts.prometheus import rules
from worker.telemetry import METRICS

PANELS: dict[str, dict[str, Any]] = {
    panel["title"]: panel
    for panel in json.loads(dashboard.FILE.read_text())["panels"]
    if panel["type"] != "row"
}
AUTOSCALING = (ROOT / "deploy/kubernetes/autoscaling.yaml").read_text()


def test_the_file_is_what_the_program_makes() -> None:
    assert dashboard.FILE.read_text() == dashboard.text(), "run: make dashboard"


def test_its_rows_are_an_operators_questions() -> None:
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == [
        "Is it working?", "What is slow?", "Who is failing?", "What does it cost?",
    ]  # fmt: skip


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_has_a_meaning_a_unit_and_named_queries(title: str) -> None:
    panel = PANELS[title]
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "$datasource"
    assert panel["targets"]
    assert all(target["legendFormat"] for target in panel["targets"])
    if panel["type"] != "state-timeline":
        assert panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] == "stat":
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]


def test_panels_stand_side_by_side_and_not_upon_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS.values():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_metric_that_is_asked_for_is_one_of_ours() -> None:
    """Of the dashboard, of the alerts, and of what makes more workers."""
    asked = [target["expr"] for panel in PANELS.values() for target in panel["targets"]]
    asked += [rule["expr"] for rule in rules()]
    ours = {row.name for row in METRICS}
    ours |= {f"{row.name}_bucket" for row in METRICS if row.type == "histogram"}
    assert set(re.findall(r"router_worker_\w+", " ".join([*asked, AUTOSCALING]))) <= ours
