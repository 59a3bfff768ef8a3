"""`doctor` against what it should find: healthy, wrong, unreadable and away."""

from pathlib import Path
from typing import Any

import pytest
import redis

from api_contracts.errors import ErrorCode
from tests.cli.shell import Ran, Shell
from tests.conftest import StartValkey
from tests.parts.gate import Do, Gate, whole
from tests.parts.sentinels import MASTER, Sentinels
from tests.parts.web import free_port
from tests.parts.worker import API_KEY
from worker.cli import probes
from worker.cli.checks import Server, check_broker, check_records, check_router
from worker.environment import load
from worker.errors import Failure


def findings(ran: Ran) -> dict[str, Any]:
    """What doctor found, by check, and that it says its key nowhere."""
    assert API_KEY not in ran.out + ran.err
    assert ran.err == ""
    found = {line["check"]: line for line in ran.lines}
    assert len(found) == len(ran.lines)
    return found


@pytest.fixture
def doctor(shell: Shell, gate: Gate) -> Shell:
    """A shell with everything that a worker needs; the router answers 404."""
    shell.env |= {"YOUROUTER_API_KEY": API_KEY, "ROUTER_WORKER_BASE_URL": gate.url}
    return shell


def test_a_healthy_system_is_ok_in_every_line(doctor: Shell, gate: Gate) -> None:
    gate.answer(whole({"data": []}))
    ran = doctor.run("doctor")
    assert ran.status == 0, ran.out
    checks = [line.split()[:2] for line in ran.out.splitlines()]
    assert checks == [
        ["ok", name]
        for name in (
            "settings", "redis", "persistence", "eviction", "clock", "broker", "queues", "router"
        )
    ]  # fmt: skip
    assert "Valkey " in ran.out
    assert doctor.env["REDIS_URL"].removeprefix("redis://").removesuffix("/0") in ran.out
    assert "in router.interactive, 0 in router.batch" in ran.out
    (request,) = gate.requests
    assert (request.method, request.path, request.body) == ("GET", "/v1/models", b"")
    assert request.headers["authorization"] == f"Bearer {API_KEY}"


def test_a_server_that_forgets_or_evicts_is_wrong(doctor: Shell, start_valkey: StartValkey) -> None:
    server = start_valkey(persistence=False)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    ran = doctor.run_here("doctor", "--json", REDIS_URL=server.url)
    found = findings(ran)
    assert ran.status == 1
    assert {name for name, line in found.items() if not line["ok"]} == {"persistence", "eviction"}
    assert "appendonly yes" in found["persistence"]["do"]
    assert "allkeys-lru" in found["eviction"]["says"]
    text = doctor.run_here("doctor", REDIS_URL=server.url)
    assert "WRONG  eviction     maxmemory-policy allkeys-lru" in text.out
    assert "\n                    -> set maxmemory-policy noeviction" in text.out


def test_the_master_of_sentinels_is_examined_and_one_that_they_lack_is_wrong(
    doctor: Shell, sentinels: Sentinels
) -> None:
    url = sentinels.url.replace("sentinel://", "sentinel://asker:hunter2@")
    places = url.partition("@")[2].partition("/")[0].replace(",", ", ")
    for server in sentinels.servers:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL", "SETUSER", "asker", "on", ">hunter2", "~*", "&*", "+@all")
    ran = doctor.run_here("doctor", "--json", REDIS_URL=url)
    found = findings(ran)
    assert found["redis"]["ok"] is True, ran.out
    assert found["redis"]["says"].endswith(f"answers at {MASTER} of sentinels {places}")
    assert found["persistence"]["ok"] is False, "it is the master's own answer"
    assert found["queues"]["ok"] is True
    ran = doctor.run_here("doctor", "--json", REDIS_URL=url.replace(MASTER, "nobody"))
    found = findings(ran)
    assert found["redis"]["ok"] is False
    assert found["redis"]["says"].endswith(
        ": no sentinel that answers names a living master 'nobody'"
    )
    assert "hunter2" not in ran.out


def test_the_keys_that_tasks_may_name_are_looked_through(doctor: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name, key in (
        ("acme", "sk-1\n"),
        ("web", "sk-2"),
        ("..data", ""),
        ("empty", ""),
        ("A.k", ""),
    ):
        (folder / name).write_text(key)
    ran = doctor.run_here("doctor", "--json", ROUTER_WORKER_CREDENTIALS_DIR=str(folder))
    found = [line for line in ran.lines if line["check"] == "credentials"]
    assert [(line["ok"], line["says"]) for line in found] == [
        (
            False,
            (
                f"{folder}/A.k: no task can name it: names are of up to 32 small letters, "
                "digits, - and _"
            ),
        ),
        (False, f"{folder}/empty: it is empty"),
        (True, f"{folder} has acme, web"),
    ]
    assert ran.status == 1
    assert "sk-" not in ran.out


def test_a_redis_and_a_broker_that_are_away_are_wrong(doctor: Shell) -> None:
    away = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    ran = doctor.run_here("doctor", "--json", REDIS_URL=away)
    found = findings(ran)
    assert ran.status == 1
    assert found["redis"]["ok"] is False
    assert "refused" in found["redis"]["says"] or "Connect call failed" in found["redis"]["says"]
    assert "look at REDIS_URL" in found["redis"]["do"]
    assert {"persistence", "broker", "queues"}.isdisjoint(found)
    assert found["router"]["ok"] is True
    assert "hunter2" not in ran.out
    found = findings(doctor.run_here("doctor", "--json", ROUTER_WORKER_BROKER_URL=away))
    assert (found["redis"]["ok"], found["broker"]["ok"]) == (True, False)
    assert "look at ROUTER_WORKER_BROKER_URL" in found["broker"]["do"]


def test_a_redis_that_hides_its_info_is_no_failure(
    doctor: Shell, start_valkey: StartValkey
) -> None:
    server = start_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-info")
    ran = doctor.run("doctor", "--json", REDIS_URL=server.url)
    found = findings(ran)
    assert ran.status == 0
    unknown = {name for name, line in found.items() if line["ok"] is None}
    assert unknown == {"redis", "persistence", "eviction"}
    assert "Redis does not tell (" in found["persistence"]["do"]
    assert "look yourself" in found["persistence"]["do"]
    assert "appendonly must be yes" in found["persistence"]["says"]


def test_a_router_that_is_away_or_refuses_the_key_is_wrong(doctor: Shell, gate: Gate) -> None:
    gate.answer(whole({"error": {"message": f"bad key {API_KEY}"}}, status=401))
    refused = doctor.run_here("doctor", "--json")
    assert refused.status == 1
    assert "it does not take the key" in findings(refused)["router"]["says"]
    assert "YOUROUTER_API_KEY" in findings(refused)["router"]["do"]
    with gate.shut():
        away = doctor.run_here("doctor", "--json")
    assert away.status == 1
    assert findings(away)["router"]["says"] == f"{gate.url}: no connection to the router"
    assert "ROUTER_WORKER_BASE_URL" in findings(away)["router"]["do"]


async def test_a_router_that_says_nothing_is_not_waited_for(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.answer((Do.HANG,))
    monkeypatch.setattr(probes, "ROUTER_S", 0.2)
    monkeypatch.setenv("YOUROUTER_API_KEY", API_KEY)
    monkeypatch.setenv("ROUTER_WORKER_BASE_URL", gate.url)
    answer = await probes.ask_router(load())
    assert isinstance(answer, Failure)
    assert answer.message == "no answer within 0.2 s"


def test_a_missing_key_and_a_misspelt_variable_leave_the_rest_to_be_checked(
    doctor: Shell, gate: Gate
) -> None:
    gate.answer(whole({}, status=401))
    del doctor.env["YOUROUTER_API_KEY"]
    ran = doctor.run_here("doctor", "--json", ROUTER_WORKER_CONCURENCY="4")
    assert ran.status == 1
    settings = [line["says"] for line in ran.lines if line["check"] == "settings"]
    assert len(settings) == 2
    assert settings[0].startswith("YOUROUTER_API_KEY is not set")
    assert "was ROUTER_WORKER_CONCURRENCY meant?" in settings[1]
    others = [line for line in ran.lines if line["check"] != "settings"]
    assert len(others) == 7
    assert all(line["ok"] for line in others)
    assert others[-1]["says"].endswith("it is there, and wants a key")


def test_settings_that_cannot_be_read_are_each_a_line(doctor: Shell) -> None:
    ran = doctor.run_here("doctor", PORT="many", ROUTER_WORKER_LEASE_S="-1")
    assert ran.status == 1
    assert [line.split()[:3] for line in ran.out.splitlines()[::2]] == [
        ["WRONG", "settings", "ROUTER_WORKER_LEASE_S"],
        ["WRONG", "settings", "PORT"],
    ]


HEALTHY = {"redis_version": "7.2.4", "aof_enabled": 1, "maxmemory_policy": "noeviction"}

INFOS: list[tuple[dict[str, Any], float, dict[str, bool | None]]] = [
    ({}, 0, {}),
    ({"redis_version": "6.2.0"}, 0, {}),
    ({"redis_version": "6.0.16"}, 0, {"redis": False}),
    ({"redis_version": "10.1.0"}, 0, {}),
    ({"redis_version": None}, 0, {"redis": False}),
    ({"role": "slave"}, 0, {"redis": False}),
    ({"role": "master"}, 0, {}),
    ({"aof_enabled": 0}, 0, {"persistence": False}),
    ({"aof_last_write_status": "err"}, 0, {"persistence": False}),
    ({"aof_last_write_status": "ok"}, 0, {}),
    ({"maxmemory_policy": "volatile-lru"}, 0, {"eviction": False}),
    ({}, 0.9, {}),
    ({}, -0.9, {}),
    ({}, 1.1, {"clock": False}),
    ({}, -1.1, {"clock": False}),
]


@pytest.mark.parametrize(("info", "skew_s", "expected"), INFOS)
def test_what_a_server_says_of_itself(
    info: dict[str, Any], skew_s: float, expected: dict[str, bool | None]
) -> None:
    found = list(check_records("redis://h", Server(HEALTHY | info, skew_s)))
    assert [finding.check for finding in found] == ["redis", "persistence", "eviction", "clock"]
    assert {finding.check: finding.ok for finding in found if not finding.ok} == expected
    assert all(bool(finding.do) is not finding.ok for finding in found)


def test_an_info_without_what_is_asked_for_is_left_open() -> None:
    found = {one.check: one for one in check_records("redis://h:1", Server())}
    assert {name: one.ok for name, one in found.items()} == {
        "redis": None,
        "persistence": None,
        "eviction": None,
        "clock": True,
    }
    assert found["redis"].says.startswith("answers at h:1")


def test_a_broker_of_its_own_is_named_without_its_password() -> None:
    server = Server(depths={"router.interactive": 3, "router.batch": 0})
    broker, queues = check_broker("redis://u:hunter2@h:7/1", server, same=False)
    assert broker.says == "answers at h:7"
    assert queues.says == "waiting: 3 in router.interactive, 0 in router.batch"


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
    ],
)
def test_what_the_routers_status_means(status: int, ok: bool, words: str) -> None:  # noqa: FBT001 - a column of the table
    finding = check_router("http://r", status, key_set=True)
    assert finding.ok is ok
    assert f"http://r answers HTTP {status} to GET /v1/models: " in finding.says
    assert words in finding.says + finding.do


def test_a_router_that_cannot_be_reached_is_wrong_with_the_reason() -> None:
    finding = check_router("http://r", Failure(ErrorCode.CONNECTION, "TLS failed"), key_set=True)
    assert (finding.ok, finding.says) == (False, "http://r: TLS failed")
