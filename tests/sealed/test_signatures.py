"""A task is what its producer has signed, or it is not signed."""

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from api_contracts.client.signatures import GOOD_MS, NO_SIGNATURES, NotSigned, Said, Signatures
from api_contracts.schema import examples
from tests.parts.secrecy import BILLING, NEW, WEB

TASK = examples.TASK_ID
SAID = Said(TASK, "chat", b'{"kind":"chat"}', b'{"model":"m"}')
AT = 1_800_000_000_000
BOTH = Signatures.of(f"{WEB},{BILLING}")

said = st.builds(Said, st.text(), st.text(), st.binary(), st.binary())


def refusal(
    signature: bytes | None, what: Said = SAID, *, by: Signatures = BOTH, now: int = AT
) -> NotSigned:
    with pytest.raises(NotSigned) as told:
        by.check(signature, what, now)
    return told.value


@given(said)
def test_what_is_signed_is_taken_by_whoever_knows_the_producer(what: Said) -> None:
    for producer in (WEB, BILLING):
        signature = Signatures.of(producer).sign(what, AT).encode()
        BOTH.check(signature, what, AT)


def test_the_form_is_as_it_is_documented() -> None:
    """Any program that has HMAC can do it."""
    name, _, key = WEB.partition(":")
    lines = f"router-worker task 1\n{name}\n{AT}\n{TASK}\nchat\n{len(SAID.task)}\n".encode()
    mac = hmac.new(base64.b64decode(key), lines + SAID.task + SAID.request, hashlib.sha256)
    assert Signatures.of(f"{WEB},{BILLING}").sign(SAID, AT) == f"web {AT} {mac.hexdigest()}"


@given(said, said)
def test_a_signature_is_good_for_one_task_alone(one: Said, other: Said) -> None:
    assume(one != other)
    signature = BOTH.sign(one, AT).encode()
    assert refusal(signature, other).reason == "forged"


def test_body_and_envelope_cannot_be_cut_elsewhere() -> None:
    signature = BOTH.sign(SAID, AT).encode()
    moved = SAID._replace(task=SAID.task + SAID.request[:1], request=SAID.request[1:])
    assert refusal(signature, moved).reason == "forged"


@pytest.mark.parametrize(
    ("before", "after"), [("web", "billing"), (str(AT), str(AT + 1)), (" ", "  ")]
)
def test_a_signature_that_was_changed_is_none(before: str, after: str) -> None:
    signature = BOTH.sign(SAID, AT).replace(before, after, 1).encode()
    assert refusal(signature).reason in ("forged", "unsigned")


@pytest.mark.parametrize(
    "text", [b"", b"web", b"\xff" * 99, b"web 1 " + b"0" * 63, b"\xd9\xa1 1 a"]
)
def test_what_is_no_signature_is_said_to_be_none(text: bytes) -> None:
    assert refusal(text).reason == "unsigned"
    assert "has a signature that is none" in str(refusal(text))


def test_a_task_without_a_signature_is_unsigned() -> None:
    error = refusal(None)
    assert (error.reason, str(error)) == (
        "unsigned", "is not signed; this worker obeys known producers alone",
    )  # fmt: skip


def test_a_producer_whose_key_was_taken_away_is_named() -> None:
    signature = Signatures.of(WEB).sign(SAID, AT).encode()
    error = refusal(signature, by=Signatures.of(BILLING))
    assert error.reason == "unknown"
    assert str(error) == "is signed by web, whom this worker does not know"


def test_a_producer_cannot_sign_as_another() -> None:
    _, _, key = WEB.partition(":")
    signature = Signatures.of(f"billing:{key}").sign(SAID, AT).encode()
    assert refusal(signature).reason == "forged"


def test_an_old_signature_is_good_no_longer() -> None:
    signature = BOTH.sign(SAID, AT).encode()
    BOTH.check(signature, SAID, AT + GOOD_MS)
    error = refusal(signature, now=AT + GOOD_MS + 1)
    assert (error.reason, str(error)) == ("old", "was signed 30 days ago; that is good for 30")


def test_a_forged_moment_says_nothing_of_age() -> None:
    signature = BOTH.sign(SAID, AT - 2 * GOOD_MS).replace(str(AT - 2 * GOOD_MS), str(AT))
    assert refusal(signature.encode()).reason == "forged"


def test_where_nobody_has_a_key_nobody_asks() -> None:
    assert not NO_SIGNATURES
    NO_SIGNATURES.check(None, SAID, AT)
    NO_SIGNATURES.check(b"anything", SAID, AT)


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (NEW, "must read NAME:KEY,NAME:KEY; key 1 of 1 has no name"),
        (f"{WEB},a b:{NEW}", "key 2 of 2 has no name"),
        (f"{WEB},", "key 2 of 2 has no name"),
        (f"{WEB},{WEB}", "must not have a name twice; key 2 of 2 does"),
        ("web:secret", "must have keys of 32 bytes in base64: key 1 of 1 is none"),
    ],
)
def test_what_is_no_key_is_named_and_not_quoted(text: str, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake) as told:
        Signatures.of(text)
    assert NEW[:8] not in str(told.value)
    assert "secret" not in str(told.value)


def test_names_are_shown_and_keys_are_not() -> None:
    shown: Any = repr(BOTH)
    assert shown == "Signatures(web, billing)"
