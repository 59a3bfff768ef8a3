"""The npm package `@copilotkit/aimock` as the router: all three protocols at the router's paths.

A fixture is what aimock's own documentation calls so, as a dict::

    {"match": {"userMessage": "hello"}, "response": {"content": "Hi."}}
    {"match": {"userMessage": "slow", "sequenceIndex": 0},
     "response": {"error": {"message": "wait"}, "status": 429, "retryAfter": 0.2}}
    {"match": {"userMessage": "cut"}, "response": {"content": "abcdefgh"},
     "latency": 5, "chunkSize": 2, "truncateAfterChunks": 3}

The first that matches answers; a request that none matches is a 404. `sequenceIndex` counts the
requests that matched, from 0. `latency` is in ms between chunks; a cut needs it above 0. Usage of
Anthropic and Gemini is 0 unless the response gives `usage` in the provider's own names.
Without `alt=sse`, Gemini's stream is sent as SSE all the same: the JSON array is llmock's to play.
"""

import json
import os
import urllib.parse
from pathlib import Path
from typing import Any, Final

from tests.parts.program import ROOT, Program, without_settings
from tests.parts.web import free_port, get, post

#: Installed by `make test` (npm ci). PyPI's llmock has the same command name: never by PATH.
COMMAND: Final = ROOT / "tests" / "node_modules" / ".bin" / "llmock"


class Aimock:
    """A running aimock."""

    def __init__(self, log: Path, *arguments: str) -> None:
        """Start it with no fixtures, and wait until it answers.

        ``arguments`` are more of its command line. It remembers 1,000 requests, and the counts
        of 500 test ids, unless they say otherwise.
        """
        port = free_port()
        nothing = log.with_suffix(".json")
        nothing.write_text('{"fixtures": []}')
        #: Base URL for a worker: ``ROUTER_WORKER_BASE_URL``.
        self.url = f"http://127.0.0.1:{port}"
        self.program = Program(
            [str(COMMAND), "--port", str(port), "--fixtures", str(nothing), *arguments],
            log,
            env=without_settings(os.environ),
        )
        self.program.wait_for(f"{self.url}/health")

    def serve(self, *fixtures: dict[str, Any]) -> None:
        """Answer with these fixtures and no others; forget the journal and every count."""
        self.reset()
        self._control("/__aimock/fixtures", {"fixtures": fixtures})

    def add(self, *fixtures: dict[str, Any]) -> None:
        """Answer with these too, where none before them matches."""
        self._control("/__aimock/fixtures", {"fixtures": fixtures})

    def reset(self) -> None:
        """Forget fixtures, journal and counts."""
        self._control("/__aimock/reset", {})

    def journal(self, **query: str | int) -> list[dict[str, Any]]:
        """Return the requests so far, oldest first.


        Each has `method`, `path`, `headers` (names in lower case), `body` and `response`;
        ``query`` filters them (`path`, `status`, `limit`, …).
        """
        _, text = get(f"{self.url}/__aimock/journal?{urllib.parse.urlencode(query)}")
        entries: list[dict[str, Any]] = json.loads(text)
        return entries

    def _control(self, path: str, body: object) -> None:
        status, text = post(self.url + path, body)
        assert status in (200, 201), text
