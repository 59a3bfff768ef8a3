"""The alerts as promtool sees them: right, tried both ways, and each with its runbook."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.parts.need import installed
from tests.parts.program import ROOT
from tests.parts.prometheus import SHIPPED, rules, shipped

ALERTS = {rule["alert"]: rule for rule in rules()}


def promtool(*arguments: str, folder: Path = SHIPPED) -> str:
    """Run promtool in the folder of the shipped files; it must have nothing against them."""
    done = subprocess.run(
        [installed("promtool", "prometheus"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_finds_configuration_and_rules_right() -> None:
    for kind, file in (("config", "prometheus.yml"), ("rules", "alerts.yml")):
        assert f"SUCCESS: {len(ALERTS)} rules found" in promtool("check", kind, file)


def test_promtool_finds_the_configuration_for_kubernetes_right(tmp_path: Path) -> None:
    # Debian's promtool is built without Kubernetes: it is shown another way to find workers.
    text = (SHIPPED / "kubernetes.yml").read_text()
    finding = "kubernetes_sd_configs: [{role: pod}]"
    assert text.count(finding) == 1
    shown = text.replace(finding, "file_sd_configs: [{files: [pods.json]}]")
    (tmp_path / "kubernetes.yml").write_text(shown)
    (tmp_path / "alerts.yml").write_text((SHIPPED / "alerts.yml").read_text())
    (tmp_path / "pods.json").write_text("[]")
    assert "SUCCESS" in promtool("check", "config", "kubernetes.yml", folder=tmp_path)


def test_each_alert_fires_and_is_silent_as_its_tests_say() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent(alert: str) -> None:
    cases = [
        case
        for test in shipped("alerts_test.yml")["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
    ]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_where_its_runbook_is(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
    anchors = [re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings]
    assert anchors.count(anchor) == 1
    assert anchor == alert.lower()


def test_the_runbook_has_no_alert_that_is_gone() -> None:
    runbook = (ROOT / "deploy" / "README.md").read_text().partition("## When an alert fires")[2]
    assert re.findall(r"^### (.+)$", runbook, re.MULTILINE) == list(ALERTS)
