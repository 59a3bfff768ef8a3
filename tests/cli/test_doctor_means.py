"""What `doctor` makes of answers: each reading, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from api_contracts.client.keyring import Keyring
from api_contracts.client.signatures import Signatures
from api_contracts.errors import ErrorCode
from api_contracts.names import Queue
from tests.parts.secrecy import BILLING, NEW, OLD, WEB, key_id
from tests.top.readings import IDS, NOW, a_letter, a_reading, a_sign, a_task, an_error, doorbell
from worker.cli.doctor import fleet, secrecy, setup, upstream, watching
from worker.cli.doctor.finding import Finding, advice, bad, good, listed, unseen
from worker.cli.doctor.server import Server, check_broker, check_records
from worker.cli.doctor.setup import SecretFile
from worker.cli.doctor.watching import ALERTS, Alert, Page, Rule, Watcher
from worker.cli.top.model import overview
from worker.errors import Failure
from worker.settings import Settings
from worker.store.rights import Tried
from worker.store.view import Letter, Mark, Reading, Sign


def marks(found: list[Finding]) -> dict[str, str]:
    """The checks that are not simply ok, with what they are."""
    return {finding.check: finding.mark for finding in found if finding.mark != "ok"}


def test_a_finding_is_marked_by_whether_it_is_well_and_whether_something_is_to_be_done() -> None:
    found = [good("a", "b"), advice("a", "b", "c"), bad("a", "b", "c"), unseen("a", "b", "c")]
    assert [finding.mark for finding in found] == ["ok", "advice", "WRONG", "?"]


@pytest.mark.parametrize(
    ("names", "said"), [([], ""), (["a"], "a"), (list("abcde"), "a, b, c, d, e"),
    (list("abcdefg"), "a, b, c, d, e and 2 more")],
)  # fmt: skip
def test_no_more_names_are_listed_than_can_be_read(names: list[str], said: str) -> None:
    assert listed(names) == said


# --- Redis ----------------------------------------------------------------------------------------

HEALTHY = {
    "redis_version": "7.2.4", "aof_enabled": 1, "maxmemory_policy": "noeviction",
    "used_memory": 500, "maxmemory": 1000,
}  # fmt: skip

INFOS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {}),
    ({"redis_version": "6.2.0"}, {}),
    ({"redis_version": "6.0.16"}, {"redis": "WRONG"}),
    ({"redis_version": "10.1.0"}, {}),
    ({"redis_version": None}, {"redis": "WRONG"}),
    ({"role": "slave"}, {"redis": "WRONG"}),
    ({"role": "master"}, {}),
    ({"aof_enabled": 0}, {"persistence": "WRONG"}),
    ({"aof_last_write_status": "err"}, {"persistence": "WRONG"}),
    ({"aof_last_write_status": "ok"}, {}),
    ({"aof_last_bgrewrite_status": "err"}, {"persistence": "advice"}),
    ({"rdb_last_bgsave_status": "err"}, {"persistence": "advice"}),
    ({"maxmemory_policy": "volatile-lru"}, {"eviction": "WRONG"}),
    ({"used_memory": 849}, {}),
    ({"used_memory": 850}, {"memory": "advice"}),
    ({"used_memory": 999}, {"memory": "advice"}),
    ({"used_memory": 1000}, {"memory": "WRONG"}),
    ({"maxmemory": 0}, {"memory": "advice"}),
    ({"maxmemory": "much"}, {"memory": "?"}),
    ({"total_system_memory": 1001}, {}),
    ({"total_system_memory": 1000}, {"memory": "advice"}),
    ({"connected_clients": 84, "maxclients": 100}, {}),
    ({"connected_clients": 85, "maxclients": 100}, {"connections": "advice"}),
    ({"connected_clients": 85}, {}),
    ({"connected_slaves": 1}, {}),
    ({"connected_slaves": 2}, {"replicas": "advice"}),
    ({"connected_slaves": 2, "min_slaves_good_slaves": 2}, {}),
    ({"connected_slaves": 2, "min_slaves_good_slaves": 0}, {"replicas": "WRONG"}),
    ({"connected_slaves": 0, "min_slaves_good_slaves": 0}, {"replicas": "WRONG"}),
]


@pytest.mark.parametrize(("info", "expected"), INFOS)
def test_what_a_server_says_of_itself(info: dict[str, Any], expected: dict[str, str]) -> None:
    found = list(check_records("redis://h", Server(HEALTHY | info, 0.0)))
    assert marks(found) == expected
    assert all(bool(finding.do) is (finding.mark != "ok") for finding in found)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"skew_s": 0.9}, {}), ({"skew_s": -0.9}, {}),
        ({"skew_s": 1.1}, {"clock": "WRONG"}), ({"skew_s": -1.1}, {"clock": "WRONG"}),
        ({"skew_s": None}, {"clock": "?"}),
        ({"trip_s": 0.010}, {}), ({"trip_s": 0.011}, {"latency": "advice"}),
    ],
)  # fmt: skip
def test_how_far_a_server_is_away_in_time_and_space(
    told: dict[str, Any], expected: dict[str, str]
) -> None:
    found = list(check_records("redis://h", Server(HEALTHY, **{"skew_s": 0.0, **told})))
    assert marks(found) == expected


def test_how_full_a_memory_is_is_told_in_figures() -> None:
    info = HEALTHY | {"used_memory": 1_900 * 2**20, "maxmemory": 2_048 * 2**20}
    found = {one.check: one for one in check_records("redis://h", Server(info))}
    assert found["memory"].says == "1900 MiB of 2048 MiB (93%): full, it refuses"


def test_an_info_without_what_is_asked_for_is_left_open() -> None:
    found = {one.check: one for one in check_records("redis://h:1", Server())}
    assert {name: one.ok for name, one in found.items()} == {
        "redis": None,
        "persistence": None,
        "eviction": None,
        "memory": None,
        "clock": None,
        "latency": True,
    }
    assert found["redis"].says.startswith("answers at h:1")


def test_a_broker_of_its_own_is_named_without_its_password() -> None:
    server = Server(HEALTHY, depths={"router.interactive": 3, "router.batch": 0})
    broker, memory, queues = check_broker("redis://u:hunter2@h:7/1", server, same=False)
    assert broker.says == "answers at h:7"
    assert (memory.check, memory.says) == ("broker", "its memory: 0 MiB of 0 MiB (50%)")
    assert queues.says == "waiting: 3 in router.interactive, 0 in router.batch"


# --- the ways -------------------------------------------------------------------------------------

OPEN, USER = {"tls": "advice"}, {"user": "advice"}
WAYS: list[tuple[dict[str, str], dict[str, str]]] = [
    ({}, {}),
    ({"REDIS_URL": "redis://localhost/0"}, {}),
    ({"REDIS_URL": "redis://127.1.2.3/0"}, {}),
    ({"REDIS_URL": "redis://[::1]:6379/0"}, {}),
    ({"REDIS_URL": "redis://redis.internal/0"}, OPEN | USER),
    ({"REDIS_URL": "redis://10.0.0.1/0"}, OPEN | USER),
    ({"REDIS_URL": "redis://:hunter2@redis/0"}, OPEN | USER),
    ({"REDIS_URL": "redis://default:hunter2@redis/0"}, OPEN | USER),
    ({"REDIS_URL": "redis://worker:hunter2@redis/0"}, OPEN),
    ({"REDIS_URL": "rediss://worker:hunter2@redis/0"}, {}),
    ({"REDIS_URL": "rediss://worker:hunter2@redis/0?ssl_ca_certs=/ca"}, {}),
    ({"REDIS_URL": "rediss://worker:hunter2@redis/0?ssl_cert_reqs=none"}, OPEN),
    ({"REDIS_URL": "rediss://redis/0"}, USER),
    ({"REDIS_URL": "sentinel://a:1,[::1]:2/0?master_name=m"}, OPEN | USER),
    ({"REDIS_URL": "sentinel://worker:hunter2@a,b/0?master_name=m"}, OPEN),
    ({"REDIS_URL": "sentinel://localhost,127.0.0.1/0?master_name=m"}, {}),
    ({"ROUTER_WORKER_BROKER_URL": "redis://worker:hunter2@queues/0"}, OPEN),
    ({"ROUTER_WORKER_BROKER_URL": "amqp://worker:hunter2@queues/v"}, OPEN),
    ({"ROUTER_WORKER_BROKER_URL": "amqp://:hunter2@queues"}, OPEN | USER),
    ({"ROUTER_WORKER_BROKER_URL": "amqps://guest:hunter2@queues"}, USER),
    ({"ROUTER_WORKER_BROKER_URL": "amqps://worker:hunter2@queues"}, {}),
    ({"ROUTER_WORKER_BROKER_URL": "amqp://localhost/v"}, {}),
    ({"ROUTER_WORKER_BASE_URL": "http://router.internal"}, OPEN),
    ({"ROUTER_WORKER_BASE_URL": "http://127.0.0.1:8089"}, {}),
]


@pytest.mark.parametrize(("told", "expected"), WAYS)
def test_what_goes_unencrypted_or_as_anybody_is_told_without_passwords(
    told: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    found = list(setup.check_ways(Settings(YOUROUTER_API_KEY="k")))
    assert marks(found) == expected
    assert "hunter2" not in repr(found)
    assert all(next(iter(told)) in one.says for one in found)


@pytest.mark.parametrize(
    ("mode", "fixed", "mark"),
    [
        (0o600, False, "ok"), (0o640, False, "ok"), (0o644, False, "advice"),
        (0o604, False, "advice"), (0o444, True, "ok"),
    ],
)  # fmt: skip
def test_who_may_read_a_secret(mode: int, fixed: bool, mark: str) -> None:  # noqa: FBT001 - a column of the table
    (finding,) = setup.check_files((SecretFile("X_FILE", Path("/etc/x"), mode, fixed),))
    assert finding.mark == mark


def test_without_files_nothing_is_said_of_them() -> None:
    assert list(setup.check_files(())) == []


# --- rights, keys and signatures ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tried", "mark", "words"),
    [
        (Tried(), "ok", "all that a worker does"),
        (Tried(("XLEN on k", "TIME")), "WRONG", "XLEN on k, TIME"),
        (Tried(unknown=("XLEN on k",)), "WRONG", "does not know: XLEN on k"),
        (Tried(untried="MULTI: no"), "?", "(MULTI: no)"),
    ],
)
def test_what_a_user_may_not(tried: Tried, mark: str, words: str) -> None:
    (finding,) = secrecy.check_rights(tried)
    assert finding.mark == mark
    assert words in finding.says + finding.do


def sealed(text: str) -> Mark:
    """A task that is encrypted with this key."""
    return Mark(b"\x01" + key_id(text), b"")


PLAIN = Mark(b'{"kin', b"")
#: Keys, whether encryption must be, open tasks, dead letters; and what is not ok.
SEALED: list[tuple[str, bool, list[Mark], list[Mark], list[str]]] = [
    ("", False, [], [], []),
    ("", False, [PLAIN], [PLAIN], []),
    ("", False, [PLAIN, sealed(NEW)], [], ["WRONG"]),
    ("", False, [], [sealed(NEW)], ["advice"]),
    (NEW, False, [PLAIN, sealed(NEW)], [sealed(NEW)], ["ok"]),
    (NEW, False, [sealed(OLD)], [], ["WRONG"]),
    (NEW, False, [sealed(OLD)], [sealed(OLD)], ["WRONG", "advice"]),
    (NEW, False, [], [sealed(OLD)], ["advice", "ok"]),
    (f"{NEW},{OLD}", False, [sealed(OLD)], [sealed(OLD)], ["ok"]),
    (NEW, True, [sealed(NEW)], [PLAIN], ["ok"]),
    (NEW, True, [PLAIN, Mark(b"", b""), Mark(b"\x01\x02", b"")], [], ["WRONG", "ok"]),
]


@pytest.mark.parametrize(("keys", "required", "tasks", "letters", "expected"), SEALED)
def test_what_is_encrypted_is_held_against_the_keys(
    keys: str,
    required: bool,  # noqa: FBT001 - a column of the table
    tasks: list[Mark],
    letters: list[Mark],
    expected: list[str],
) -> None:
    found = list(secrecy.check_encryption(Keyring.of(keys, required=required), tasks, letters))
    assert [finding.mark for finding in found] == expected
    assert NEW not in repr(found)


def signed(name: str) -> Mark:
    """A task that somebody has signed, as its signature says it."""
    return Mark(b"", f"{name} 1 {'0' * 64}".encode())


@pytest.mark.parametrize(
    ("keys", "tasks", "expected"),
    [
        ("", [Mark(b"", b""), signed("x")], []),
        (WEB, [], ["ok"]),
        (WEB, [signed("web")], ["ok"]),
        (WEB, [signed("web"), Mark(b"", b"")], ["WRONG"]),
        (WEB, [signed("\x1b[2J")], ["WRONG"]),
        (WEB, [signed("billing")], ["WRONG"]),
        (f"{WEB},{BILLING}", [signed("billing")], ["ok"]),
        (WEB, [signed("billing"), Mark(b"", b"\xff" * 200)], ["WRONG", "WRONG"]),
    ],
)
def test_who_has_signed_is_held_against_who_is_known(
    keys: str, tasks: list[Mark], expected: list[str]
) -> None:
    found = list(secrecy.check_signatures(Signatures.of(keys), tasks))
    assert [finding.mark for finding in found] == expected
    assert "\x1b" not in "".join(finding.says for finding in found)


# --- workers and tasks ----------------------------------------------------------------------------


def look(**parts: Any) -> list[Finding]:
    """What is found in such a reading."""
    reading = a_reading(**parts)
    return list(fleet.check_fleet(reading, overview(reading)))


def waiting(**ages_s: float) -> dict[Queue, tuple[int, bytes]]:
    """Queues whose oldest doorbell has waited so long."""
    ages = {Queue["INTERACTIVE"]: ages_s.get("interactive"), Queue["BATCH"]: ages_s.get("batch")}
    return {
        queue: (0, b"") if age is None else (3, doorbell(NOW - int(age * 1000)))
        for queue, age in ages.items()
    }


FULL = a_sign(slots=4, taken=4)
SILENT, DEAF = a_sign("silent", ago_ms=11_000), a_sign("deaf", fault="deaf")
READINGS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    # Workers.
    ({"signs": [a_sign()]}, []),
    ({}, [("workers", "advice")]),
    ({"open_tasks": 1}, [("workers", "WRONG")]),
    ({"signs": [SILENT], "open_tasks": 1}, [("workers", "WRONG"), ("workers", "advice")]),
    ({"signs": [a_sign(), SILENT]}, [("workers", "advice")]),
    ({"signs": [a_sign(), DEAF]}, [("workers", "advice")]),
    ({"signs": [a_sign("a"), Sign("b", NOW, None)]}, [("workers", "advice")]),
    ({"signs": [a_sign(), *[DEAF] * 9]}, [("workers", "advice")] * 6),
    # Clocks.
    ({"signs": [a_sign(ago_ms=-900)]}, []),
    ({"signs": [a_sign(ago_ms=-1100)]}, [("clock", "WRONG")]),
    # Waiting.
    ({"signs": [FULL], "queues": waiting(interactive=9)}, []),
    ({"signs": [FULL], "queues": waiting(interactive=11)}, [("waiting", "advice")]),
    ({"signs": [FULL], "queues": waiting(batch=9_999)}, []),
    ({"signs": [FULL, a_sign("b")], "queues": waiting(batch=11)}, [("waiting", "advice")]),
    ({"queues": waiting(interactive=99), "open_tasks": 3}, [("workers", "WRONG")]),
    # Overdue.
    ({"signs": [a_sign()], "soonest_ms": NOW - 29_000, "open_tasks": 1}, []),
    ({"signs": [a_sign()], "soonest_ms": NOW - 31_000, "open_tasks": 1}, [("overdue", "WRONG")]),
    ({"signs": [a_sign()], "soonest_ms": float("-inf")}, [("overdue", "WRONG")]),
    ({"signs": [a_sign()], "soonest_ms": float("inf")}, []),
    ({"soonest_ms": NOW - 31_000}, [("workers", "advice")]),
    # Dead letters.
    ({"signs": [a_sign()], "letters": [a_letter()]}, [("dead letters", "advice")]),
    ({"signs": [a_sign()], "dead_letters": 3}, [("dead letters", "advice")]),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "expected"), READINGS)
def test_what_workers_and_tasks_mean(
    parts: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    found = look(**parts)
    assert [(one.check, one.mark) for one in found if one.mark != "ok"] == expected


def said(found: list[Finding], check: str) -> str:
    return next(one.says for one in found if one.check == check)


def test_a_queue_that_no_free_worker_serves_is_told_from_one_that_is_full() -> None:
    full = look(signs=[FULL], queues=waiting(interactive=11))
    assert said(full, "waiting") == "router.interactive: 3 wait, the oldest for 11 s; 0 slots free"
    assert "start more workers" in next(one.do for one in full if one.check == "waiting")
    free = look(signs=[a_sign()], queues=waiting(batch=11))
    assert "ROUTER_WORKER_QUEUES" in next(one.do for one in free if one.check == "waiting")


def test_dead_letters_name_their_reasons_and_what_mends_them() -> None:
    letters = [
        a_letter(IDS[0], NOW - 90_000, error=an_error("payment_required")),
        a_letter(IDS[1], NOW - 95_000, kind="message", error=an_error("invalid_request")),
        a_letter(IDS[2], NOW - 99_000, error="\x1b[2J"),
    ]
    found = look(signs=[a_sign()], letters=letters, dead_letters=70)
    assert said(found, "dead letters") == (
        "70: 1 payment_required, 1 no task, 1 unknown (of the last 50); the newest died 90 s ago"
    )
    do = next(one.do for one in found if one.check == "dead letters")
    assert do.startswith("top up the router's account; router-worker dead list")


def test_only_models_without_a_price_are_named() -> None:
    models = ("cheap", "dear\x1b[2J", None)
    tasks = {one: a_task(model=model) for one, model in zip(IDS, models, strict=False)}
    reading = a_reading(tasks=tasks, letters=[a_letter(model="old")])
    assert list(fleet.check_prices({}, reading)) == []
    (finding,) = fleet.check_prices({"cheap": 1}, reading)
    assert finding.says.startswith("no price for dear[2J, old: ")
    (finding,) = fleet.check_prices({"cheap": 1, "dear\x1b[2J": 1, "old": 1}, reading)
    assert finding.mark == "ok"


ANY_TIME = st.floats(allow_nan=False) | st.integers(-(2**63), 2**63).map(float)


@hypothesis.given(
    signs=st.lists(st.builds(Sign, st.text(), ANY_TIME, st.sampled_from([None, FULL.said]))),
    oldest=st.binary(max_size=30) | st.integers().map(doorbell),
    soonest=st.none() | ANY_TIME,
    counts=st.tuples(st.integers(0), st.integers(0)),
    letters=st.lists(
        st.builds(a_letter, st.text(), ANY_TIME, error=st.binary(), kind=st.text()), max_size=3
    ),
)
def test_whatever_stands_on_redis_something_is_found(
    signs: list[Sign],
    oldest: bytes,
    soonest: float | None,
    counts: tuple[int, int],
    letters: list[Letter],
) -> None:
    reading: Reading = a_reading(
        signs=signs,
        queues={Queue.INTERACTIVE: (1, oldest), Queue.BATCH: (0, b"")},
        soonest_ms=soonest,
        open_tasks=counts[0],
        dead_letters=counts[1],
        letters=letters,
    )
    found = [*fleet.check_fleet(reading, overview(reading)), *fleet.check_prices({"m"}, reading)]
    assert {"workers", "dead letters"} <= {one.check for one in found}
    assert json.dumps([one.says for one in found])


# --- the router -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "ok", "words"),
    [
        (200, True, "it is there"),
        (204, True, "it is there"),
        (301, False, "redirects are not followed"),
        (401, False, "does not take the key"),
        (402, False, "cannot pay"),
        (403, False, "does not take the key"),
        (404, True, "the key was not judged"),
        (405, True, "the key was not judged"),
        (429, True, "at its rate limit"),
        (500, False, "in trouble"),
        (503, False, "in trouble"),
        (999, False, "that is no answer"),
    ],
)
def test_what_the_routers_status_means(status: int, ok: bool, words: str) -> None:  # noqa: FBT001 - a column of the table
    finding = upstream.check_router("http://r", status, key_set=True)
    assert finding.ok is ok
    assert f"http://r answers HTTP {status} to GET /v1/models: " in finding.says
    assert words in finding.says + finding.do


def test_a_router_that_cannot_be_reached_is_wrong_with_the_reason() -> None:
    failure = Failure(ErrorCode.CONNECTION, "TLS failed")
    finding = upstream.check_router("http://r", failure, key_set=True)
    assert (finding.ok, finding.says) == (False, "http://r: TLS failed")


def test_keys_are_judged_where_the_router_does() -> None:
    answers: dict[str, int | Failure] = {
        "good": 200, "bad": 401, "banned": 403, "broke": 402, "unknown": 404, "busy": 429,
        "lost": Failure(ErrorCode.CONNECTION), "odd": 999,
    }  # fmt: skip
    assert upstream.judged(answers) == {
        "good": "",
        "bad": "the router does not take this key",
        "banned": "the router does not take this key",
        "broke": "the account of this key cannot pay",
    }


# --- metrics, alerts and traces -------------------------------------------------------------------

AWAY = b'{"failed":{"redis":"is\\u001b away"}}'


@pytest.mark.parametrize(
    ("answer", "mark", "words"),
    [
        (None, "ok", "h:1 is free"),
        ("no answer within 5 s", "WRONG", "gives no answer: no answer within 5 s"),
        (Page(200, "nginx", b""), "WRONG", "another program"),
        (Page(200, "", b""), "WRONG", "another program"),
        (Page(200, "router-worker ", b""), "ok", "is ready"),
        (Page(503, "router-worker ", AWAY), "WRONG", "not ready: redis: is away"),
        (Page(503, "router-worker ", b"oops"), "WRONG", "cannot be read"),
        (Page(503, "router-worker ", b'{"failed":7}'), "WRONG", "cannot be read"),
        (Page(500, "router-worker ", b"[" * 9999), "WRONG", "cannot be read"),
    ],
)  # fmt: skip
def test_who_answers_on_the_port(answer: Page | str | None, mark: str, words: str) -> None:
    finding = watching.check_port("h:1", answer)
    assert finding.mark == mark
    assert words in finding.says


RULES = [Rule(name, health="ok") for name in ALERTS]


def firing(severity: str, count: int = 1) -> list[Rule]:
    """All rules, of which the first fires."""
    alerts = [Alert("firing", {"summary": "A worker\n is gone"})] * count
    runbook = {"runbook_url": "deploy/README.md#x"}
    first = Rule(ALERTS[0], "ok", "", {"severity": severity}, runbook, [*alerts, Alert("pending")])
    return [first, *RULES[1:]]


#: What Prometheus said, how many workers live; and what is not ok.
WATCHERS: list[tuple[dict[str, Any], int | None, list[tuple[str, str]]]] = [
    ({}, 1, []),
    ({"unreachable": "no"}, 1, [("prometheus", "WRONG")]),
    ({"up": {}}, None, [("prometheus", "WRONG")]),
    ({"up": {"a": True, "b": False}}, 1, [("prometheus", "WRONG")]),
    ({"up": {"a": True, "b": True}}, 2, []),
    ({}, 2, [("prometheus", "advice")]),
    ({}, 0, []),
    ({"versions": ["1", "2"]}, 1, [("versions", "advice")]),
    ({"rules": []}, 1, [("alert rules", "WRONG")]),
    ({"rules": [Rule("Other", alerts=[Alert("firing")])]}, 1, [("alert rules", "WRONG")]),
    ({"rules": RULES[1:]}, 1, [("alert rules", "advice")]),
    ({"rules": [Rule(ALERTS[0], "err"), *RULES[1:]]}, 1, [("alert rules", "WRONG")]),
    ({"rules": firing("page")}, 1, [("alerts", "WRONG")]),
    ({"rules": firing("ticket")}, 1, [("alerts", "advice")]),
]


@pytest.mark.parametrize(("told", "living", "expected"), WATCHERS)
def test_what_prometheus_means(
    told: dict[str, Any], living: int | None, expected: list[tuple[str, str]]
) -> None:
    known: dict[str, Any] = {"up": {"a": True}, "versions": ["1"], "rules": RULES}
    found = list(watching.check_prometheus(Watcher("p:9090", **{**known, **told}), living))
    assert [(one.check, one.mark) for one in found if one.mark != "ok"] == expected


def test_an_alert_is_told_once_with_its_runbook_however_often_it_fires() -> None:
    watcher = Watcher("p", up={"a": True}, rules=firing("page", 3))
    (finding,) = (one for one in watching.check_prometheus(watcher, 1) if one.check == "alerts")
    assert finding.says == "RouterWorkerGone fires (3 times): A worker is gone"
    assert finding.do == "deploy/README.md#x"


@pytest.mark.parametrize(
    "page",
    [
        Page(404, "", b"{}"), Page(200, "", b""), Page(200, "", b"[]"), Page(200, "", b"[" * 9999),
        Page(200, "", b'{"data":{"result":[1]}}'), Page(200, "", b'{"data":{"groups":[1]}}'),
    ],
)  # fmt: skip
def test_what_is_no_prometheus_is_told_from_one(page: Page) -> None:
    for read in (watching.read_samples, watching.read_rules):
        with pytest.raises(ValueError, match=r"HTTP 404|is no Prometheus's"):
            read(page)
