"""Which key a task is called with, and that a new one is obeyed without a restart."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from api_contracts.errors import ErrorCode, InvalidTask
from worker import credentials as module
from worker.credentials import Credentials
from worker.errors import AttemptFailed

OWN, ACME = "sk-own-1111", "sk-acme-2222"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one key, as a secret's line stands in its file."""
    (tmp_path / "acme").write_text(f"{ACME}\n")
    return tmp_path


@pytest.fixture
def _aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every key be old as soon as it was read."""
    monkeypatch.setattr(module, "FRESH_S", 0.0)


def test_a_task_that_names_no_key_gets_the_workers_own(folder: Path) -> None:
    assert Credentials(OWN, folder).key(None) == OWN
    assert Credentials(OWN, None).key(None) == OWN


def test_a_name_gets_the_key_in_the_file_of_that_name(folder: Path) -> None:
    assert Credentials(OWN, folder).key("acme") == ACME


@pytest.mark.parametrize("has_folder", [True, False])
def test_a_name_that_is_not_there_is_the_tasks_fault_and_no_other_name_is_told(
    folder: Path, *, has_folder: bool
) -> None:
    with pytest.raises(InvalidTask) as caught:
        Credentials(OWN, folder if has_folder else None).key("other")
    assert str(caught.value) == "options.credential: the worker has no key of that name"


@pytest.mark.usefixtures("_aged")
def test_a_key_that_was_replaced_is_obeyed_and_one_that_is_gone_is_unknown(folder: Path) -> None:
    keys = Credentials(OWN, folder)
    assert keys.key("acme") == ACME
    new = folder / "new"
    new.write_text("sk-acme-3333")
    new.rename(folder / "acme")
    assert keys.key("acme") == "sk-acme-3333"
    (folder / "acme").unlink()
    with pytest.raises(InvalidTask):
        keys.key("acme")
    (folder / "acme").write_text(ACME)
    assert keys.key("acme") == ACME


def test_a_secret_of_kubernetes_is_swapped_under_its_links(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kubelet does: the files are links into a link, which is replaced."""
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    for version in ("one", "two"):
        (folder / f"..{version}").mkdir()
        (folder / f"..{version}" / "web").write_text(f"sk-web-{version}")
    (folder / "..data").symlink_to("..one")
    (folder / "web").symlink_to("..data/web")
    keys = Credentials(OWN, folder)
    assert keys.key("web") == "sk-web-one"
    (folder / "..new").symlink_to("..two")
    (folder / "..new").rename(folder / "..data")
    assert keys.key("web") == "sk-web-two"


def test_a_file_is_read_once_a_second_at_most(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    keys = Credentials(OWN, folder)
    assert keys.key("acme") == ACME
    (folder / "acme").write_text("sk-acme-3333")
    now += 0.99
    assert keys.key("acme") == ACME
    now += 0.02
    assert keys.key("acme") == "sk-acme-3333"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\xff", "it is no UTF-8 text"),
        (b"sk-a\nx-evil: 1", "must be printable ASCII in one line, as an HTTP header takes it"),
        (b"x" * 20_000, "it has more than 16384 bytes"),
    ],
)
def test_a_file_without_a_key_fails_the_task_so_that_it_can_be_replayed(
    folder: Path, caplog: pytest.LogCaptureFixture, content: bytes, reason: str
) -> None:
    (folder / "acme").write_bytes(content)
    with pytest.raises(AttemptFailed) as caught, caplog.at_level(logging.ERROR):
        Credentials(OWN, folder).key("acme")
    failure = caught.value.failure
    assert failure.code is ErrorCode.AUTHENTICATION
    assert failure.message == f"the worker cannot use its key of the name acme: {reason}"
    assert caplog.messages == [f"the key of credential acme cannot be used: {reason}"]


@pytest.mark.usefixtures("_aged")
def test_every_key_that_was_given_out_is_hidden_the_longest_first(folder: Path) -> None:
    keys = Credentials("sk-a", folder)
    (folder / "acme").write_text("sk-a-longer")
    keys.key("acme")
    (folder / "acme").write_text(ACME)
    keys.key("acme")
    said = f"neither sk-a nor sk-a-longer, nor {ACME}"
    hidden = "neither (not shown) nor (not shown), nor (not shown)"
    assert keys.hidden(said) == hidden
    assert "sk-" not in repr(keys)
