"""Each user of `deploy/redis/users.acl` can do all of its work, and nothing more.

*All* is what the real client, worker, command line and Celery do: the server's log of refusals
stays empty. *Nothing more* is shown twice: every command that a user is granted was needed for
that work, and a table of others, and of other keys and channels, is refused.
"""

import json
import re
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import celery
import pytest
import redis as redis_library
from redis.exceptions import AuthenticationError, NoPermissionError

from api_contracts.client import AsyncClient, Client
from api_contracts.client.submission import CREATE, RING_AGAIN_MS, submission
from api_contracts.errors import TaskCancelled
from tests.cli.shell import Ran, Shell
from tests.conftest import StartValkey, StartWorker
from tests.parts import answers
from tests.parts.foreign import QUEUE, UNACKED, UNACKED_INDEX, message, send
from tests.parts.gate import Do, Gate, stream, whole
from tests.parts.letters import bury, now_ms, park
from tests.parts.need import installed
from tests.parts.program import Program
from tests.parts.roles import RULES, USERS, Roles, filled_in, granted, password, users_file
from tests.parts.scripts import KEYS, Hand, Scripts, a_task
from tests.parts.tasks import chat
from tests.parts.wait import until
from tests.parts.web import free_port
from tests.parts.worker import API_KEY
from worker import embedded, presence
from worker.presence import Presence

GOOD = whole({"choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]})
REFUSED_KEY = whole({"error": {"message": "no"}}, 401)


@pytest.fixture
def roles(start_valkey: StartValkey, tmp_path: Path) -> Iterator[Roles]:
    """A server of the test's own that knows the users."""
    roles = Roles(start_valkey(include=str(users_file(tmp_path))))
    yield roles
    roles.admin.close()


def nothing_was_refused_and_nothing_is_granted_in_vain(
    roles: Roles, role: str, *, but: Collection[str] = ()
) -> None:
    used = roles.used()
    assert roles.refused() == set(but)
    assert granted(role) - used == set(), "it is granted what it does not need"


# --- the file -------------------------------------------------------------------------------------


def server_with(folder: Path, line: str, binary: Path | str | None = None) -> tuple[Program, int]:
    """Start a bare server with one more line of configuration."""
    port = free_port()
    conf = folder / "redis.conf"
    conf.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\nsave ''\n{line}\n")
    command = [str(binary or embedded.binary()), str(conf)]
    return Program(command, folder / "server.log"), port


def _answers(port: int, user: str) -> bool:
    with redis_library.Redis(port=port, username=user, password=password(user)) as client:
        try:
            return bool(client.ping())
        except redis_library.ConnectionError:
            return False


@pytest.mark.parametrize("how", ["include", "aclfile"])
def test_the_file_is_taken_in_both_ways_that_it_names_and_nobody_gets_in_without_a_name(
    tmp_path: Path, how: str
) -> None:
    text = filled_in(USERS.read_text())
    if how == "aclfile":
        text = "".join(f"{line}\n" for line in text.splitlines() if line.startswith("user"))
    path = tmp_path / "users"
    path.write_text(text)
    server, port = server_with(tmp_path, f"{how} {path}")
    try:
        for role in RULES:
            until(partial(_answers, port, role), f"{role} gets in")
        with redis_library.Redis(port=port) as client, pytest.raises(AuthenticationError):
            client.ping()
    finally:
        server.kill()


@pytest.mark.parametrize("how", ["include", "aclfile"])
def test_without_passwords_no_server_takes_the_file(tmp_path: Path, how: str) -> None:
    server, _ = server_with(tmp_path, f"{how} {USERS}")
    assert server.wait(within=30) != 0


def test_debians_redis_takes_what_the_head_of_the_file_has_for_one_before_7_2(
    tmp_path: Path,
) -> None:
    *_, said = re.findall(r"^#   (sed .*) users\.acl$", USERS.read_text(), re.MULTILINE)
    path = tmp_path / "users"
    path.write_text(filled_in(USERS.read_text()))
    subprocess.run([*shlex.split(said), "--in-place", str(path)], check=True)
    debians = installed("redis-server", "redis-server")
    server, port = server_with(tmp_path, f"include {path}", debians)
    try:
        for role in RULES:
            until(partial(_answers, port, role), f"{role} gets in")
    finally:
        server.kill()


def test_the_digest_is_what_the_head_of_the_file_says() -> None:
    command = "printf %s PASSWORD | sha256sum"
    assert command in USERS.read_text()
    said = subprocess.run(
        ["/bin/sh", "-c", command.replace("PASSWORD", password("worker"))],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert f"user worker on #{said.split()[0]} " in filled_in(USERS.read_text())


# --- each role does its work ----------------------------------------------------------------------


def running(roles: Roles) -> Hand:
    """A task that runs and has said one word."""
    task = a_task()
    Scripts(roles.admin).create(task)
    hand = Hand(roles.admin, task.id)
    hand.say("a")
    return hand


async def test_a_producer_enqueues_follows_and_cancels(roles: Roles) -> None:
    hand, others = running(roles), running(roles)
    url = roles.url_of("producer")
    roles.forget()
    with Client(url) as client:
        handle = client.enqueue(a_task(idempotency_key="k"))
        assert client.enqueue(a_task(idempotency_key="k")).id == handle.id
        assert len(client.enqueue_all([a_task(), a_task(priority="batch")])) == 2
        with closing(handle.events()) as events:
            assert next(events).type == "queued"
        assert handle.cancel()
        assert client.cancel(hand.task_id), "it runs: its worker is told"
        assert [event.type for event in handle] == ["queued", "cancelled"]
        with pytest.raises(TaskCancelled):
            handle.result(10)
        assert handle.status().state == "cancelled"
    async with AsyncClient(url) as other:
        again = await other.enqueue(a_task())
        assert await again.cancel()
        assert [event.type async for event in again] == ["queued", "cancelled"]
        assert await other.cancel(others.task_id)
    _produce_as_the_readme_says(url)
    nothing_was_refused_and_nothing_is_granted_in_vain(roles, "producer")


def _produce_as_the_readme_says(url: str) -> None:
    """Without our client: EVAL for the record, XREAD to follow it."""
    task = a_task()
    commands = submission(task, KEYS, now_ms())
    with redis_library.Redis.from_url(url) as other:
        asked: Any = other
        asked.ping()
        with other.pubsub() as channel:
            channel.subscribe(KEYS.live(task.id))
            asked.execute_command(*commands.due)
            assert asked.execute_command("EVAL", CREATE, *commands.create_with_keys) == b"created"
            asked.execute_command(*commands.ring)
            assert len(asked.xread({KEYS.events(task.id): "0"})) == 1
            channel.unsubscribe()
            until(lambda: not channel.subscribed or channel.get_message(), "it is left")


def test_a_celery_program_puts_messages_on_the_queues(roles: Roles) -> None:
    roles.forget()
    app = celery.Celery(broker=roles.url_of("celery"), set_as_current=False)
    for queue in ("router.interactive", "router.batch"):
        task_id = str(uuid.uuid4())
        app.send_task("router.chat", [chat()], task_id=task_id, queue=queue, ignore_result=True)
    app.close()
    nothing_was_refused_and_nothing_is_granted_in_vain(roles, "celery")
    assert [roles.admin.llen(queue) for queue in ("router.interactive", "router.batch")] == [1, 1]


async def test_a_subscriber_follows_and_reads_results(roles: Roles) -> None:
    hand, ended = running(roles), running(roles)
    ended.complete("whole", in_event=False)
    url = roles.url_of("subscriber")
    roles.forget()
    with Client(url) as client:
        assert [event.type for event in client.stream(ended.task_id)][-1] == "completed"
        assert client.result(ended.task_id).finish_reason == "stop"
        assert client.status(hand.task_id).state == "running"
        with closing(client.stream(hand.task_id, after="1-1")) as events:
            hand.say("b")
            assert next(events).id == "1-2"
    async with AsyncClient(url) as other:
        assert (await other.result(ended.task_id)).finish_reason == "stop"
        async for event in other.stream(hand.task_id):
            if event.id == "1-2":
                break
    with redis_library.Redis.from_url(url) as raw:
        asked: Any = raw
        assert asked.ping()
        assert len(asked.xread({KEYS.events(ended.task_id): "0"})) == 1
        with raw.pubsub() as channel:
            channel.subscribe(KEYS.live(hand.task_id))
            channel.unsubscribe()
            until(lambda: not channel.subscribed or channel.get_message(), "it is left")
    nothing_was_refused_and_nothing_is_granted_in_vain(roles, "subscriber")


def enqueue(roles: Roles, text: str, **options: Any) -> str:
    """Enqueue a chat by the test's own hand."""
    with Client(roles.url) as client:
        return client.enqueue(a_task(text, **options)).id


def test_a_worker_runs_retries_restores_refuses_and_looks_after_tasks(
    roles: Roles, gate: Gate, worker_process: StartWorker
) -> None:
    once = {"retry": {"max_attempts": 2, "base_s": 0}}
    gate.answer(stream(*answers.openai("a", finish=False), Do.CUT), to="cut")
    gate.answer(stream(*answers.openai("b")), to="cut")
    gate.answer(REFUSED_KEY, to="refused")
    for text in ("plain", "plain", "restored", "forgotten", "keyed"):
        gate.answer(stream(*answers.openai("a")), to=text)
    # Doorbells of our own client's, several of which wait.
    enqueue(roles, "cut", **once)
    enqueue(roles, "refused")
    enqueue(roles, "plain", priority="batch")
    enqueue(roles, "plain", expires_at=1_000_000_000_000)
    # Messages that carry a task, good and bad; one with a key; and what is no message.
    send(roles.admin, task("plain"))
    send(roles.admin, task("keyed", idempotency_key="k"))
    send(roles.admin, chat(temperature=9))
    roles.admin.lpush(QUEUE, b"{oops")
    # One that a worker took and did not acknowledge, long ago.
    raw = json.loads(message(task("restored")))
    roles.admin.zadd(UNACKED_INDEX, {"tag": time.time() - 1000})
    roles.admin.hset(UNACKED, "tag", json.dumps([raw, "", QUEUE]))
    # One whose doorbell was lost.
    lost = a_task("forgotten")
    Scripts(roles.admin).create(lost)
    long_ago = now_ms() - 2 * RING_AGAIN_MS
    roles.admin.hset(KEYS.record(lost.id), mapping={"due_at": long_ago, "created_at": long_ago})
    roles.admin.zadd(KEYS.due, {lost.id: long_ago})
    roles.admin.script_flush()
    roles.forget()
    worker = worker_process(gate.url, REDIS_URL=roles.url_of("worker"))

    def done() -> dict[str, float]:
        """How all tasks have ended, once they have, and the message that was none is put aside."""
        ended = worker.samples("tasks_total")
        parked = worker.samples("parked_messages_total")[f"queue={QUEUE}"]
        rung = worker.samples("redeliveries_total")["cause=doorbell"]
        return ended if (sum(ended.values()), parked) == (9, 1) and rung else {}

    ended = until(done, "all tasks have ended, and the fleet is told of", within=60)
    outcomes = [one.rsplit(",", 2)[1] for one in ended]
    assert set(outcomes) == {"outcome=completed", "outcome=expired", "outcome=failed"}
    assert worker.stop() == 0
    nothing_was_refused_and_nothing_is_granted_in_vain(roles, "worker")


def task(text: str, **options: Any) -> dict[str, Any]:
    """A streamed chat that carries an id, as a foreign producer writes it."""
    messages = [{"role": "user", "content": text}]
    return chat(messages=messages, stream=True) | {"options": options}


@pytest.fixture
def at_shell(tmp_path: Path, roles: Roles, gate: Gate) -> Iterator[Callable[[str], Shell]]:
    """Make a shell in which `router-worker` is this user's."""
    with Client(roles.url) as client:

        def shell(role: str) -> Shell:
            return Shell(
                tmp_path,
                client,
                REDIS_URL=roles.url_of(role),
                YOUROUTER_API_KEY=API_KEY,
                ROUTER_WORKER_BASE_URL=gate.url,
                PORT="0",
            )

        yield shell


def ran(shell: Shell, *arguments: str) -> Ran:
    """Run a command that must go well."""
    done = shell.run_here(*arguments)
    assert done.status == 0, done
    return done


def look(shell: Shell, ended: str, letter: str, waiting: str, sign: Callable[[], object]) -> None:
    """All that an operator looks at; ``sign`` lets a worker say that it lives, which is short."""
    sign()
    seen = ran(shell, "top", "--once").out
    assert waiting in seen, "it runs"
    assert letter in seen
    assert "takes tasks" in seen
    ran(shell, "status", ended)
    ran(shell, "watch", ended)
    assert "whole" in ran(shell, "result", ended).out
    assert letter in ran(shell, "dead", "list").out
    ran(shell, "dead", "show", letter)
    ran(shell, "dead", "show", letter, "--request")
    assert shell.run_here("result", waiting, "--timeout", "0.1").status == 5
    sign()
    assert "WRONG" not in ran(shell, "doctor").out


def test_an_operator_looks_and_a_maintainer_mends(
    roles: Roles, gate: Gate, at_shell: Callable[[str], Shell]
) -> None:
    hand, ended = running(roles), running(roles)
    ended.complete("whole")
    letter, dropped, parked = bury(roles.admin), bury(roles.admin), park(roles.admin)
    said = Presence(slots=1, taken=1, attempts_per_s=0, fault=None, tasks=(hand.task_id,))
    roles.admin.set(KEYS.worker("w"), presence.write(said))
    signed = 0

    def sign() -> None:
        """Let the worker say that it lives, by a command that no user has."""
        nonlocal signed
        now = now_ms()
        roles.admin.zincrby(KEYS.workers, now - signed, "w")
        signed = now

    for role in ("operator", "maintainer"):
        gate.answer(whole({"data": []}))
        shell = at_shell(role)
        roles.forget()
        look(shell, ended.task_id, letter, hand.task_id, sign)
        if role == "maintainer":
            ran(shell, "dead", "replay", letter)
            ran(shell, "dead", "drop", dropped)
            ran(shell, "dead", "drop", parked)
            ran(shell, "cancel", hand.task_id)
        with redis_library.Redis.from_url(roles.url_of(role)) as client:
            client.ping()
        # doctor asks whether it could be a worker.
        nothing_was_refused_and_nothing_is_granted_in_vain(roles, role, but={"multi"})


def test_an_operator_lists_dead_letters_where_stale_entries_would_be_cleaned_away(
    roles: Roles, at_shell: Callable[[str], Shell]
) -> None:
    stale, letter = str(uuid.uuid4()), bury(roles.admin)
    roles.admin.zadd(KEYS.dead, {stale: now_ms() - 3_600_000})
    assert letter in ran(at_shell("operator"), "dead", "list").out
    assert roles.admin.zscore(KEYS.dead, stale) is not None
    assert letter in ran(at_shell("maintainer"), "dead", "list").out
    assert roles.admin.zscore(KEYS.dead, stale) is None


# --- and nothing more -----------------------------------------------------------------------------

ID = "0b6f0c1e-5d2a-4c0e-9a53-0d7f5a1b2c3d"
RECORD, LOG, LIVE = KEYS.record(ID), KEYS.events(ID), KEYS.live(ID)
#: What no user may do: the server's own affairs, looking around, and what belongs to others.
FOR_NOBODY = [
    "CONFIG GET *", "CONFIG SET maxmemory 1", "ACL LIST", "ACL SETUSER x on", "CLIENT LIST",
    "CLIENT KILL TYPE normal", "CLIENT NO-EVICT on", "MONITOR", "SLOWLOG GET",
    "LATENCY RESET", "MEMORY USAGE x", "MODULE LIST", "SAVE", "BGREWRITEAOF", "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE", "FAILOVER", "SWAPDB 0 1", "SELECT 1", "FLUSHALL", "FLUSHDB",
    "SCRIPT FLUSH", "SCRIPT KILL", "FUNCTION FLUSH", "FUNCTION LOAD x", "FCALL f 0",
    "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "PUBSUB CHANNELS", "PSUBSCRIBE *", "PSUBSCRIBE rw:*",
    "SSUBSCRIBE other", "SPUBLISH other x", "SUBSCRIBE other", "SUBSCRIBE rw:other",
    "PUBLISH other x", "PUBLISH rw:other x", "GET other", "SET other x", "HMGET other f",
    "HMGET other:{x} f", "XRANGE other - +", "LPUSH celery x", "ZRANGE other 0 -1",
    f"DUMP {RECORD}", f"RESTORE {RECORD} 0 x", f"RENAME {RECORD} other", f"COPY {RECORD} other",
    f"SORT {RECORD}", f"XTRIM {LOG} MAXLEN 0", f"XDEL {LOG} 0-1", f"XGROUP CREATE {LOG} g 0",
    "BLMOVE router.batch other LEFT RIGHT 0", "RPOPLPUSH router.batch other",
    "LTRIM router.interactive 1 0", "DEL router.interactive", "UNLINK rw:due", "DEL rw:dead",
    "DEL rw:{rw:due}:tally", "HSET rw:{rw:due}:tally f 1",
]  # fmt: skip
#: What one user may not, though another may.
REFUSED = {
    "producer": [
        f"HGETALL {RECORD}", f"DEL {RECORD}", f"DEL {LOG}", f"PERSIST {RECORD}", f"GET {RECORD}",
        f"ZADD {RECORD} 1 x", f"LPUSH {RECORD} x", "ZRANGE rw:due 0 -1", "ZREM rw:due x",
        "ZADD rw:dead 1 x", "SET rw:due x", "GET rw:due", "SET rw:exporter x", "LLEN router.batch",
        "LRANGE router.interactive 0 -1", "RPOP router.interactive", "BRPOP router.batch 1",
        "SET router.interactive x", "LPUSH router.unacked x", "HSET router.unacked t x",
        "SUBSCRIBE rw:cancel", "INFO", "LPUSH router.other x", "HGET rw:{rw:due}:tally f",
        "ZADD rw:workers 1 x", "SET rw:worker:w x", "GET rw:worker:w",
    ],
    "celery": [
        f"HSET {RECORD} state x", f"HMGET {RECORD} result", f"XRANGE {LOG} - +",
        f"XADD {LOG} * a b", f"SUBSCRIBE {LIVE}", f"PUBLISH {LIVE} x", "EVAL return 0", "INFO",
        "SCRIPT LOAD return",
        "ZADD rw:due 1 x", "SET rw:idem:t:k x", "LRANGE router.interactive 0 -1",
        "RPOP router.interactive", "BRPOP router.batch 1", "SADD router.batch x", "SADD rw:due x",
        "LPUSH router.unacked x", "SADD _kombu.binding.celery x", "SREM _kombu.binding.router.x x",
        "SMEMBERS _kombu.binding.router.x",
    ],
    "subscriber": [
        f"HSET {RECORD} state x", f"HGETALL {RECORD}", f"XADD {LOG} * event x", f"DEL {RECORD}",
        f"EXPIRE {RECORD} 1", f"PUBLISH {LIVE} x", "EVAL return 0", "EVALSHA x 0",
        "SCRIPT LOAD return", "LPUSH router.interactive x", "LLEN router.interactive", "INFO",
        "ZADD rw:due 1 x", "ZRANGE rw:due 0 -1", "XRANGE rw:dead - +", "GET rw:idem:t:k",
        "HMGET rw:{rw:due}:tally f", "SUBSCRIBE rw:cancel", "TIME",
    ],
    "worker": [
        f"DEL {RECORD}", f"DEL {LOG}", f"GET {RECORD}", f"SUBSCRIBE {LIVE}", "PUBLISH rw:cancel x",
        "SET rw:due x", "GET rw:dead", "DEL rw:idem:t:k", "HSET rw:due f x",
        "GET rw:{rw:due}:tally",
        "LRANGE router.interactive 0 -1", "SET router.interactive x", "DEL router.unacked",
        "LPUSH router.unacked x", "ZADD router.batch 1 x", "HSET celery f x", "SADD rw:other x",
        "ZADD rw:other 1 x", "INFO", "EXPIRE rw:idem:t:k 1", "SET rw:workers x", "GET rw:worker:w",
    ],
    "operator": [
        f"HSET {RECORD} state x", f"XADD {LOG} * event x", f"DEL {RECORD}", f"PUBLISH {LIVE} x",
        "EVAL return 0", "EVALSHA x 0", "SCRIPT LOAD return", "ZADD rw:due 1 x", "ZREM rw:dead x",
        "LPUSH router.interactive x", "RPOP router.interactive", "SET rw:exporter x",
        "SUBSCRIBE rw:cancel", "PUBLISH rw:cancel x", "LRANGE celery 0 -1", "GET rw:idem:t:k",
        "GET rw:exporter", "ZADD rw:workers 1 x", "SET rw:worker:w x",
    ],
    "maintainer": [
        f"GET {RECORD}", f"SET {RECORD} x", f"SET {LOG} x", "ZREM rw:due x", "DEL rw:due",
        "HSET rw:dead f x", "SET rw:idem:t:k x", "SET rw:exporter x", "RPOP router.interactive",
        "LRANGE router.interactive 0 -1", "LPUSH router.unacked x", "SUBSCRIBE rw:cancel",
        "EVAL return 0", "GET rw:idem:t:k", "ZADD rw:workers 1 x", "SET rw:worker:w x",
    ],
}  # fmt: skip


def words(command: str) -> list[str]:
    """Split a row of a table; EVAL takes its script, and a number of keys."""
    name, *rest = command.split()
    return [name, " ".join(rest), "0"] if name == "EVAL" else [name, *rest]


def is_refused(client: Any, command: str) -> bool:
    """Tell whether the server refuses a command for want of a right, and for nothing else."""
    try:
        client.execute_command(*words(command))
    except NoPermissionError:
        return True
    except redis_library.RedisError as error:
        pytest.fail(f"{command}: {error}")
    return False


def test_the_tables_have_every_user() -> None:
    assert set(REFUSED) == set(RULES)
    assert set(SCRIPTS) == {role for role, rules in RULES.items() if "+eval" in rules}


@pytest.mark.parametrize("role", REFUSED)
def test_what_is_not_a_users_work_is_refused(roles: Roles, role: str) -> None:
    running(roles)
    before = roles.admin.dbsize()
    allowed = []
    for command in [*FOR_NOBODY, *REFUSED[role]]:
        with redis_library.Redis.from_url(roles.url_of(role)) as client:
            if not is_refused(client, command):
                allowed.append(command)
    assert allowed == []
    assert roles.admin.dbsize() == before


#: Who may run scripts, and a key that they may have then, but not delete.
SCRIPTS = {
    "producer": RECORD,
    "worker": "router.interactive",
    "operator": KEYS.dead,
    "maintainer": KEYS.dead,
}


@pytest.mark.parametrize("role", SCRIPTS)
@pytest.mark.parametrize(
    "call", ["'FLUSHALL'", "'KEYS', '*'", "'RANDOMKEY'", "'GET', 'other'", "'DEL', KEYS[1]"]
)
def test_a_script_may_do_no_more_than_its_user(roles: Roles, role: str, call: str) -> None:
    place = SCRIPTS[role]
    with redis_library.Redis.from_url(roles.url_of(role)) as client:
        asked: Any = client
        script = f"return redis.call({call})"
        if role == "operator":
            run = partial(asked.eval_ro, script)
        elif "+eval " in RULES[role]:
            run = partial(asked.eval, script)
        else:
            run = partial(asked.evalsha, asked.script_load(script))
        with pytest.raises(redis_library.ResponseError, match=r"^ACL failure in script: "):
            run(1, place)
