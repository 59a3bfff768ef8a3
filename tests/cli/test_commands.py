"""What all commands have in common, and the two that serve: `run` and `simulator`."""

import io
import json
import re
import socket
import unicodedata
from collections.abc import Iterator
from importlib import metadata
from typing import Any, Final

import click
import hypothesis
import hypothesis.strategies as st
import pytest

from api_contracts import errors
from api_contracts.errors import ErrorCode, TaskError, TaskFailed
from tests.cli.shell import Ran, Shell
from tests.parts.need import need
from tests.parts.wait import until
from tests.parts.web import get
from worker.cli import COMMANDS, main
from worker.cli.exits import MEANINGS, Exit
from worker.cli.failures import EXITS, status_of, words
from worker.cli.parameters import json_objects
from worker.cli.terminal import one_line, plain
from worker.cli.words import moment, seconds

#: Prints the modules that a command has imported.
IMPORTED: Final = (
    "import sys; from worker.cli import main; main({}, standalone_mode=False); "
    "print(*sorted(sys.modules))"
)


def test_help_lists_every_command_and_every_exit_status(shell: Shell) -> None:
    ran = shell.run_here("--help")
    assert ran.status == 0
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line.split()[0])} ", ran.out, re.MULTILINE)
    for status, meaning in MEANINGS.items():
        assert re.search(rf"^ +{status:d} +{re.escape(meaning)}$", ran.out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_where_the_table_says_and_helps_with_the_same_words(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").startswith(COMMANDS[name][1])


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], ("pydantic", "redis", "asyncio", "celery", "httpx", "rich")),
        (["watch", "--help"], ("celery", "kombu", "httpx", "aiohttp", "prometheus_client", "rich")),
        (["chat", "--help"], ("celery", "kombu", "httpx", "aiohttp", "prometheus_client", "rich")),
        (["doctor", "--help"], ("celery", "kombu", "prometheus_client")),
        (["top", "--help"], ("celery", "kombu", "httpx", "aiohttp", "prometheus_client")),
    ],
)
def test_a_command_imports_only_what_it_needs(
    shell: Shell, arguments: list[str], absent: tuple[str, ...]
) -> None:
    imported = shell.python(IMPORTED.format(arguments)).splitlines()[-1].split()
    assert "worker.cli" in imported
    assert set(imported).isdisjoint(absent)


def test_ctrl_c_has_a_status_of_its_own_in_every_command(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "pressed", ("tests.cli.shell:pressed", ""))
    assert shell.run_here("pressed") == Ran(130, "", "interrupted\n")


def test_version_is_the_packages_own(shell: Shell) -> None:
    installed = any(one.name == "router-worker" for one in metadata.distributions())
    need(installed, "router-worker is not installed; run: make install")
    ran = shell.run("--version")
    assert ran.out == f"router-worker, version {metadata.version('router-worker')}\n"


ERROR: Final = TaskError(code=ErrorCode.RATE_LIMITED, message="slow\x1b[2J\ndown", retryable=True)

FAILURES: Final[list[tuple[errors.RouterWorkerError, Exit, str]]] = [
    (errors.InvalidTask("request.n", "is wrong"), Exit.USAGE, "request.n: is wrong"),
    (errors.TaskExists("i"), Exit.USAGE, "id: a different task i already exists; make a new id"),
    (errors.TaskNotFound("no task i"), Exit.NOT_FOUND, "no task i"),
    (errors.CursorExpired("gone"), Exit.NOT_FOUND, "gone"),
    (errors.StoreUnavailable("Redis is away"), Exit.NO_REDIS, "Redis is away"),
    (errors.ResultTimeout("not yet"), Exit.TIMED_OUT, "not yet"),
    (errors.StreamReset("i"), Exit.FAILED, "i"),
    (errors.NotDead("its state\x1b[2J"), Exit.FAILED, "its state[2J"),
    (errors.NotOpened("task i is encrypted"), Exit.USAGE, "task i is encrypted"),
    (TaskFailed(ERROR), Exit.FAILED, "the task failed: rate_limited: slow[2J down"),
    (errors.TaskCancelled("i"), Exit.FAILED, "task i was cancelled"),
    (
        errors.TaskExpired("i"),
        Exit.FAILED,
        "task i expired: no worker started it before its expires_at",
    ),
]


@pytest.mark.parametrize(("error", "status", "said"), FAILURES)
def test_every_exception_has_its_status_and_its_words(
    error: errors.RouterWorkerError, status: Exit, said: str
) -> None:
    assert (status_of(error), words(error)) == (status, said)


def test_no_exception_of_the_client_is_without_a_status() -> None:
    def below(kind: type[Any]) -> Iterator[type[Any]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    classes = {errors.RouterWorkerError, *below(errors.RouterWorkerError)}
    known = {type(error) for error, _, _ in FAILURES} | set(EXITS)
    assert classes - {errors.IdempotencyConflict} <= known
    assert set(MEANINGS) == set(Exit)


@hypothesis.given(st.text())
def test_plain_text_keeps_all_but_control_characters(text: str) -> None:
    kept = [one for one in text if one in "\n\t" or not _is_control(one)]
    assert plain(text) == "".join(kept)
    assert not any(_is_control(one) for one in one_line(text))


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"


VALUE: Final = st.none() | st.integers() | st.text() | st.lists(st.floats(allow_nan=False))
OBJECT: Final = st.dictionaries(st.text(max_size=5), VALUE, max_size=3)
SPACE: Final = st.text(" \t\r\n", max_size=3)


@hypothesis.settings(max_examples=50)
@hypothesis.given(
    st.lists(st.tuples(OBJECT, SPACE), min_size=1, max_size=4),
    st.sampled_from(["utf-8", "utf-8-sig"]),
    SPACE,
    st.sampled_from([None, 2]),
)
def test_json_objects_are_read_one_after_the_other_however_they_are_spaced(
    objects: list[tuple[dict[str, Any], str]], encoding: str, lead: str, indent: int | None
) -> None:
    text = lead + "".join(json.dumps(one, indent=indent) + space for one, space in objects)
    file = io.BytesIO(text.encode(encoding))
    assert json_objects(file) == [one for one, _ in objects]


@pytest.mark.parametrize(
    "content",
    ["", "  \n", "[1]", "1", '{"a": 1', "{} x", "{}[]", "[" * 100_000, b"\xff", b"{}\xff"],
)
def test_what_is_no_json_object_is_refused(content: str | bytes) -> None:
    file = io.BytesIO(content.encode() if isinstance(content, str) else content)
    file.name = "tasks.jsonl"
    with pytest.raises(click.BadParameter, match=r"^tasks\.jsonl: "):
        json_objects(file)


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 s"), (4, "0.004 s"), (644, "0.64 s"), (2_130, "2.1 s"), (9_999, "10 s"),
        (10_000, "10 s"), (93_400, "93 s"), (599_000, "599 s"), (600_000, "10 min"),
        (7_199_000, "120 min"), (7_200_000, "2 h"), (172_799_000, "48 h"), (604_800_000, "7 d"),
    ],
)  # fmt: skip
def test_durations_read_well(ms: int, said: str) -> None:
    assert seconds(ms) == said


def test_moments_are_in_utc_and_say_how_far_off_they_are() -> None:
    now = 1_700_000_000_000
    assert moment(now - 2_100, now) == "2023-11-14 22:13:17 UTC (2.1 s ago)"
    assert moment(now + 60_000, now) == "2023-11-14 22:14:20 UTC (in 60 s)"


def test_run_names_every_mistake_in_the_environment(shell: Shell) -> None:
    ran = shell.run_here("run", PORT="many", ROUTER_WORKER_TYPO="1")
    assert ran.status == 2
    assert "YOUROUTER_API_KEY is not set" in ran.err
    assert "PORT is 'many', but" in ran.err
    assert "ROUTER_WORKER_TYPO is not known" in ran.err
    assert "Traceback" not in ran.err


def test_run_says_when_its_port_is_taken(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = shell.run("run", PORT=port, ROUTER_WORKER_HOST="127.0.0.1", YOUROUTER_API_KEY="k")
    assert ran.status == 1
    assert f"Error: 127.0.0.1:{port} is taken by another program; set PORT" in ran.err
    assert "Traceback" not in ran.err


def test_the_simulator_says_where_it_is_serves_and_stops_at_ctrl_c(shell: Shell) -> None:
    with shell.start("simulator", "--port", "0", "--gap-ms", "0") as simulator:
        url = until(lambda: "".join(re.findall(r"http://\S+", simulator.out)), "its URL")
        assert get(f"{url}/")[0] == 200
        simulator.interrupt()
        ran = simulator.wait()
    assert (ran.status, ran.err) == (0, "")


def test_the_simulator_refuses_what_it_cannot_do(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = shell.run_here("simulator", "--port", port)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith(f"Error: cannot listen on 127.0.0.1:{port}: ")
    assert ran.err.endswith("; try another --port\n")
    assert shell.run_here("simulator", "--gap-ms", "-1").status == 2
