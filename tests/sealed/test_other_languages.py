"""The forms are for everybody: a program on Node asks in secret, is obeyed, reads the answer."""

import json
import shutil
from pathlib import Path

from redis import Redis

from api_contracts.client import Handle
from tests.conftest import StartWorker
from tests.parts.aimock import Aimock
from tests.parts.dump import everything
from tests.parts.need import need
from tests.parts.program import ROOT, Program
from tests.parts.secrecy import (
    ANSWER,
    CANARY,
    NEW,
    PROMPT,
    WEB,
    answer_of,
    calls_of,
    serve,
)
from tests.sealed.conftest import StartClient

SCRIPT = Path(__file__).with_name("secret.mjs")
CREATE = ROOT / "api_contracts/client/lua/create.lua"


def test_a_program_on_node_asks_in_secret_is_obeyed_and_reads_the_answer(  # noqa: PLR0913, PLR0917
    aimock: Aimock, worker_process: StartWorker, start_client: StartClient,
    redis: Redis, redis_url: str, tmp_path: Path,
) -> None:  # fmt: skip
    node = shutil.which("node")
    need(node and (ROOT / "tests/node_modules/ioredis").exists(), "run: npm ci --prefix tests")
    serve(aimock)
    worker_process(
        aimock.url,
        ROUTER_WORKER_ENCRYPTION_KEYS=NEW,
        ROUTER_WORKER_ENCRYPTION_REQUIRED="true",
        ROUTER_WORKER_SIGNING_KEYS=WEB,
    )
    name, _, key = WEB.partition(":")
    arguments = [redis_url, str(CREATE), NEW, name, key, PROMPT]
    program = Program([str(node), str(SCRIPT), *arguments], tmp_path / "node.log")
    assert program.wait() == 0, program.output
    said = json.loads(program.output)
    assert (said["said"], said["result"]) == (ANSWER, ANSWER)
    assert CANARY not in everything(redis)
    (call,) = aimock.journal()
    assert call["body"]["messages"][0]["content"] == PROMPT
    assert calls_of(aimock) == 1
    ours = start_client(NEW)
    assert answer_of(ours, said["id"]) == "".join(Handle(ours, said["id"]).text()) == ANSWER
