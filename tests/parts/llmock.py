"""PyPI's `llmock` as the router: it breaks on demand, and judges how its client took it.

A behaviour is what llmock's own documentation calls so, as a dict::

    {"type": "fail", "status": 429, "retry_after": 0.2, "times": 2}
    {"type": "stream_fault", "kind": "truncate", "after_chunks": 2}    # disconnect stall malformed
    {"type": "slow_first_token", "seconds": 0.5}
    {"type": "reply", "text": "Hi."}

Each answers the next requests that it fits, `times` of them (one by default).
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.parts.program import ROOT, Program, without_settings
from tests.parts.web import free_port, get, post


class Llmock:
    """A running llmock, with the router's paths."""

    def __init__(self, log: Path) -> None:
        """Start it, and wait until it answers."""
        port = free_port()
        #: Base URL for a worker: ``ROUTER_WORKER_BASE_URL``.
        self.url = f"http://127.0.0.1:{port}"
        server = [sys.executable, "-m", "uvicorn", "tests.parts.llmock_app:app"]
        options = ["--app-dir", str(ROOT), "--port", str(port), "--lifespan", "off"]
        quiet = ["--log-level", "warning", "--timeout-graceful-shutdown", "1"]
        self.program = Program([*server, *options, *quiet], log, env=without_settings(os.environ))
        self.program.wait_for(f"{self.url}/health")

    def scenario(self, *behaviors: dict[str, Any]) -> None:
        """Queue behaviours for the coming requests."""
        self._control("/_llmock/scenario", {"behaviors": behaviors})

    def reset(self) -> None:
        """Forget behaviours and requests."""
        self._control("/_llmock/reset", {})

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests so far, oldest first, with their timing and the fault each got.

        Their paths are llmock's own (`/anthropic/v1/messages`), not the router's.
        """
        requests: list[dict[str, Any]] = json.loads(get(f"{self.url}/_llmock/requests")[1])[
            "requests"
        ]
        return requests

    def verdict(self) -> dict[str, Any]:
        """Return its judgement of the client: `findings`, each with a `rule` and a level."""
        verdict: dict[str, Any] = json.loads(get(f"{self.url}/_llmock/verdict")[1])
        return verdict

    def _control(self, path: str, body: object) -> None:
        status, text = post(self.url + path, body)
        assert status in (200, 201), text
