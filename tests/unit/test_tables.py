"""The README's tables say what the code does."""

from __future__ import annotations

import os
import re

import pytest

from api_contracts.errors import ErrorCode
from worker.environment import load
from worker.settings import Settings, variable
from worker.tables import TABLES, errors_table, main, metrics_table, settings_table
from worker.telemetry import METRICS


def cells(table: str) -> list[list[str]]:
    """Return the cells of each row, without the head."""
    rows = [re.split(r"(?<!\\) ?\| ?", line)[1:-1] for line in table.splitlines()]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert set(rows[1]) == {"---"}
    return rows[2:]


def test_every_setting_is_there_in_order() -> None:
    names = [row[0] for row in cells(settings_table())]
    assert names == [f"`{variable(field)}`" for field in Settings.model_fields]


def test_a_default_may_be_copied_from_the_table_into_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [*os.environ]:
        if name.startswith("ROUTER_WORKER_") or name in ("PORT", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("YOUROUTER_API_KEY", "key")
    unset = load()
    copied = {}
    for name, default, _ in cells(settings_table()):
        if default not in ("required", "none", "`REDIS_URL`"):
            copied[name.strip("`")] = default.strip("`")
    for name, default in copied.items():
        monkeypatch.setenv(name, default)
    assert load() == unset
    missing = {variable(field) for field in Settings.model_fields} - set(copied)
    assert missing == {
        *("YOUROUTER_API_KEY", "ROUTER_WORKER_BROKER_URL", "ROUTER_WORKER_MODELS"),
        *("ROUTER_WORKER_PRICES", "ROUTER_WORKER_CREDENTIALS_DIR"),
        *("ROUTER_WORKER_ENCRYPTION_KEYS", "ROUTER_WORKER_SIGNING_KEYS"),
    }


def test_every_error_is_there_with_whether_it_is_retried() -> None:
    rows = cells(errors_table())
    assert [row[0] for row in rows] == [f"`{code}`" for code in ErrorCode]
    retried = {row[0].strip("`"): row[2] for row in rows}
    assert (retried["rate_limited"], retried["rejected"]) == ("yes", "no")


def test_every_metric_is_there_with_its_labels() -> None:
    rows = cells(metrics_table())
    assert [row[0] for row in rows] == [f"`{row.name}`" for row in METRICS]
    labels = {row[0].strip("`"): row[2] for row in rows}
    assert labels["router_worker_retries_total"] == "`vendor`, `code`"
    assert labels["router_worker_slots"] == "–"


def test_all_tables_are_printed_between_their_markers(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    printed = capsys.readouterr().out
    found = re.findall(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->\n", printed, re.DOTALL)
    assert found == [(name, table()) for name, table in TABLES.items()]
