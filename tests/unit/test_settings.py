"""What a worker takes from its environment, and what it says of a wrong one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from api_contracts.client.connection import DEFAULT_URL
from api_contracts.options import RetryPolicy
from worker.environment import InvalidSettings, load, traced
from worker.settings import MODELS_LIMIT, Settings, variable

KEY = "sk-hush-1234"
PASSWORD = "pass-word-5678"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("ROUTER_WORKER_", "OTEL_")) or name in ("PORT", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("YOUROUTER_API_KEY", KEY)


def mistakes() -> tuple[str, ...]:
    with pytest.raises(InvalidSettings) as caught:
        load()
    assert KEY not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    return caught.value.mistakes


def test_a_key_is_all_that_a_worker_needs() -> None:
    settings = load()
    assert settings.api_key.get_secret_value() == KEY
    assert settings.redis_url.get_secret_value() == DEFAULT_URL
    assert settings.broker_url == settings.redis_url
    assert settings.base_url == "https://api.yourouter.ai"
    assert (settings.concurrency, settings.lease_s, settings.port) == (400, 20, 9464)
    assert settings.queues == ("router.interactive", "router.batch")
    assert settings.models == frozenset()


def test_without_further_settings_tasks_are_retried_as_the_contract_says() -> None:
    assert load().retry == RetryPolicy()


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("ROUTER_WORKER_BASE_URL", "http://127.0.0.1:8080/", "base_url", "http://127.0.0.1:8080"),
        ("ROUTER_WORKER_BASE_URL", "https://host/llm", "base_url", "https://host/llm"),
        ("ROUTER_WORKER_QUEUES", "router.batch", "queues", ("router.batch",)),
        ("ROUTER_WORKER_MODELS", " gpt-4o , o3 ", "models", {"gpt-4o", "o3"}),
        ("ROUTER_WORKER_MODELS", "", "models", frozenset()),
        ("ROUTER_WORKER_INCLUDE_USAGE", "off", "include_usage", False),
        ("ROUTER_WORKER_LEASE_S", "12.5", "lease_s", 12.5),
        ("ROUTER_WORKER_LOG_FORMAT", "json", "log_format", "json"),
        ("ROUTER_WORKER_DRAIN_S", "0", "drain_s", 0),
        ("ROUTER_WORKER_PREFIX", "team-a.rw", "prefix", "team-a.rw"),
        ("PORT", "0", "port", 0),
        ("PORT", "", "port", 9464),
        ("router_worker_concurrency", "7", "concurrency", 7),
    ],
)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, expected: object
) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(load(), field) == expected


def test_the_line_break_at_the_end_of_a_secret_file_is_no_part_of_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("YOUROUTER_API_KEY", f"{KEY}\n")
    assert load().api_key.get_secret_value() == KEY


@pytest.mark.parametrize(
    "url",
    [
        f"rediss://u:{PASSWORD}@host:6380/2",
        f"redis://:{PASSWORD}@h",
        f"sentinel://u:{PASSWORD}@one,two:26380/1?master_name=m",
    ],
)
def test_neither_key_nor_password_is_ever_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    settings = load()
    assert settings.broker_url.get_secret_value() == url
    for shown in (repr(settings), str(settings), str(settings.model_dump()), f"{settings.api_key}"):
        assert KEY not in shown
        assert PASSWORD not in shown


@pytest.mark.parametrize(
    ("name", "value", "mistake"),
    [
        ("YOUROUTER_API_KEY", "", "YOUROUTER_API_KEY is not set, and has no default"),
        (
            "YOUROUTER_API_KEY",
            f"{KEY}\nX-Evil: 1",
            "YOUROUTER_API_KEY must be printable ASCII in one line, as an HTTP header takes it",
        ),
        (
            "REDIS_URL",
            f"unix://:{PASSWORD}@/run/redis",
            "REDIS_URL must begin with redis[s]://HOST, sentinel://HOST or redis[s]-cluster://HOST",
        ),
        (
            "ROUTER_WORKER_BROKER_URL",
            f"redis://:{PASSWORD}/x@host",
            (
                "…BROKER_URL cannot be read; is the port a number, and is the password "
                "percent-encoded?"
            ),
        ),
        (
            "REDIS_URL",
            f"sentinel://u:{PASSWORD}@one,two/0",
            (
                "REDIS_URL must name the master that its sentinels watch: "
                "sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/DB?master_name=NAME"
            ),
        ),
        (
            "REDIS_URL",
            f"redis-cluster://u:{PASSWORD}@one,two",
            (
                "…BROKER_URL must name one Redis or its sentinels: "
                "a cluster keeps no queues of Celery's"
            ),
        ),
        (
            "ROUTER_WORKER_BASE_URL",
            f"https://u:{PASSWORD}@host",
            ("…BASE_URL must not carry a user or a password; the key is YOUROUTER_API_KEY's"),
        ),
        (
            "ROUTER_WORKER_BASE_URL",
            f"https://host?key={PASSWORD}",
            ("…BASE_URL must end with its host or a path, without a query or a fragment"),
        ),
        (
            "ROUTER_WORKER_BASE_URL",
            "api.yourouter.ai",
            "…BASE_URL must begin with https://HOST or http://HOST",
        ),
        (
            "ROUTER_WORKER_CONCURRENCY",
            "many",
            "…CONCURRENCY is 'many', but must be a valid integer",
        ),
        ("PORT", "70000", "PORT is '70000', but must be less than or equal to 65535"),
        (
            "ROUTER_WORKER_TOTAL_S",
            "inf",
            "…TOTAL_S is 'inf', but must be a finite number",
        ),
        (
            "ROUTER_WORKER_RETRY_BASE_S",
            "nan",
            "…RETRY_BASE_S is 'nan', but must be a finite number",
        ),
        (
            "ROUTER_WORKER_PREFIX",
            "{rw}",
            ("…PREFIX is '{rw}', but must be 1 to 64 letters, digits, dots, dashes or underscores"),
        ),
        (
            "ROUTER_WORKER_QUEUES",
            "router.batch,fast",
            "…QUEUES is 'fast', but must be 'router.interactive' or 'router.batch'",
        ),
        (
            "ROUTER_WORKER_LOG_FORMAT",
            "xml",
            "…LOG_FORMAT is 'xml', but must be 'console' or 'json'",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, mistake: str
) -> None:
    monkeypatch.setenv(name, value)
    assert mistakes() == (mistake.replace("…", "ROUTER_WORKER_"),)


def test_a_long_wrong_value_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ",".join(f"model-{number}" for number in range(MODELS_LIMIT + 1))
    monkeypatch.setenv("ROUTER_WORKER_MODELS", names)
    assert mistakes() == (
        f"ROUTER_WORKER_MODELS is '{names[:60]}', but at most {MODELS_LIMIT} are taken",
    )


@pytest.mark.parametrize(
    ("name", "value", "mistake"),
    [
        (
            "ROUTER_WORKER_HEARTBEAT_S",
            "10",
            (
                "…HEARTBEAT_S (10) must be less than half of …LEASE_S (20), "
                "so that a lost renewal costs no lease"
            ),
        ),
        (
            "ROUTER_WORKER_CONNECT_S",
            "121",
            (
                "…CONNECT_S (121) must not be more than …FIRST_CHUNK_S "
                "(120), since the first chunk comes after the connection"
            ),
        ),
        (
            "ROUTER_WORKER_FIRST_CHUNK_S",
            "601",
            (
                "…FIRST_CHUNK_S (601) must not be more than …TOTAL_S (600), "
                "since no call outlives its total"
            ),
        ),
        (
            "ROUTER_WORKER_GAP_S",
            "601",
            ("…GAP_S (601) must not be more than …TOTAL_S (600), since no call outlives its total"),
        ),
        (
            "ROUTER_WORKER_RETRY_CAP_S",
            "0.5",
            (
                "…RETRY_BASE_S (1) must not be more than …RETRY_CAP_S (0.5), "
                "since the cap is the longest back-off"
            ),
        ),
    ],
)
def test_two_settings_that_contradict_each_other_are_both_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, mistake: str
) -> None:
    monkeypatch.setenv(name, value)
    assert mistakes() == (mistake.replace("…", "ROUTER_WORKER_"),)
    with pytest.raises(ValidationError):
        Settings()


def test_all_mistakes_are_told_at_once_under_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOUROUTER_API_KEY")
    monkeypatch.setenv("REDIS_URL", f"http://{PASSWORD}@host")
    monkeypatch.setenv("ROUTER_WORKER_LEASE_S", "0")
    monkeypatch.setenv("ROUTER_WORKER_LEASE", "30")
    with pytest.raises(InvalidSettings) as caught:
        load()
    assert str(caught.value).splitlines() == [
        "correct these environment variables and start again:",
        "  YOUROUTER_API_KEY is not set, and has no default",
        "  REDIS_URL must begin with redis[s]://HOST, sentinel://HOST or redis[s]-cluster://HOST",
        "  ROUTER_WORKER_LEASE_S is '0', but must be greater than 0",
        "  ROUTER_WORKER_LEASE is not known; was ROUTER_WORKER_LEASE_S meant? If not, unset it",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ROUTER_WORKER_HEARTBEATS", "ROUTER_WORKER_HEARTBEAT_S"),
        ("ROUTER_WORKER_CONCURENCY", "ROUTER_WORKER_CONCURRENCY"),
        ("ROUTER_WORKER_API_KEY", "YOUROUTER_API_KEY"),
        ("ROUTER_WORKER_REDIS_URL", "REDIS_URL"),
        ("ROUTER_WORKER_PORT", "PORT"),
        ("Router_Worker_Modles", "ROUTER_WORKER_MODELS"),
    ],
)
def test_a_typing_error_is_refused_and_the_nearest_name_told(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, PASSWORD)
    assert mistakes() == (f"{name} is not known; was {meant} meant? If not, unset it",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROUTER_WORKER_SERVICE_HOST", "10.0.0.1"),
        ("ROUTER_WORKER_SERVICE_PORT", "9464"),
        ("ROUTER_WORKER_SERVICE_PORT_METRICS", "9464"),
        ("ROUTER_WORKER_PORT", "tcp://10.0.0.1:9464"),
        ("ROUTER_WORKER_PORT_9464_TCP", "tcp://10.0.0.1:9464"),
        ("ROUTER_WORKER_PORT_9464_TCP_ADDR", "10.0.0.1"),
        ("ROUTER_WORKER_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("ROUTER_WORKER_METRICS_PORT", "tcp://10.0.0.1:9464"),
    ],
)
def test_what_kubernetes_sets_for_a_service_of_this_name_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert load().port == 9464


@pytest.mark.parametrize("field", ["max_attempts", "base_s", "factor", "cap_s"])
@pytest.mark.parametrize("bound", ["ge", "le"])
def test_a_retry_setting_has_the_bounds_of_the_contract(field: str, bound: str) -> None:
    def bounds(metadata: list[Any]) -> list[Any]:
        return [getattr(rule, bound) for rule in metadata if hasattr(rule, bound)]

    ours = bounds(Settings.model_fields[f"retry_{field}"].metadata)
    assert len(ours) == 1
    assert ours == bounds(RetryPolicy.model_fields[field].metadata)


def test_prices_are_read_from_the_file_that_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "prices.json"
    monkeypatch.setenv("ROUTER_WORKER_PRICES", table.name)
    (missing,) = mistakes()
    assert missing.endswith("'prices.json', but cannot be read: No such file or directory")
    table.write_text('{"gpt-4o": {"input": 2.5}}')
    (incomplete,) = mistakes()
    assert incomplete.endswith("gpt-4o.output: Field required")
    table.write_text('{"gpt-4o": {"input": 2.5, "output": 10}}')
    assert load().prices["gpt-4o"].output == 10


def test_settings_cannot_be_changed_later() -> None:
    settings = Settings(YOUROUTER_API_KEY=SecretStr(KEY))
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in Settings.model_fields.items():
        assert (field.description or "").endswith("."), variable(name)


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/v1/metrics"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console, OTLP"}, True),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector", "OTEL_TRACES_EXPORTER": "none"},
            False,
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "false"}, True),
    ],
    ids=str,
)
def test_traces_are_wanted_where_opentelemetrys_variables_say_so(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, wanted: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert traced() is wanted
