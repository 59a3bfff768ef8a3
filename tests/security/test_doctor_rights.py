"""`doctor` finds out what a worker's user of Redis may not, and carries out none of it.

Each right that `deploy/redis/users.acl` grants a worker is taken away in turn: it must be told.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis as redis_library

from api_contracts.names import Keys
from tests.conftest import StartValkey
from tests.parts.roles import RULES, Roles, password, users_file
from worker import embedded
from worker.store import rights
from worker.store.rights import Tried

WORK: Final = [*rights.of_records(Keys()), *rights.of_queues()]
#: Where each right of a worker stands in its rules: to a command, to keys or to a channel. Without
#: the right to name its library it works as well.
RIGHTS: Final = {
    f"{right[0]} at {right.start()}": right.span()
    for right in re.finditer(r"[+~&][^\s()]+", RULES["worker"])
    if right[0] != "+client|setinfo"
}
#: What trying may carry out: the greeting (and redis-py's PING), and what does nothing by itself.
CARRIED_OUT: Final = {
    "hello", "auth", "client|setinfo", "ping", "multi", "exec", "watch", "config|resetstat",
}  # fmt: skip


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    folder = tmp_path_factory.mktemp("rights")
    options = {"include": str(users_file(folder))}
    with embedded.start(folder, persistence=False, options=options) as server:
        roles = Roles(server)
        yield roles
        roles.admin.close()


def grant(roles: Roles, rules: str) -> None:
    """Let the worker do this and nothing else."""
    told = re.findall(r"\([^)]*\)|[^\s()]+", rules)
    told = [rule for rule in told if rule != "on" and not rule.startswith("#")]
    known = ("reset", "on", f">{password('worker')}")
    roles.admin.execute_command("ACL", "SETUSER", "worker", *known, *told)


def named(right: str) -> str:
    """What must be named where this right is missing: a command, or how its keys begin."""
    if right.startswith("+"):
        return right[1:].upper().replace("|", " ")
    return right[1:].partition("?")[0].rstrip("*")


@pytest.mark.parametrize("name", RIGHTS)
async def test_a_right_that_a_worker_lacks_is_told(roles: Roles, name: str) -> None:
    start, end = RIGHTS[name]
    rules = RULES["worker"]
    grant(roles, rules[:start] + rules[end:])
    found = await rights.tried(roles.url_of("worker"), WORK)
    told = [*found.refused, found.untried]
    assert any(named(rules[start:end]) in one for one in told), told


async def test_a_worker_with_all_its_rights_lacks_none_and_nothing_is_carried_out(
    roles: Roles,
) -> None:
    grant(roles, RULES["worker"])
    roles.forget()
    assert await rights.tried(roles.url_of("worker"), WORK) == Tried()
    assert await rights.tried(roles.url, WORK) == Tried()
    used = roles.used()
    assert used <= CARRIED_OUT
    assert roles.refused() == set()
    assert roles.admin.dbsize() == 0


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        ('rename-command MULTI ""\n', "MULTI: unknown command"),
        # As behind a proxy that knows nothing of transactions: each command would be carried out.
        ('rename-command MULTI ""\nrename-command SAVE MULTI\n', "PING behind MULTI: b'PONG'"),
    ],
)
async def test_where_nothing_is_kept_for_later_nothing_is_sent(
    start_valkey: StartValkey, tmp_path: Path, renamed: str, words: str
) -> None:
    settings = tmp_path / "renamed.conf"
    settings.write_text(renamed)
    server = start_valkey(persistence=False, include=str(settings))
    found = await rights.tried(server.url, WORK)
    assert found.refused == ()
    assert found.untried.startswith(words)
    with redis_library.Redis.from_url(server.url) as client:
        stats: Any = client.info("commandstats")
        assert {"cmdstat_lpush", "cmdstat_zadd", "cmdstat_hset"}.isdisjoint(stats)
        assert client.dbsize() == 0


async def test_rights_on_a_queue_server_of_its_own_are_tried_there(
    roles: Roles, start_valkey: StartValkey
) -> None:
    grant(roles, RULES["worker"])
    other = start_valkey(persistence=False)
    with redis_library.Redis.from_url(other.url) as client:
        asked: Any = client
        asked.execute_command("ACL", "SETUSER", "default", "-brpop")
    assert (await rights.tried(other.url, rights.of_queues())).refused == (
        "BRPOP on router.interactive",
        "BRPOP on router.batch",
    )


async def test_a_command_that_a_server_does_not_know_is_told(
    start_valkey: StartValkey, tmp_path: Path
) -> None:
    settings = tmp_path / "renamed.conf"
    settings.write_text('rename-command ZRANGEBYSCORE ""\n')
    server = start_valkey(persistence=False, include=str(settings))
    assert await rights.tried(server.url, WORK) == Tried(unknown=("ZRANGEBYSCORE on rw:due",))
