"""What is encrypted opens with its key, for its task and in its place, and nowhere else."""

import base64
import json
import subprocess
import sys
from hashlib import blake2b
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from api_contracts import jsontext
from api_contracts.client.box import OVERHEAD, PLAIN_EVENT_LIMIT, VERSION, Box, Value, reader
from api_contracts.client.keyring import NO_KEYS, Keyring
from api_contracts.errors import NotOpened, TaskError
from api_contracts.events import EVENT_LIMIT, is_sealed, parse_event
from api_contracts.requests import new_id
from api_contracts.schema import examples
from tests.parts.scripts import chunk
from tests.parts.secrecy import BOTH, NEW, OLD, OTHER, PROMPT, key, key_id

TASK, ANOTHER = examples.TASK_ID, new_id()
#: Whatever a router may send as a chunk.
CHUNKS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5),
    max_size=5,
)
ERROR = json.dumps(
    {"code": "rejected", "message": PROMPT, "retryable": False, "provider_code": PROMPT}
)


def box(keys: str = NEW, task_id: str = TASK, *, required: bool = False) -> Any:
    return Box(Keyring.of(keys, required=required), task_id)


def an_event(data: Any = None, place: int = 1) -> bytes:
    return chunk(TASK, 1, place, jsontext.write({"a": 1} if data is None else data))


def derived(keys: str, info: str) -> bytes:
    """Derive as any program may: HKDF by the package's own."""
    secret = base64.b64decode(keys)
    return HKDF(SHA256(), 32, salt=None, info=info.encode()).derive(secret)


# --- fields -----------------------------------------------------------------------------------


@given(text=st.binary(), name=st.sampled_from(["task", "request", "result", "message"]))
def test_a_field_opens_as_it_was(text: bytes, name: str) -> None:
    sealed = box().seal(name, text)
    assert sealed.startswith(VERSION + key_id(NEW))
    assert len(sealed) == len(text) + OVERHEAD
    assert box().open(name, sealed) == text
    assert box(f"{OTHER},{OLD},{NEW}").open(name, sealed) == text


def test_the_form_is_as_it_is_documented() -> None:
    """Any program that has HKDF and AES-256-GCM can do it."""
    sealed = box().seal("request", b'{"a":1}')
    version, key_of, nonce, rest = sealed[:1], sealed[1:5], sealed[5:17], sealed[17:]
    cipher = AESGCM(derived(NEW, f"router-worker task {TASK}"))
    assert (version, key_of) == (b"\x01", derived(NEW, "router-worker key id")[:4])
    assert cipher.decrypt(nonce, rest, f"{TASK}:request".encode()) == b'{"a":1}'
    theirs = (
        version + key_of + bytes(12) + cipher.encrypt(bytes(12), b"{}", f"{TASK}:task".encode())
    )
    assert box().open("task", theirs) == b"{}"


def test_no_two_texts_have_the_same_nonce() -> None:
    boxes = [box() for _ in range(100)]
    sealed = [one.seal("request", b"") for one in boxes for _ in range(20)]
    assert len({text[5:17] for text in sealed}) == 2000


@pytest.mark.parametrize(
    ("opened_by", "name"),
    [(box(task_id=ANOTHER), "request"), (box(), "result"), (box(), "task")],
    ids=["another task's", "another field", "and another"],
)
def test_a_field_that_was_moved_does_not_open(opened_by: Any, name: str) -> None:
    sealed = box().seal("request", b"{}")
    with pytest.raises(NotOpened, match=f"`{name}` of task .* was altered, or is another") as told:
        opened_by.open(name, sealed)
    assert told.value.reason == "altered"


@given(st.data())
def test_a_field_with_one_bit_changed_does_not_open(data: st.DataObject) -> None:
    sealed = bytearray(box().seal("request", b'{"model":"m"}'))
    place = data.draw(st.integers(1, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(NotOpened):
        box().open("request", bytes(sealed))


@given(st.integers(0, 8 + OVERHEAD))
def test_a_field_that_was_cut_does_not_open(length: int) -> None:
    sealed = box().seal("request", b'{"a": 12}')
    with pytest.raises(NotOpened):
        box(required=True).open("request", sealed[:length])


def test_without_the_key_it_is_said_which_one_is_missing() -> None:
    sealed = box().seal("request", b"{}")
    with pytest.raises(NotOpened) as told:
        box(f"{OLD},{OTHER}").open("request", sealed)
    assert told.value.reason == "no_key"
    known = ", ".join(key_id(one).hex() for one in (OLD, OTHER))
    assert str(told.value) == (
        f"task {TASK} is encrypted with the key {key_id(NEW).hex()}; "
        f"ROUTER_WORKER_ENCRYPTION_KEYS has {known}"
    )


def test_without_any_key_it_is_said_what_to_set() -> None:
    sealed = box().seal("request", b"{}")
    with pytest.raises(NotOpened, match="set ROUTER_WORKER_ENCRYPTION_KEYS to the keys of its"):
        Box(NO_KEYS, TASK).open("request", sealed)


def test_what_is_plain_is_read_as_it_is_unless_it_must_not_be() -> None:
    assert box().open("request", b"{}") == b"{}"
    with pytest.raises(NotOpened, match="not encrypted; ROUTER_WORKER_ENCRYPTION_REQ") as told:
        box(required=True).open("request", b"{}")
    assert told.value.reason == "plain"


# --- rotation ---------------------------------------------------------------------------------


@given(st.permutations([1, 2, 3, 4]), st.integers(1, 4))
def test_the_first_key_encrypts_and_all_decrypt(order: list[int], writer: int) -> None:
    keys = ",".join(map(key, order))
    assert box(keys).seal("request", b"").startswith(VERSION + key_id(key(order[0])))
    assert box(keys).open("request", box(key(writer)).seal("request", b"said")) == b"said"


def test_a_content_is_known_again_after_a_rotation_and_from_before_the_first_key() -> None:
    rings = [NO_KEYS, Keyring.of(OLD), Keyring.of(BOTH)]
    digests = [one.digest(b"content") for one in rings]
    assert len(set(digests)) == 3
    assert digests[0] == blake2b(b"content", digest_size=16).hexdigest(), "as it ever was"
    assert all(rings[2].knows(b"content", one) for one in digests)
    assert not any(rings[2].knows(b"other", one) for one in digests)
    assert not Keyring.of(OTHER).knows(b"content", digests[1])


@given(st.text())
def test_a_digest_of_another_s_making_is_nobody_s(text: str) -> None:
    assert not Keyring.of(BOTH).knows(b"content", text)


# --- events -----------------------------------------------------------------------------------


@given(data=CHUNKS, place=st.integers(0, 10**6))
def test_an_event_opens_as_it_was_and_shows_its_place_before(data: Any, place: int) -> None:
    event = an_event(data, place)
    sealed = box().seal_event(event)
    shown = json.loads(sealed)
    assert shown.pop("sealed")
    assert shown == {"id": f"1-{place}", "task_id": TASK, "type": "chunk", "at": 1}
    assert box(BOTH).open_event(sealed) == event
    assert box(BOTH).read_event(sealed) == parse_event(event)


@pytest.mark.parametrize("kind", examples.EVENTS)
def test_of_every_event_what_it_says_is_encrypted(kind: str) -> None:
    event = parse_event(json.dumps(examples.EVENTS[kind])).model_dump_json(exclude_none=True)
    sealed = box().seal_event(event.encode())
    says = set(examples.EVENTS[kind]) - {"id", "task_id", "type", "at"}
    assert is_sealed(sealed) is bool(says)
    assert set(json.loads(sealed)) == {"id", "task_id", "type", "at"} | (
        {"sealed"} if says else set()
    )
    assert box().read_event(sealed) == parse_event(event)


@given(st.data())
def test_an_event_with_one_byte_changed_is_refused_or_is_the_same(data: st.DataObject) -> None:
    event = an_event({"choices": []})
    sealed = bytearray(box().seal_event(event))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = box().read_event(bytes(sealed))
    except (NotOpened, ValueError):
        return
    assert found == parse_event(event)


@pytest.mark.parametrize("what", ["id", "task_id", "type", "at"])
def test_an_event_does_not_open_in_another_place(what: str) -> None:
    sealed = box().seal_event(an_event())
    others = {"id": "1-2", "task_id": ANOTHER, "type": "failed", "at": "2"}
    before = {"id": "1-1", "task_id": TASK, "type": "chunk", "at": '"at":1'}
    after = others | {"at": '"at":2'}
    moved = sealed.replace(before[what].encode(), after[what].encode())
    assert moved != sealed
    with pytest.raises(NotOpened, match=r"an event of task .* was altered") as told:
        box().read_event(moved)
    assert told.value.reason == "altered"


def test_an_event_of_another_task_does_not_open() -> None:
    with pytest.raises(NotOpened, match="was altered, or is another task's"):
        box(task_id=ANOTHER).read_event(box().seal_event(an_event()))


def test_a_reader_without_a_key_is_told_what_to_set() -> None:
    sealed = box().seal_event(an_event())
    for read in (parse_event, reader(NO_KEYS, TASK)):
        with pytest.raises(NotOpened, match="is encrypted: set ROUTER_WORKER_ENCRYPTION_KEYS"):
            read(sealed)
    with pytest.raises(NotOpened, match="is encrypted"):
        parse_event(sealed.decode())


def test_a_plain_answer_is_not_believed_where_it_must_be_encrypted() -> None:
    wary = box(required=True)
    for kind in ("chunk", "completed"):
        with pytest.raises(NotOpened, match="not encrypted"):
            wary.read_event(json.dumps(examples.EVENTS[kind]).encode())
    for kind in ("queued", "started", "stored", "cancelled", "expired"):
        assert wary.read_event(json.dumps(examples.EVENTS[kind]).encode()).type == kind
    assert wary.read_event(box().seal_event(an_event())).type == "chunk"


def test_a_plain_event_that_speaks_of_sealed_things_is_plain() -> None:
    event = an_event({"sealed": "x", "deep": ',"sealed":"x"}'})
    assert not is_sealed(event)
    assert box().open_event(event) == event


def test_words_of_one_length_or_another_make_events_of_one_length() -> None:
    """So that nobody guesses tokens by the lengths of chunks."""
    words = ["I", "do", "not", "know", "about", "secret"]
    lengths = {len(box().seal_event(an_event({"content": word}))) for word in words}
    assert len(lengths) == 1


@given(st.integers(0, 200))
def test_an_event_that_may_carry_a_result_is_within_the_limit_when_it_is_encrypted(
    less: int,
) -> None:
    rest = PLAIN_EVENT_LIMIT - len(an_event("")) - less
    event = an_event("x" * rest)
    assert len(event) == PLAIN_EVENT_LIMIT - less
    assert EVENT_LIMIT - 1500 < len(box().seal_event(event)) <= EVENT_LIMIT
    assert (box().event_limit, Box(NO_KEYS, TASK).event_limit) == (PLAIN_EVENT_LIMIT, EVENT_LIMIT)


def test_what_does_not_begin_as_an_event_is_not_let_through() -> None:
    with pytest.raises(ValueError, match="does not begin as events do"):
        box().seal_event(json.dumps(examples.EVENTS["chunk"]).encode())


# --- errors -----------------------------------------------------------------------------------


def test_an_error_keeps_its_code_and_hides_its_words() -> None:
    sealed = box().seal_error(ERROR)
    assert PROMPT not in sealed
    shown = TaskError.model_validate_json(sealed)
    assert (shown.code, shown.retryable, shown.provider_code) == ("rejected", False, None)
    assert shown.message == (
        "The router or the provider refused the request as it stands. What was said is encrypted: "
        "set ROUTER_WORKER_ENCRYPTION_KEYS to the keys of its producers and workers."
    )
    opened = TaskError.model_validate_json(box().open_error(sealed.encode()))
    assert opened == TaskError.model_validate_json(ERROR)


@pytest.mark.parametrize("other", [box(OLD), box(task_id=ANOTHER), Box(NO_KEYS, TASK)])
def test_an_error_that_does_not_open_is_shown_without_its_words(other: Any) -> None:
    sealed = box().seal_error(ERROR).encode()
    assert other.open_error(sealed) == sealed


@given(st.text())
def test_an_error_of_another_s_making_is_read_as_it_is(text: str) -> None:
    for said in (text, f'{{"sealed":{json.dumps(text)}}}', f'["sealed"{text}', '{"sealed":[7]}'):
        assert box().open_error(said.encode()) == said.encode()


# --- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("short", "key 1 of 1 is none; make one with: openssl rand -base64 32"),
        (f"{NEW},", "key 2 of 2 is none"),
        (f"{NEW},{NEW[:-4]}", "key 2 of 2 is none"),
        (base64.b64encode(bytes(33)).decode(), "must have keys of 32 bytes in base64"),
        (f"{NEW[:-2]}☃=", "must have keys of 32 bytes in base64"),
    ],
)
def test_what_is_no_key_is_named_and_not_quoted(text: str, mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake) as told:
        Keyring.of(text)
    assert NEW[:8] not in str(told.value)
    assert text not in str(told.value)


def test_keys_may_have_space_around_them_or_be_in_the_base64_of_urls() -> None:
    secret = b"\xfb\xff" * 16
    ring = Keyring.of(f" {base64.urlsafe_b64encode(secret).decode()} , {NEW}\n")
    assert ring.ids == f"{Keyring([secret]).ids}, {Keyring.of(NEW).ids}"
    assert not Keyring.of(" \n")
    assert repr(ring) == f"Keyring({ring.ids})"


def test_nothing_can_be_asked_for_without_a_key() -> None:
    with pytest.raises(ValueError, match="must have a key"):
        Keyring.of("", required=True)


def test_without_a_key_everything_stays_the_very_object_that_it_was() -> None:
    plain = Box(NO_KEYS, TASK)
    text, event = b"{}", an_event()
    fields: dict[str, Value] = {"result": b"{}", "error": ERROR}
    assert plain.seal("request", text) is plain.open("request", text) is text
    assert plain.seal_event(event) is plain.open_event(event) is event
    assert plain.seal_fields(fields) is fields
    assert reader(NO_KEYS, TASK) is parse_event


def test_the_package_is_imported_for_those_who_have_a_key() -> None:
    code = (
        "import sys; import worker.settings, api_contracts.client as client; client.Client(); "
        "print('cryptography.hazmat.primitives.ciphers.aead' in sys.modules); "
        "sys.modules['cryptography.hazmat.primitives.ciphers.aead'] = None; "
        f"client.Client(encryption_keys='{NEW}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n"
    assert done.stderr.splitlines()[-1] == (
        "ValueError: ROUTER_WORKER_ENCRYPTION_KEYS needs the package cryptography: "
        "pip install 'router-worker[crypto]'"
    )
