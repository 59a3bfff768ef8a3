"""Secrets in files: `X_FILE` stands for `X`, for the worker and for the client."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from api_contracts.client import Client
from api_contracts.client.connection import Address
from api_contracts.client.secret import FILE, LIMIT, secret_in
from tests.parts.secrecy import BOTH, WEB
from worker.environment import InvalidSettings, load
from worker.settings import SECRETS, Settings, variable

KEY = "sk-hush-1234"
URL = "redis://worker:pass-word-5678@host:7/0"
#: What each secret may be, by its variable.
GOOD = {
    "YOUROUTER_API_KEY": KEY,
    "REDIS_URL": URL,
    "ROUTER_WORKER_BROKER_URL": "sentinel://worker:pass-word-5678@one,two/1?master_name=m",
    "ROUTER_WORKER_ENCRYPTION_KEYS": BOTH,
    "ROUTER_WORKER_SIGNING_KEYS": WEB,
}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("ROUTER_WORKER_", "YOUROUTER_", "REDIS_URL")) or name == "PORT":
            monkeypatch.delenv(name)


def worker_says() -> str:
    """What a worker says of its environment, which must be wrong; never a secret."""
    with pytest.raises(InvalidSettings) as caught:
        load()
    (mistake,) = caught.value.mistakes
    return mistake


def client_says() -> str:
    """Likewise a client."""
    with pytest.raises(ValueError, match=r"^REDIS_URL ") as caught:
        Client()
    return str(caught.value)


def test_every_secret_of_a_worker_may_stand_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert {variable(field) for field in SECRETS} == set(GOOD), "one of them is not tried here"
    for name, secret in GOOD.items():
        (tmp_path / name).write_text(f"{secret}\n")
        monkeypatch.setenv(name + FILE, str(tmp_path / name))
    settings = load()
    found = {variable(field): getattr(settings, field).get_secret_value() for field in SECRETS}
    assert found == GOOD
    assert not any(secret in repr(settings) for secret in GOOD.values())


def test_a_variable_that_is_empty_is_none_and_its_file_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEY)
    monkeypatch.setenv("YOUROUTER_API_KEY", "")
    monkeypatch.setenv("yourouter_api_key_file", str(tmp_path / "key"))
    monkeypatch.setenv("REDIS_URL", URL)
    monkeypatch.setenv("REDIS_URL_FILE", "")
    settings = load()
    assert settings.api_key.get_secret_value() == KEY
    assert settings.redis_url.get_secret_value() == URL


def test_a_client_takes_the_addresses_from_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("REDIS_URL", "ROUTER_WORKER_BROKER_URL"):
        (tmp_path / name).write_text(f"{GOOD[name]}\n")
        monkeypatch.setenv(name + FILE, str(tmp_path / name))
    address = Address.of(None, None, None)
    assert (address.url, address.broker_url) == (
        GOOD["REDIS_URL"],
        GOOD["ROUTER_WORKER_BROKER_URL"],
    )
    monkeypatch.delenv("ROUTER_WORKER_BROKER_URL_FILE")
    assert Address.of(None, None, None).broker_url == URL


def test_who_gives_an_address_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL_FILE", "/nowhere/redis-url")
    monkeypatch.setenv("ROUTER_WORKER_BROKER_URL_FILE", "/nowhere/broker-url")
    assert Address.of("redis://a", "redis://b", None).broker_url == "redis://b"


#: How a file may be wrong: what makes it so, and what is said of it.
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda _: None, "No such file or directory"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "a line break alone": (lambda path: path.write_bytes(b"\r\n\n"), "it is empty"),
    "too large": (
        lambda path: path.write_bytes(b"redis://" + b"x" * LIMIT),
        f"it has more than {LIMIT} bytes",
    ),
    "endless": (lambda path: path.symlink_to("/dev/zero"), f"it has more than {LIMIT} bytes"),
    "no text": (lambda path: path.write_bytes(b"redis://\xff"), "it is no UTF-8 text"),
}


@pytest.mark.parametrize("says", [worker_says, client_says])
@pytest.mark.parametrize("how", WRONG)
def test_a_file_that_is_wrong_is_named_with_its_setting_and_nothing_of_it_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str, says: Callable[[], str]
) -> None:
    spoil, reason = WRONG[how]
    path = tmp_path / "redis-url"
    spoil(path)
    monkeypatch.setenv("YOUROUTER_API_KEY", KEY)
    monkeypatch.setenv("REDIS_URL_FILE", str(path))
    assert says() == f"REDIS_URL cannot be taken from {path}: {reason}"


@pytest.mark.parametrize("says", [worker_says, client_says])
def test_a_secret_that_is_said_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: Callable[[], str]
) -> None:
    path = tmp_path / "redis-url"
    path.write_text(URL)
    monkeypatch.setenv("YOUROUTER_API_KEY", KEY)
    monkeypatch.setenv("REDIS_URL", URL)
    monkeypatch.setenv("REDIS_URL_FILE", str(path))
    said = f"REDIS_URL is set, and so is REDIS_URL_FILE ({path}); unset one of them"
    assert says() == said


def test_what_a_file_holds_is_checked_as_a_variable_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "redis-url"
    path.write_text("http://:pass-word-5678@host")
    monkeypatch.setenv("YOUROUTER_API_KEY", KEY)
    monkeypatch.setenv("REDIS_URL_FILE", str(path))
    said = "REDIS_URL must begin with redis[s]://HOST, sentinel://HOST or redis[s]-cluster://HOST"
    assert worker_says() == client_says() == said


def test_a_wrong_file_is_told_among_the_other_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUROUTER_API_KEY_FILE", "/nowhere/key")
    monkeypatch.setenv("ROUTER_WORKER_LEASE_S", "0")
    monkeypatch.setenv("ROUTER_WORKER_LEASE_S_FILE", "/nowhere/lease")
    with pytest.raises(InvalidSettings) as caught:
        load()
    assert caught.value.mistakes == (
        "YOUROUTER_API_KEY cannot be taken from /nowhere/key: No such file or directory",
        "ROUTER_WORKER_LEASE_S is '0', but must be greater than 0",
        (
            "ROUTER_WORKER_LEASE_S_FILE is not known; was ROUTER_WORKER_LEASE_S meant? "
            "If not, unset it"
        ),
    )


def test_only_the_line_break_at_its_end_is_no_part_of_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for written, secret in ((b"a\n", "a"), (b"a\r\n", "a"), (b" a b ", " a b "), (b"\na\n", "\na")):
        path.write_bytes(written)
        assert secret_in(path) == secret


def test_a_worker_refuses_another_secret_among_the_keys_that_tasks_may_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A task could name it, and the router would be sent it as a key."""
    for name in ("api-key", "redis-url"):
        (tmp_path / name).write_text(GOOD["YOUROUTER_API_KEY" if "key" in name else "REDIS_URL"])
    monkeypatch.setenv("ROUTER_WORKER_CREDENTIALS_DIR", str(tmp_path))
    monkeypatch.setenv("YOUROUTER_API_KEY_FILE", str(tmp_path / "api-key"))
    assert load().credentials_dir == tmp_path
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "redis-url"))
    assert worker_says() == (
        f"ROUTER_WORKER_CREDENTIALS_DIR ({tmp_path}) must hold keys for the router alone, since "
        f"tasks choose among its files; move that of REDIS_URL_FILE ({tmp_path}/redis-url) "
        "elsewhere"
    )


def test_the_folder_of_keys_must_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YOUROUTER_API_KEY", KEY)
    monkeypatch.setenv("ROUTER_WORKER_CREDENTIALS_DIR", "/nowhere")
    assert worker_says() == ("ROUTER_WORKER_CREDENTIALS_DIR is '/nowhere', but must be a folder")
    assert Settings.model_fields["credentials_dir"].default is None
