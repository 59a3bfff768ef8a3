"""`router-worker top`: with a real worker, once and for programs, and on a terminal."""

import os
import pty
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis
from rich.cells import cell_len

from api_contracts.client import Client
from tests.cli.shell import COMMAND, Shell
from tests.conftest import StartValkey, StartWorker
from tests.parts import answers
from tests.parts.gate import Do, Gate, stream, whole
from tests.parts.letters import bury, now_ms
from tests.parts.scripts import KEYS, Hand, Scripts, a_task
from tests.parts.tmux import Tmux
from tests.parts.wait import until
from tests.parts.worker import Worker
from worker.store.link import TIMEOUT_S

#: Stand for what a person wrote, what a model answered, and what a router said of a failure.
PROMPT, ANSWER, MESSAGE = "canary-of-a-prompt", "canary-of-an-answer", "canary-of-a-message"
#: What a stranger may write to spoil a terminal.
ESCAPE: Final = "\x1b]0;owned\x07\x1b[2J\x9b2J"
#: Two chunks, and then nothing, until the call is closed.
HANGS: Final = stream(*answers.openai(f"{ANSWER} ", "goes on", finish=False), Do.HANG)
#: How long a worker may take to sign the roll anew, with room for a slow machine, in seconds.
SIGNED_S: Final = 20.0
#: How long a program may take to start and draw, or to end, with such room.
DRAWN_S: Final = 60.0

Json = dict[str, Any]
Start = Callable[..., Tmux]


@pytest.fixture
def shell(tmp_path: Path, redis_url: str) -> Iterator[Shell]:
    """A shell on the session's Redis."""
    with Client(redis_url) as client:
        yield Shell(tmp_path, client, REDIS_URL=redis_url)


@pytest.fixture
def worker(gate: Gate, worker_process: StartWorker) -> Worker:
    """A worker with 7 slots, which is missed soon, though not for standing still for a moment."""
    return worker_process(
        gate.url,
        ROUTER_WORKER_CONCURRENCY="7",
        ROUTER_WORKER_LEASE_S="6",
        ROUTER_WORKER_HEARTBEAT_S="0.5",
        ROUTER_WORKER_DRAIN_S="0",
    )


@pytest.fixture
def terminal(shell: Shell) -> Iterator[Start]:
    """Start `top` on a terminal of 80 columns and 24 rows."""
    terminals: list[Tmux] = []
    # A socket's path must be short.
    with tempfile.TemporaryDirectory() as folder:

        def start(*arguments: str, **env: str) -> Tmux:
            place = Path(folder, str(len(terminals)))
            place.mkdir()
            terminals.append(Tmux([*COMMAND, "top", *arguments], place, env={**shell.env, **env}))
            return terminals[-1]

        yield start
        for one in terminals:
            one.close()


def whole_frame(top: Tmux, *texts: str) -> str:
    """Return the screen where all of these stand on it: it may be looked at while it is drawn."""
    screen = top.screen
    return screen if all(text in screen for text in texts) else ""


def look(shell: Shell) -> Json:
    """What a script is told."""
    ran = shell.run_here("top", "--once", "--json")
    assert (ran.status, ran.err) == (0, "")
    (line,) = ran.lines
    seen: Json = line
    return seen


def ask(shell: Shell, name: str) -> str:
    """Enqueue a streamed chat; return its id."""
    messages = [{"role": "user", "content": f"{PROMPT} {name}"}]
    return shell.client.chat("gpt-4o", messages, stream=True).id


def busy(shell: Shell, gate: Gate) -> tuple[str, str, str]:
    """Let a stream hang, a task wait for its retry, and one fail; return their ids."""
    gate.answer(HANGS, to="hangs")
    gate.answer(whole({"error": {"message": MESSAGE}}, 429, retry_after="90"), to="waits")
    gate.answer(whole({"error": {"message": MESSAGE}}, 401), to="fails")
    ids = tuple(ask(shell, name) for name in ("hangs", "waits", "fails"))

    def stands() -> bool:
        seen = look(shell)
        chunks = [one["chunks"] for one in seen["streams"]]
        return chunks == [2] and len(seen["retries"]) == len(seen["failures"]) == 1

    until(stands, "one hangs, one waits, one has failed")
    hangs, waits, fails = ids
    return hangs, waits, fails


# --- once -------------------------------------------------------------------------------------


def test_a_script_is_told_what_a_real_worker_does(
    shell: Shell, gate: Gate, worker: Worker, redis: Redis
) -> None:
    hangs, waits, fails = busy(shell, gate)

    def told() -> Json | None:
        """What is told once the worker has signed since, and what has failed is over."""
        seen = look(shell)
        signs = [(one["taken"], one["attempts_per_s"] > 0) for one in seen["workers"]]
        return seen if (signs, seen["open_tasks"]) == ([(1, True)], 2) else None

    seen = until(told, "the worker says what it does", within=SIGNED_S)
    assert seen is not None
    (one,) = seen["workers"]
    assert one["name"].startswith(f"router-worker-{worker.program.pid}@")
    assert (one["alive"], one["slots"], one["taken"], one["fault"]) == (True, 7, 1, None)
    assert 0 < one["attempts_per_s"] < 2
    assert 0 <= one["sign_s"] < SIGNED_S
    (running,) = seen["streams"]
    assert (running["task_id"], running["model"], running["attempt"]) == (hangs, "gpt-4o", 1)
    assert (running["worker"], running["orphaned"]) == (one["name"], False)
    assert 0 <= running["last_chunk_s"] <= running["age_s"] < 60
    (retry,) = seen["retries"]
    assert (retry["task_id"], retry["code"], retry["status"]) == (waits, "rate_limited", 429)
    assert 30 < retry["due_s"] <= 100
    (failure,) = seen["failures"]
    assert (failure["task_id"], failure["code"]) == (fails, "authentication")
    assert (failure["model"], failure["status"]) == ("gpt-4o", 401)
    assert (seen["open_tasks"], seen["looked_at"], seen["running"]) == (2, 2, 1)
    assert seen["dead_letters"] == 1
    assert [(queue["name"], queue["waiting"]) for queue in seen["queues"]] == [
        ("router.interactive", 0),
        ("router.batch", 0),
    ]

    def names_it() -> bool:
        named: Any = redis.get(KEYS.worker(one["name"]))
        return hangs.encode() in named

    until(names_it, "the worker names what it does", within=SIGNED_S)


def test_a_person_reads_the_same_in_80_columns_and_no_prompt_and_no_answer(
    shell: Shell, gate: Gate, worker: Worker
) -> None:
    ids = busy(shell, gate)
    ran = shell.run("top", "--once", COLUMNS="80")
    assert (ran.status, ran.err) == (0, "")
    assert max(map(cell_len, ran.out.splitlines())) <= 80
    assert "\x1b" not in ran.out
    for task_id in ids:
        assert task_id in ran.out
    assert f"{worker.program.pid}@" in ran.out
    as_json = shell.run("top", "--once", "--json").out
    for canary in (PROMPT, ANSWER, MESSAGE):
        assert canary not in ran.out + as_json


def test_a_worker_that_dies_is_missed_and_its_streams_are_orphans(
    shell: Shell, gate: Gate, worker: Worker
) -> None:
    gate.answer(HANGS)
    task_id = ask(shell, "hangs")
    until(lambda: look(shell)["streams"], "it runs")
    worker.kill()
    until(lambda: look(shell)["streams"][0]["orphaned"], "its lease has ended", within=20)
    until(lambda: not look(shell)["workers"][0]["alive"], "it is missed", within=30)
    out = shell.run("top", "--once").out
    assert "gives no sign" in out
    assert "no lease" in next(row for row in out.splitlines() if row.startswith(task_id))


def test_a_worker_that_leaves_says_so_and_is_gone(
    shell: Shell, gate: Gate, worker_process: StartWorker
) -> None:
    worker = worker_process(gate.url, ROUTER_WORKER_DRAIN_S="60")
    gate.answer(HANGS)
    ask(shell, "hangs")
    until(lambda: look(shell)["streams"], "it runs")
    worker.program.terminate()
    until(
        lambda: look(shell)["workers"][0]["fault"] == "the worker is leaving",
        "it says so",
        within=SIGNED_S,
    )
    worker.program.terminate()
    assert worker.program.wait() == 0
    assert look(shell)["workers"] == []


def test_a_worker_whose_redis_is_away_as_it_leaves_ends_all_the_same(
    shell: Shell, gate: Gate, worker_process: StartWorker, start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    worker = worker_process(gate.url, REDIS_URL=server.url)
    server.stop()
    assert worker.stop(within=60) == 0
    assert "Traceback" not in worker.output


def test_a_redis_that_is_away_exits_with_4(shell: Shell) -> None:
    url = "redis://:hunter2@127.0.0.1:1/0"
    for arguments in (["--once"], ["--once", "--json"]):
        ran = shell.run("top", *arguments, REDIS_URL=url)
        assert (ran.status, ran.out) == (4, "")
        assert ran.err.startswith("Error: Redis cannot be used (")
        assert "look at REDIS_URL" in ran.err
        assert "hunter2" not in ran.err
        assert "Traceback" not in ran.err


def test_the_password_of_a_redis_that_answers_is_not_shown(
    shell: Shell, start_valkey: StartValkey
) -> None:
    server = start_valkey(persistence=False)
    with Redis.from_url(server.url) as redis:
        redis.config_set("requirepass", "hunter2")
    ran = shell.run_here("top", "--once", REDIS_URL=server.url.replace("//", "//:hunter2@"))
    assert ran.status == 0
    assert "hunter2" not in ran.out
    assert f"127.0.0.1:{server.port}" in ran.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json"], "--json goes with --once"),
        ([], "standard output is no terminal"),
        (["--interval", "0"], "--interval"),
        (["--interval", "nan"], "no duration"),
    ],
)
def test_a_wrong_command_line_exits_with_2(shell: Shell, arguments: list[str], said: str) -> None:
    ran = shell.run_here("top", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err


# --- on a terminal ----------------------------------------------------------------------------


def test_it_is_seen_on_a_terminal_again_and_again_until_q(
    shell: Shell, gate: Gate, worker: Worker, terminal: Start
) -> None:
    ids = busy(shell, gate)
    top = terminal("--interval", "0.5")
    screen = until(
        lambda: whole_frame(top, "takes tasks", *ids),
        "the worker has said what it does",
        within=DRAWN_S,
    )
    print(screen)  # noqa: T201 - shown where the test fails, and asked for with -s
    rows = screen.splitlines()
    assert len(rows) <= 24
    assert max(map(cell_len, rows)) <= 80
    assert rows[0].startswith("127.0.0.1:")
    assert rows[0].endswith(" UTC, every 0.5 s, q ends it")
    assert f"{worker.program.pid}@" in screen
    for canary in (PROMPT, ANSWER, MESSAGE):
        assert canary not in screen
    until(lambda: top.screen.splitlines()[0] != rows[0], "it is drawn again")
    top.press("x")
    top.press("q")
    until(lambda: top.status is not None, "it has ended", within=DRAWN_S)
    assert top.status == 0
    # What a program writes last, a terminal may show only when the program has ended.
    until(lambda: ids[0] not in top.screen, "the terminal is as it was")


def test_ctrl_c_ends_it_with_its_status(terminal: Start) -> None:
    top = terminal()
    until(lambda: "dead letter (0)" in top.screen, "it is drawn", within=DRAWN_S)
    top.press("C-c")
    until(lambda: top.status is not None, "it has ended", within=DRAWN_S)
    assert top.status == 130
    until(lambda: "interrupted" in top.screen, "the terminal shows it")
    assert "Traceback" not in top.screen


def test_it_goes_on_while_redis_is_away_and_says_so(
    terminal: Start, start_valkey: StartValkey
) -> None:
    server = start_valkey()
    with Redis.from_url(server.url) as redis:
        letter = bury(redis)
    top = terminal("--interval", "0.2", REDIS_URL=server.url)
    until(lambda: letter in top.screen, "it is drawn", within=DRAWN_S)
    server.stop()
    until(
        lambda: whole_frame(top, "Redis cannot be used", letter),
        "it says what is wrong, and what was seen last stays",
        within=DRAWN_S,
    )
    start_valkey(port=server.port)
    until(lambda: "Redis cannot be used" not in top.screen, "it is over", within=DRAWN_S)
    until(lambda: letter in top.screen, "it is drawn anew")
    top.press("q")
    until(lambda: top.status is not None, "it has ended", within=DRAWN_S)
    assert top.status == 0


def test_q_ends_it_while_redis_hangs(terminal: Start, start_valkey: StartValkey) -> None:
    server = start_valkey(persistence=False)
    top = terminal("--interval", "0.2", REDIS_URL=server.url)
    until(lambda: "dead letter (0)" in top.screen, "it is drawn", within=DRAWN_S)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        top.press("q")
        # Before the server is given up, which is when somebody would hear the key who waits for it.
        until(lambda: top.status is not None, "it has ended", within=TIMEOUT_S - 0.5)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert top.status == 0


def test_a_smaller_window_shows_less_and_says_so(terminal: Start, redis: Redis) -> None:
    for _ in range(30):
        bury(redis)
    top = terminal("--interval", "0.2")
    until(lambda: "dead letter (15 of 30)" in top.screen, "it is drawn", within=DRAWN_S)
    top.resize(80, 12)
    until(lambda: "dead letter (3 of 30)" in top.screen, "it is drawn anew")
    top.resize(100, 50)
    until(lambda: "dead letter (30)" in top.screen, "it is drawn anew")


def test_what_strangers_write_does_nothing_to_a_terminal(terminal: Start, redis: Redis) -> None:
    scripts, task = Scripts(redis), a_task()
    scripts.create(task)
    redis.zadd(KEYS.due, {task.id: now_ms() + 20_000})
    Hand(redis, task.id, worker=ESCAPE)
    scripts.set(task.id, model=ESCAPE)
    letter = bury(redis)
    scripts.set(letter, model=ESCAPE, kind=ESCAPE)
    fault: Any = (
        b'{"slots":1,"taken":1,"attempts_per_s":1,"fault":"\\u001b]0;owned\\u0007","tasks":[]}'
    )
    redis.set(KEYS.worker(ESCAPE), fault)
    top = terminal("--interval", "0.2")

    def drawn() -> str:
        """All of it; a worker's fault is shown as long as it signs."""
        redis.zadd(KEYS.workers, {ESCAPE: now_ms()})
        screen = whole_frame(top, task.id, letter, "router.batch")
        # As text: a worker, its fault, two models.
        return screen if screen.count("]0;owned") == 4 else ""

    first = until(drawn, "it is drawn", within=DRAWN_S).splitlines()[0]
    until(lambda: top.screen.splitlines()[0] != first, "it is drawn again")
    until(drawn, "nothing was cleared")
    assert top.title != "owned"


def test_a_signal_leaves_the_terminal_as_it_was(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "top"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**shell.env, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    try:
        while b"dead letter" not in said:
            said += os.read(ours, 65_536)
        process.send_signal(signal.SIGTERM)
        while data := os.read(ours, 65_536):
            said += data
    except OSError:  # how Linux says that the other end was closed
        pass
    finally:
        os.close(ours)
    assert process.wait(DRAWN_S) == 128 + signal.SIGTERM
    assert said.index(b"\x1b[?1049h") < said.index(b"\x1b[?1049l"), "the other screen is left"
    assert said.rindex(b"\x1b[?25l") < said.rindex(b"\x1b[?25h"), "the cursor is back"
    assert b"Traceback" not in said
