"""`doctor` on real servers, against what it should find: healthy, wrong, unreadable and away."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from tests.cli.shell import Ran, Shell
from tests.conftest import StartValkey, StartWorker
from tests.parts.collector import Collector
from tests.parts.dump import as_it_is
from tests.parts.gate import Do, Gate, whole
from tests.parts.letters import bury, now_ms, park
from tests.parts.need import installed
from tests.parts.program import Program
from tests.parts.roles import Roles, users_file
from tests.parts.scripts import KEYS, Hand, Scripts, a_task
from tests.parts.secrecy import (
    BILLING,
    CANARY,
    ENCRYPTION,
    NEW,
    OLD,
    OTHER,
    REQUIRED,
    SIGNING,
    WEB,
    SealedHand,
    key_id,
    protection,
    put,
    secret_task,
)
from tests.parts.sentinels import MASTER, Sentinels
from tests.parts.wait import until
from tests.parts.web import free_port
from tests.parts.worker import API_KEY
from worker import embedded, presence
from worker.cli.doctor import probes, web
from worker.cli.doctor import server as server_module
from worker.environment import load
from worker.errors import Failure
from worker.presence import Presence

MODELS = whole({"data": []})
#: What a look may carry out on Redis. EXEC does so too: behind no MULTI, it is refused.
CARRIED_OUT = {
    "client|setinfo", "config|resetstat", "eval_ro", "exec", "get", "hello", "hmget", "info",
    "lindex", "llen", "multi", "ping", "time", "watch", "zcard", "zrange",
}  # fmt: skip


def findings(ran: Ran) -> dict[str, Any]:
    """What doctor found, by check, and that it says its key nowhere."""
    assert API_KEY not in ran.out + ran.err
    assert ran.err == ""
    found = {line["check"]: line for line in ran.lines}
    assert len(found) == len(ran.lines)
    return found


def wrong(ran: Ran) -> dict[str, str]:
    """What is wrong, by check; the exit status says whether something is."""
    assert API_KEY not in ran.out + ran.err
    found = {line["check"]: line["says"] for line in ran.lines if line["ok"] is False}
    assert ran.status == bool(found)
    return found


def advised(ran: Ran) -> dict[str, list[str]]:
    """What is advised, by check."""
    found: dict[str, list[str]] = {}
    for line in ran.lines:
        if line["ok"] and line["do"]:
            found.setdefault(line["check"], []).append(line["says"])
    return found


def sign(client: Any, worker: str = "w", *, ago_ms: int = 0, **said: Any) -> None:
    """Sign the roll as a worker does; without another word it counts as silent 10 s later."""
    known: dict[str, Any] = {"slots": 4, "taken": 1, "attempts_per_s": 0, "fault": None}
    client.zadd(KEYS.workers, {worker: now_ms() - ago_ms})
    note = Presence(**{**known, "tasks": (), **said})
    client.set(KEYS.worker(worker), presence.write(note))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[embedded.EmbeddedServer]:
    """A Redis as it should be."""
    with embedded.start(tmp_path / "doctor", options={"maxmemory": "1gb"}) as server:
        yield server


@pytest.fixture
def at(server: embedded.EmbeddedServer) -> Iterator[Any]:
    """Somebody else on that Redis, who may do everything."""
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def doctor(
    shell: Shell, gate: Gate, server: embedded.EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    """A shell with everything that a worker needs; the router answers 404.

    How far Redis is away is this machine's load, where a command runs in this process.
    """
    monkeypatch.setattr(server_module, "TRIP_S", 60.0)
    shell.env |= {
        "REDIS_URL": server.url,
        "YOUROUTER_API_KEY": API_KEY,
        "ROUTER_WORKER_BASE_URL": gate.url,
        "PORT": str(free_port()),
    }
    return shell


def test_a_healthy_system_is_ok_in_every_line_and_stays_as_it_is(
    doctor: Shell, gate: Gate, at: Any
) -> None:
    gate.answer(MODELS)
    Scripts(at).create(task := a_task())
    at.zadd(KEYS.due, {task.id: now_ms() + 60_000})
    sign(at, tasks=(task.id,))
    before = as_it_is(at)
    at.config_resetstat()
    # In this process: the worker's sign is good for 10 s, and a program may take them to start.
    ran = doctor.run_here("doctor")
    called = {name.removeprefix("cmdstat_") for name in at.info("commandstats")}
    assert ran.status == 0, ran.out
    checks = [(line[:6].strip(), line[7:19].strip()) for line in ran.out.splitlines()]
    assert checks == [
        ("ok", name)
        for name in (
            "settings", "redis", "persistence", "eviction", "memory", "connections", "clock",
            "latency", "broker", "queues", "rights", "workers", "overdue", "dead letters",
            "router", "port",
        )
    ]  # fmt: skip
    assert "Valkey " in ran.out
    assert doctor.env["REDIS_URL"].removeprefix("redis://").removesuffix("/0") in ran.out
    assert "in router.interactive, 0 in router.batch" in ran.out
    assert "tasks are taken by 1 worker; 1 of 4 slots are in use" in ran.out
    (request,) = gate.requests
    assert (request.method, request.path, request.body) == ("GET", "/v1/models", b"")
    assert request.headers["authorization"] == f"Bearer {API_KEY}"
    assert called <= CARRIED_OUT
    assert as_it_is(at) == before


# --- Redis ----------------------------------------------------------------------------------------


def test_a_server_that_forgets_or_evicts_is_wrong(doctor: Shell, start_valkey: StartValkey) -> None:
    server = start_valkey(persistence=False)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    ran = doctor.run_here("doctor", "--json", REDIS_URL=server.url)
    found = findings(ran)
    assert set(wrong(ran)) == {"persistence", "eviction"}
    assert "appendonly yes" in found["persistence"]["do"]
    assert "allkeys-lru" in found["eviction"]["says"]
    assert "maxmemory is not set" in advised(ran)["memory"][0]
    text = doctor.run_here("doctor", REDIS_URL=server.url)
    assert "WRONG  eviction     maxmemory-policy allkeys-lru" in text.out
    assert "\n                    -> set maxmemory-policy noeviction" in text.out
    assert "\nadvice memory " in text.out


def test_a_full_memory_is_wrong(doctor: Shell, at: Any) -> None:
    at.config_set("maxmemory", 1)
    assert "it refuses what is written" in wrong(doctor.run_here("doctor", "--json"))["memory"]


def test_writes_that_wait_for_a_replica_are_wrong(doctor: Shell, at: Any) -> None:
    at.config_set("min-replicas-to-write", 1)
    assert "no replica is near" in wrong(doctor.run_here("doctor", "--json"))["replicas"]


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
    assert [found[name]["ok"] for name in ("queues", "rights", "workers")] == [True] * 3
    assert found["replicas"]["says"] == "1"
    ran = doctor.run_here("doctor", "--json", REDIS_URL=url.replace(MASTER, "nobody"))
    found = findings(ran)
    assert found["redis"]["ok"] is False
    assert found["redis"]["says"].endswith(
        ": no sentinel that answers names a living master 'nobody'"
    )
    assert "hunter2" not in ran.out


def test_a_redis_and_a_broker_that_are_away_are_wrong(doctor: Shell) -> None:
    away = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    ran = doctor.run_here("doctor", "--json", REDIS_URL=away)
    found = findings(ran)
    assert ran.status == 1
    assert found["redis"]["ok"] is False
    assert "refused" in found["redis"]["says"] or "Connect call failed" in found["redis"]["says"]
    assert "look at REDIS_URL" in found["redis"]["do"]
    assert {"persistence", "broker", "queues", "rights", "workers"}.isdisjoint(found)
    assert found["router"]["ok"] is True
    assert "hunter2" not in ran.out
    found = findings(doctor.run_here("doctor", "--json", ROUTER_WORKER_BROKER_URL=away))
    assert (found["redis"]["ok"], found["broker"]["ok"]) == (True, False)
    assert "look at ROUTER_WORKER_BROKER_URL" in found["broker"]["do"]


def test_queues_on_a_server_of_their_own_are_looked_at_there(
    doctor: Shell, start_valkey: StartValkey
) -> None:
    other = start_valkey(persistence=False)
    with redis.Redis.from_url(other.url) as client:
        client.lpush("router.batch", b"x")
        client.config_set("maxmemory", 1)
    ran = doctor.run_here("doctor", "--json", ROUTER_WORKER_BROKER_URL=other.url)
    assert set(wrong(ran)) == {"broker"}, "its memory is full; nothing is asked of its files"
    (queues,) = (line for line in ran.lines if line["check"] == "queues")
    assert queues["says"] == "waiting: 0 in router.interactive, 1 in router.batch"


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
    assert unknown == {"redis", "persistence", "eviction", "memory"}
    assert "Redis does not tell (" in found["persistence"]["do"]
    assert "look yourself" in found["persistence"]["do"]
    assert "appendonly must be yes" in found["persistence"]["says"]


def test_tls_is_gone_through_and_a_stranger_s_certificate_is_wrong(
    doctor: Shell, tmp_path: Path
) -> None:
    authority = trustme.CA()
    certificate, ca = authority.issue_cert("127.0.0.1"), tmp_path / "ca.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(ca))
    port, pem = str(free_port()), str(tmp_path / "server.pem")
    program = Program(
        [
            installed("redis-server", "redis-server"), "--port", "0", "--tls-port", port,
            "--tls-cert-file", pem, "--tls-key-file", pem, "--tls-auth-clients", "no",
            "--bind", "127.0.0.1", "--dir", str(tmp_path), "--appendonly", "yes", "--save", "",
        ],
        tmp_path / "redis.log",
    )  # fmt: skip
    try:
        until(lambda: "Ready to accept" in program.output, "the server is ready")
        url = f"rediss://127.0.0.1:{port}/0"
        ran = doctor.run_here("doctor", "--json", REDIS_URL=f"{url}?ssl_ca_certs={ca}")
        assert wrong(ran) == {}
        said = wrong(doctor.run_here("doctor", "--json", REDIS_URL=url))
        assert "certificate verify failed" in said["redis"]
    finally:
        program.stop()


# --- who may do what ------------------------------------------------------------------------------


@pytest.fixture
def roles(start_valkey: StartValkey, tmp_path: Path) -> Iterator[Roles]:
    roles = Roles(start_valkey(include=str(users_file(tmp_path))))
    yield roles
    roles.admin.close()


def test_a_user_is_told_what_a_worker_needs_and_who_can_look_at_the_rest(
    doctor: Shell, roles: Roles
) -> None:
    of_worker = doctor.run_here("doctor", "--json", REDIS_URL=roles.url_of("worker"))
    assert wrong(of_worker) == {}
    found = findings(of_worker)
    assert found["rights"]["ok"] is True
    unseen = {name for name, line in found.items() if line["ok"] is None}
    assert unseen == {"redis", "persistence", "eviction", "memory", "workers"}
    assert "'eval_ro'" in found["workers"]["do"]
    assert "as `operator` of deploy/redis/users.acl" in found["workers"]["do"]
    of_operator = doctor.run_here("doctor", "--json", REDIS_URL=roles.url_of("operator"))
    assert wrong(of_operator) == {}
    unseen = {name for name, line in findings(of_operator).items() if line["ok"] is None}
    assert unseen == {"rights"}
    assert "run doctor with a worker's REDIS_URL" in findings(of_operator)["rights"]["do"]
    said = wrong(doctor.run_here("doctor", "--json", REDIS_URL=roles.url_of("celery")))
    assert "TIME, SCRIPT LOAD, EVALSHA on rw:{" in said["rights"]
    assert " more" in said["rights"]


# --- encrypted and signed -------------------------------------------------------------------------


def test_a_key_that_is_not_here_is_named_by_its_id(doctor: Shell, at: Any) -> None:
    for known in (protection(OLD), protection(NEW)):
        put(at, task := secret_task(), known)
        at.zadd(KEYS.due, {task.id: now_ms() + 60_000})
    put(at, dead := secret_task(), protection(OLD))
    SealedHand(at, dead.id, OLD).fail()
    old, new = key_id(OLD).hex(), key_id(NEW).hex()
    ran = doctor.run_here("doctor", "--json", **{ENCRYPTION: NEW})
    assert f"1 of 2 open tasks that were looked at are encrypted with the key {old}" in (
        said := wrong(ran)["encryption"]
    )
    assert said.endswith(f"ROUTER_WORKER_ENCRYPTION_KEYS has {new}")
    assert f"1 dead letter encrypted with the key {old}" in advised(ran)["encryption"][0]
    ran = doctor.run_here("doctor", "--json")
    assert f"2 of 2 open tasks that were looked at are encrypted with the keys {old}, {new}" in (
        wrong(ran)["encryption"].replace(f"{new}, {old}", f"{old}, {new}")
    )
    ran = doctor.run_here("doctor", "--json", **{ENCRYPTION: f"{NEW},{OLD}"})
    assert "encryption" not in wrong(ran)
    assert f"on, with {new}, {old}; 2 of 2 open tasks" in ran.out
    for secret in (NEW, OLD, CANARY.decode()):
        assert secret not in ran.out


def test_tasks_that_a_worker_will_refuse_are_wrong(doctor: Shell, at: Any) -> None:
    for known in (protection(), protection(signing=WEB), protection(OTHER, BILLING)):
        put(at, task := secret_task(), known)
        at.zadd(KEYS.due, {task.id: now_ms() + 60_000})
    settings = {ENCRYPTION: OTHER, REQUIRED: "true", SIGNING: WEB}
    ran = doctor.run_here("doctor", "--json", **settings)
    said = [line["says"] for line in ran.lines if line["ok"] is False]
    looked = "of 3 open tasks that were looked at are"
    assert [one for one in said if looked in one] == [
        f"2 {looked} not encrypted: this worker refuses them",
        f"1 {looked} not signed: this worker refuses them",
        f"1 {looked} signed by billing; known are web: this worker refuses them",
    ]


# --- workers and tasks ----------------------------------------------------------------------------


def test_a_dead_worker_a_deaf_one_and_tasks_that_nobody_looks_after_are_told(
    doctor: Shell, at: Any
) -> None:
    # Long ago, and told in minutes: what passes meanwhile is no more than half of one.
    sign(at, "dead", ago_ms=20 * 60_000)
    sign(at, "deaf", fault="Celery has heard nothing")
    Scripts(at).create(task := a_task())
    at.zadd(KEYS.due, {task.id: now_ms() - 20 * 60_000})
    ran = doctor.run_here("doctor", "--json")
    assert wrong(ran)["workers"] == "none takes tasks, with 1 open task"
    dead, deaf = sorted(advised(ran)["workers"])
    assert dead.startswith("dead gave its last sign 20 min ago")
    assert deaf == "deaf takes no tasks: Celery has heard nothing"
    sign(at, "able")
    said = wrong(doctor.run_here("doctor", "--json"))
    assert "workers" not in said
    assert "1 open task; the first should have been looked at 20 min ago" in said["overdue"]


def test_a_clock_that_is_ahead_is_told(doctor: Shell, at: Any) -> None:
    sign(at, "hasty", ago_ms=-30_000)
    said = wrong(doctor.run_here("doctor", "--json"))
    assert said == {"clock": "the clocks of hasty are ahead of Redis's by more than 1 s"}


def test_dead_letters_are_counted_by_their_reasons(doctor: Shell, at: Any) -> None:
    sign(at)
    for code in ("authentication", "authentication", "timeout"):
        bury(at, code=code)
    park(at, at=now_ms() - 1_000_000)
    ran = doctor.run_here("doctor", "--json")
    assert wrong(ran) == {}
    (said,) = advised(ran)["dead letters"]
    reasons, _, newest = said.partition("; ")
    assert reasons == "4: 2 authentication, 1 timeout, 1 no task"
    assert re.fullmatch(r"the newest died \S+ s ago", newest)
    (line,) = (line for line in ran.lines if line["check"] == "dead letters")
    assert line["do"].startswith("set a valid key; router-worker dead list")


def test_models_in_use_without_a_price_are_named(doctor: Shell, at: Any) -> None:
    prices = doctor.file("prices.json", {"gpt-4o": {"input": 1, "output": 2}})
    Scripts(at).create(task := a_task())
    at.zadd(KEYS.due, {task.id: now_ms() + 60_000})
    Hand(at, task.id)
    sign(at, tasks=(task.id,))
    ran = doctor.run_here("doctor", "--json", ROUTER_WORKER_PRICES=prices)
    assert wrong(ran) == {}
    assert advised(ran)["prices"] == ["no price for m: what they cost is not counted"]


def test_what_somebody_else_has_written_on_redis_stops_nothing(doctor: Shell, at: Any) -> None:
    at.zadd(KEYS.due, {"}{": "-inf", b"\xff": 1})
    at.zadd(KEYS.workers, {b"\x1b[2Jw": now_ms(), "late": "-inf"})
    at.set(KEYS.worker("late"), b"[" * 10_000)
    at.set(KEYS.dead, "no index")
    at.hset(KEYS.record(a_task().id), "task", "x")
    ran = doctor.run("doctor")
    assert "\x1b" not in ran.out
    assert ran.err == ""
    assert "workers      none takes tasks" in ran.out


# --- the router -----------------------------------------------------------------------------------


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


class Judge(BaseHTTPRequestHandler):
    """A router that looks at the key alone: its number is the status."""

    def do_GET(self) -> None:
        self.send_response(int(self.headers["Authorization"].rpartition("-")[2]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - inherited name
        """Say nothing."""


def test_each_key_that_tasks_may_name_is_tried_on_the_router(doctor: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    keys = {"acme": "sk-200", "broke": "sk-402", "old": "sk-401", "new": "sk-503"}
    for name, key in keys.items():
        (folder / name).write_text(key)
    settings = {"YOUROUTER_API_KEY": "sk-204", "ROUTER_WORKER_CREDENTIALS_DIR": str(folder)}
    with ThreadingHTTPServer(("127.0.0.1", 0), Judge) as router:
        threading.Thread(target=router.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{router.server_address[1]}"
        ran = doctor.run_here("doctor", "--json", ROUTER_WORKER_BASE_URL=url, **settings)
        router.shutdown()
    found = [line["says"] for line in ran.lines if line["check"] == "credentials"]
    assert found == [
        f"{folder}/broke: the account of this key cannot pay",
        f"{folder}/old: the router does not take this key",
        f"{folder} has acme, broke, new, old; the router takes acme",
    ]
    assert set(wrong(ran)) == {"credentials"}
    assert "sk-" not in ran.out


def test_files_with_secrets_that_everybody_may_read_are_advised_against(
    doctor: Shell, tmp_path: Path
) -> None:
    key = tmp_path / "api-key"
    key.write_text(API_KEY)
    key.chmod(0o644)
    settings = {"YOUROUTER_API_KEY": "", "YOUROUTER_API_KEY_FILE": str(key)}
    ran = doctor.run_here("doctor", "--json", **settings)
    assert wrong(ran) == {}
    assert advised(ran)["secrets"] == [
        f"{key} (YOUROUTER_API_KEY_FILE) has mode 644: everybody here may read it"
    ]
    key.chmod(0o640)
    assert "secrets" not in advised(doctor.run_here("doctor", "--json", **settings))


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


# --- the worker's port, and traces ----------------------------------------------------------------


def takes_tasks(at: Any) -> bool:
    """Tell whether the only worker on the roll says that it does."""
    names = at.zrange(KEYS.workers, 0, -1)
    said = presence.read(at.get(KEYS.worker(names[0].decode()))) if names else None
    return said is not None and said.fault is None


def test_a_worker_that_runs_is_told_from_one_that_hangs_and_from_others(  # noqa: PLR0913, PLR0917 - its system
    doctor: Shell,
    gate: Gate,
    server: embedded.EmbeddedServer,
    at: Any,
    worker_process: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = worker_process(gate.url, REDIS_URL=server.url)
    until(lambda: takes_tasks(at), "it signs the roll, and that it takes tasks")
    place = f"127.0.0.1:{worker.port}"
    ran = doctor.run_here("doctor", "--json", PORT=str(worker.port))
    assert (wrong(ran), advised(ran)) == ({}, {})
    assert findings(ran)["port"]["says"] == f"a worker answers on {place}, and is ready"
    assert findings(ran)["workers"]["says"].startswith("tasks are taken by 1 worker; 0 of 400")
    worker.pause()
    monkeypatch.setattr(web, "ANSWER_S", 0.3)
    said = wrong(doctor.run_here("doctor", "--json", PORT=str(worker.port)))
    assert said == {"port": f"{place} is open, and gives no answer: no answer within 0.3 s"}
    worker.resume()
    ran = doctor.run_here("doctor", "--json", PORT=gate.url.rpartition(":")[2])
    assert wrong(ran)["port"].endswith("is taken by another program")
    assert "port" not in findings(doctor.run_here("doctor", "--json", PORT="0"))


def test_traces_that_nobody_takes_are_wrong(doctor: Shell) -> None:
    collector = Collector()
    ran = doctor.run_here("doctor", "--json", **collector.settings)
    assert (wrong(ran), collector.requests) == ({}, 1)
    assert findings(ran)["traces"]["says"] == "the collector takes spans"
    collector.close()
    address = collector.url.replace("http://", "http://user:hunter2@") + "/?token=hunter2"
    ran = doctor.run("doctor", "--json", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=address)
    assert wrong(ran)["traces"].startswith("they are wanted, and lost: ")
    assert "hunter2" not in ran.out + ran.err
    assert ran.err == ""


# --- settings -------------------------------------------------------------------------------------


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
    others = {line["check"]: line for line in ran.lines if line["check"] != "settings"}
    assert len(others) == 14
    assert all(line["ok"] for line in others.values())
    assert others["router"]["says"].endswith("it is there, and wants a key")


def test_settings_that_cannot_be_read_are_each_a_line(doctor: Shell) -> None:
    ran = doctor.run_here("doctor", PORT="many", ROUTER_WORKER_LEASE_S="-1")
    assert ran.status == 1
    assert [line.split()[:3] for line in ran.out.splitlines()[::2]] == [
        ["WRONG", "settings", "ROUTER_WORKER_LEASE_S"],
        ["WRONG", "settings", "PORT"],
    ]


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://h", "http://", "http://h:many", "x"])
def test_a_prometheus_whose_url_is_none_is_refused(doctor: Shell, url: str) -> None:
    ran = doctor.run_here("doctor", "--prometheus", url)
    assert ran.status == 2
    assert "it must be http://HOST:PORT" in ran.err
