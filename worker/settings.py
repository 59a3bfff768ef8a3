"""What can be set, and how: one field a setting, each with its default and the reason for it.

Secrets are ``SecretStr``: no ``repr`` shows them. The README's table is made of the fields.
``worker.environment.load`` reads them and says what is wrong; nothing else reads the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api_contracts.client.brokers import check_broker
from api_contracts.client.keyring import Keyring
from api_contracts.client.protection import Protection
from api_contracts.client.servers import NO_CLUSTER, Server, is_cluster
from api_contracts.client.signatures import Signatures
from api_contracts.names import DEFAULT_PREFIX, Queue
from api_contracts.options import RetryPolicy
from worker.prices import Price, read_prices

#: Begins the variable of every setting that has no name of its own.
PREFIX: Final = "ROUTER_WORKER_"
#: Most models with a metric label of their own: each is dozens of time series in every worker.
MODELS_LIMIT: Final = 100
_DEFAULTS: Final = RetryPolicy()


def checked_key(text: str) -> str:
    """Return a key of the router's without space around it; ValueError where it can be none."""
    key = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        message = "must be printable ASCII in one line, as an HTTP header takes it"
        raise ValueError(message)
    return key


def _check_api_key(key: SecretStr) -> SecretStr:
    return SecretStr(checked_key(key.get_secret_value()))


def _raise_error(value: object) -> object:
    """Raise the error that stands where a secret should (``worker.environment.secrets``)."""
    if isinstance(value, ValueError):
        raise value
    return value


def _check_folder(folder: Path) -> Path:
    if not folder.is_dir():
        message = "must be a folder"
        raise ValueError(message)
    return folder


def _check_prefix(prefix: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", prefix):
        message = "must be 1 to 64 letters, digits, dots, dashes or underscores"
        raise ValueError(message)
    return prefix


def _split_url(url: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        message = "cannot be read; is the port a number, and is the password percent-encoded?"
        raise ValueError(message) from None
    if parts.scheme not in schemes or not parts.hostname:
        message = f"must begin with {' or '.join(f'{scheme}://HOST' for scheme in schemes)}"
        raise ValueError(message)
    return parts


def _check_base_url(url: str) -> str:
    parts = _split_url(url, ("https", "http"))
    if parts.username is not None or parts.password is not None:
        message = "must not carry a user or a password; the key is YOUROUTER_API_KEY's"
        raise ValueError(message)
    if parts.query or parts.fragment:
        message = "must end with its host or a path, without a query or a fragment"
        raise ValueError(message)
    return url.rstrip("/")


def _check_redis_url(url: SecretStr) -> SecretStr:
    Server.parse(url.get_secret_value())
    return url


def _check_broker_url(url: SecretStr) -> SecretStr:
    check_broker(url.get_secret_value())
    return url


def _check_encryption_keys(keys: SecretStr) -> SecretStr:
    Keyring.of(keys.get_secret_value())
    return keys


def _check_signing_keys(keys: SecretStr) -> SecretStr:
    Signatures.of(keys.get_secret_value())
    return keys


def _split_list(value: object) -> object:
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


def _read_prices(value: object) -> object:
    """Read the file that a variable names."""
    if not isinstance(value, str):
        return value
    try:
        return read_prices(Path(value).read_bytes())
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise ValueError(message) from None


def _check_models(models: frozenset[str]) -> frozenset[str]:
    if len(models) > MODELS_LIMIT:
        message = f"at most {MODELS_LIMIT} are taken"
        raise ValueError(message)
    return models


Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Secret = Annotated[SecretStr, BeforeValidator(_raise_error)]


class Settings(BaseSettings):
    """One worker process's settings. Every default has its reason in its description."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        hide_input_in_errors=True,
    )

    api_key: Annotated[Secret, AfterValidator(_check_api_key)] = Field(
        validation_alias="YOUROUTER_API_KEY",
        description="The router's key, sent as `Authorization: Bearer`; never shown.",
    )
    redis_url: Annotated[Secret, AfterValidator(_check_redis_url)] = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        validation_alias="REDIS_URL",
        description="Redis or Valkey of records and events, or its sentinels: "
        "`sentinel://HOST:26379,HOST:26379/0?master_name=NAME`, or a cluster: "
        "`redis-cluster://HOST:6379,HOST:6379`; by default one on this machine.",
    )
    broker_url: Annotated[Secret, AfterValidator(_check_broker_url)] = Field(
        default_factory=lambda known: known["redis_url"],
        description="Redis or Valkey of Celery's queues, where it is to be another one, as beside "
        "a cluster; or RabbitMQ: `amqp://USER:PASSWORD@HOST:5672/VHOST`, `amqps://…` for TLS.",
    )
    prefix: Annotated[str, AfterValidator(_check_prefix)] = Field(
        default=DEFAULT_PREFIX,
        description="Begins every key and channel of tasks; producers and subscribers must use the "
        "same. Queues have no prefix: systems that share a server need a database or a broker "
        "each.",
    )
    base_url: Annotated[str, AfterValidator(_check_base_url)] = Field(
        default="https://api.yourouter.ai", description="Where the router is."
    )
    credentials_dir: Annotated[Path, AfterValidator(_check_folder)] | None = Field(
        default=None,
        description="Folder with more keys for the router, one file each, and nothing else: a task "
        "that names one of the files as its `credential` is called with that key. A file that "
        "changes is obeyed within a second.",
    )
    queues: Annotated[tuple[Queue, ...], NoDecode, BeforeValidator(_split_list)] = Field(
        default=tuple(Queue),
        description="Queues that this worker serves, in turn, with commas between; a worker for "
        "one queue alone keeps the other from filling its slots.",
    )
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=400,
        description="Tasks at once in one process. 400 streams of 25 chunks a second fill about "
        "one core; for more, start more processes.",
    )
    lease_s: Seconds = Field(
        default=20,
        description="Seconds until a worker that gives no sign loses its tasks to others. Shorter "
        "finds a death sooner; a worker that stalls for longer has its calls made twice.",
    )
    heartbeat_s: Seconds = Field(
        default=5,
        description="Seconds between two renewals of the leases; three may fail before one ends.",
    )
    drain_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = Field(
        default=25,
        description="Seconds for running tasks to end after SIGTERM, before they are handed back; "
        "Kubernetes kills after 30, Docker after 10 unless told otherwise.",
    )
    retry_max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        default=_DEFAULTS.max_attempts,
        description="Failed calls until a task fails; with the back-off below, about 8 s of an "
        "outage are bridged on average, and 15 s at most.",
    )
    retry_base_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        default=_DEFAULTS.base_s,
        description="Longest back-off after the first failed call, in seconds; the router "
        "advises 1.",
    )
    retry_factor: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)] = Field(
        default=_DEFAULTS.factor,
        description="How much longer it is after each further one; the router advises to double.",
    )
    retry_cap_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        default=_DEFAULTS.cap_s,
        description="Longest back-off of all, in seconds; most rate limits are per minute.",
    )
    connect_s: Seconds = Field(
        default=5,
        description="Seconds for a connection to the router, with TLS; leaves time for two lost "
        "packets, which are sent again after 1 s and 3 s.",
    )
    first_chunk_s: Seconds = Field(
        default=120,
        description="Seconds from a streamed call to its first chunk; a model that reasons first "
        "may take a minute.",
    )
    gap_s: Seconds = Field(
        default=60,
        description="Seconds without a byte inside a stream; after a silent minute it is taken for "
        "dead (up to a twentieth later, since the timer does not move with each chunk).",
    )
    total_s: Seconds = Field(
        default=600,
        description="Seconds for one call from end to end; the time-out of OpenAI's and "
        "Anthropic's clients.",
    )
    include_usage: bool = Field(
        default=True,
        description="Ask for the tokens of a streamed chat that says nothing of `stream_options`; "
        "without, they are estimated.",
    )
    encryption_keys: Annotated[Secret, AfterValidator(_check_encryption_keys)] = Field(
        default=SecretStr(""),
        description="Keys of 32 bytes in base64, with commas between: what tasks and answers say "
        "is encrypted in Redis with the first, and decrypted with all. Producers and subscribers "
        "need them too.",
    )
    encryption_required: bool = Field(
        default=False,
        description="Refuse tasks that are not encrypted; in clients: answers.",
    )
    signing_keys: Annotated[Secret, AfterValidator(_check_signing_keys)] = Field(
        default=SecretStr(""),
        description="Producers' keys as `NAME:KEY`, 32 bytes in base64, with commas between: a "
        "worker that has some obeys only tasks signed with one of them; a client signs with the "
        "first.",
    )
    models: Annotated[
        frozenset[str], NoDecode, BeforeValidator(_split_list), AfterValidator(_check_models)
    ] = Field(
        default=frozenset(),
        description="Models with a label of their own in metrics, with commas between; all others "
        "are counted as `other`, since each costs time series.",
    )
    prices: Annotated[Mapping[str, Price], NoDecode, BeforeValidator(_read_prices)] = Field(
        default_factory=dict,
        description="Path of a JSON file of what a million tokens cost in US dollars, as "
        '`{"gpt-4o": {"input": 2.5, "cached": 1.25, "output": 10}}`: calls of these models are '
        "added up as `router_worker_cost_usd_total`.",
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=9464,
        validation_alias="PORT",
        description="Port of `/metrics`, `/healthz` and `/readyz`; by default the one that "
        "OpenTelemetry's exporter uses; 0 lets the system choose.",
    )
    host: Annotated[str, Field(min_length=1)] = Field(
        default="0.0.0.0",  # nosec B104 # noqa: S104 - scrapers come from outside
        description="Address that this port is opened on. All by default, since Prometheus and "
        "the kubelet come from outside; no page tells a secret.",
    )
    log_format: Literal["console", "json"] = Field(
        default="console",
        description="How a log line is written: `console` for people, `json` for collectors.",
    )

    @property
    def retry(self) -> RetryPolicy:
        """The policy for tasks that bring none of their own."""
        return RetryPolicy(
            max_attempts=self.retry_max_attempts,
            base_s=self.retry_base_s,
            factor=self.retry_factor,
            cap_s=self.retry_cap_s,
        )

    @property
    def protection(self) -> Protection:
        """The keys that encrypt and sign."""
        return Protection(
            Keyring.of(self.encryption_keys.get_secret_value(), required=self.encryption_required),
            Signatures.of(self.signing_keys.get_secret_value()),
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        broken = "\n".join(_broken_rules(self))
        if broken:
            raise ValueError(broken)
        return self


#: Fields that are secrets. Each may stand in a file instead.
SECRETS: Final = tuple(
    name for name, field in Settings.model_fields.items() if field.annotation is SecretStr
)

#: Pairs where the first must not be more than the second, and why.
_ORDERED: Final = (
    ("connect_s", "first_chunk_s", "the first chunk comes after the connection"),
    ("first_chunk_s", "total_s", "no call outlives its total"),
    ("gap_s", "total_s", "no call outlives its total"),
    ("retry_base_s", "retry_cap_s", "the cap is the longest back-off"),
)


def _broken_rules(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each rule between two settings that does not hold."""
    if settings.heartbeat_s >= settings.lease_s / 2:
        yield (
            f"{variable('heartbeat_s')} ({settings.heartbeat_s:g}) must be less than half of "
            f"{variable('lease_s')} ({settings.lease_s:g}), so that a lost renewal costs no lease"
        )
    if settings.encryption_required and not settings.encryption_keys.get_secret_value():
        yield (
            f"{variable('encryption_required')} needs {variable('encryption_keys')}, since "
            "nothing can be encrypted without a key"
        )
    if is_cluster(settings.broker_url.get_secret_value()):
        yield f"{variable('broker_url')} {NO_CLUSTER}"
    for small, large, reason in _ORDERED:
        low, high = getattr(settings, small), getattr(settings, large)
        if low > high:
            yield (
                f"{variable(small)} ({low:g}) must not be more than {variable(large)} "
                f"({high:g}), since {reason}"
            )


def variable(field: str) -> str:
    """Return the environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else PREFIX + field.upper()
