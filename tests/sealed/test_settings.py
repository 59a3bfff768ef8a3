"""Keys in the environment: of workers and of clients, and what is said of wrong ones."""

import os

import pytest

from api_contracts.client import AsyncClient, Client
from api_contracts.client.protection import Protection
from tests.parts.secrecy import BOTH, ENCRYPTION, NEW, OLD, REQUIRED, SIGNING, WEB
from worker.environment import InvalidSettings, load

CLIENTS = [Client, AsyncClient]
HOW = "make one with: openssl rand -base64 32"
MISTAKES = [
    (
        ENCRYPTION,
        f"{NEW},secret",
        f"must have keys of 32 bytes in base64: key 2 of 2 is none; {HOW}",
    ),
    (SIGNING, NEW, "must read NAME:KEY,NAME:KEY; key 1 of 1 has no name"),
]


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("ROUTER_WORKER_") or name in ("PORT", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("YOUROUTER_API_KEY", "key")


def test_without_keys_there_is_no_protection() -> None:
    protection = load().protection
    assert not protection.keyring
    assert not protection.keyring.required
    assert not protection.signatures
    ours = Protection.of()
    assert not ours.keyring
    assert not ours.signatures


def test_workers_and_clients_read_the_same_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENCRYPTION, BOTH)
    monkeypatch.setenv(REQUIRED, "true")
    monkeypatch.setenv(SIGNING, WEB)
    for protection in (load().protection, Protection.of()):
        assert repr(protection.keyring) == repr(Protection.of(BOTH).keyring)
        assert protection.keyring.required
        assert repr(protection.signatures) == "Signatures(web)"


def test_what_a_client_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENCRYPTION, OLD)
    monkeypatch.setenv(REQUIRED, "yes")
    monkeypatch.setenv(SIGNING, WEB)
    protection = Protection.of("", "", required=False)
    assert not protection.keyring
    assert not protection.keyring.required
    assert not protection.signatures


@pytest.mark.parametrize(("variable", "value", "mistake"), MISTAKES)
def test_a_wrong_key_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, mistake: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as caught:
        load()
    assert caught.value.mistakes == (f"{variable} {mistake}",)
    for client in CLIENTS:
        with pytest.raises(ValueError, match=variable) as told:
            client()
        assert str(told.value) == f"{variable} {mistake}"


def test_encryption_cannot_be_asked_for_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(InvalidSettings) as caught:
        load()
    assert caught.value.mistakes == (
        f"{REQUIRED} needs {ENCRYPTION}, since nothing can be encrypted without a key",
    )
    with pytest.raises(ValueError, match=f"{ENCRYPTION} must have a key, since {REQUIRED} is set"):
        Client()


def test_a_flag_is_true_or_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REQUIRED, "perhaps")
    with pytest.raises(ValueError, match=f"{REQUIRED} must be true or false"):
        Client()


def test_no_key_is_ever_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENCRYPTION, BOTH)
    monkeypatch.setenv(SIGNING, WEB)
    settings = load()
    secrets = [OLD, NEW, WEB.partition(":")[2]]
    for shown in (repr(settings), str(settings.model_dump()), repr(settings.protection)):
        assert not [one for one in secrets if one in shown]
