"""`make audit` finds a hole that is known, and says where there is nobody to ask."""

import importlib.util
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests import audit
from tests.parts.need import need
from tests.parts.program import ROOT


def hole(name: str) -> dict[str, Any]:
    """Tell of a hole, as https://ossf.github.io/osv-schema/ has it."""
    versions = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}
    package = {"name": name, "ecosystem": "PyPI"}
    affected = [{"package": package, "ranges": [versions]}]
    return {"id": "OSV-2030-1", "summary": "a hole", "affected": affected}


class Advisories(ThreadingHTTPServer):
    """Tells of holes, as OSV does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        #: What has one.
        self.holes = {"celery", "jinja2"}
        self.asked: set[str] = set()


class _Page(BaseHTTPRequestHandler):
    server: Advisories

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = question["package"]["name"]
        self.server.asked.add(name)
        answer = {"vulns": [hole(name)]} if name in self.server.holes else {}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def advisories(monkeypatch: pytest.MonkeyPatch) -> Iterator[Advisories]:
    """Who is asked."""
    need(importlib.util.find_spec("pip_audit") is not None, "pip-audit is not installed")
    with Advisories() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        ask(server.url, monkeypatch)
        yield server
        server.shutdown()


def ask(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SERVICE", ("--vulnerability-service", "osv", "--osv-url", url))


def test_a_hole_that_is_known_of_anything_in_the_lock_fails_the_build(
    advisories: Advisories, capfd: pytest.CaptureFixture[str]
) -> None:
    assert audit.main() == 1
    assert re.search(r"^celery +\S+ +OSV-2030-1 ", capfd.readouterr().out, re.MULTILINE)
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==[^;]+? \\$", lock, re.MULTILINE))
    assert len(locked) > 20
    assert locked - advisories.asked == set()


def test_a_lock_without_holes_passes(advisories: Advisories) -> None:
    advisories.holes = {"jinja2"}
    assert audit.main() == 0
    assert "celery" in advisories.asked


def test_a_mirror_that_tells_of_none_is_said_to_and_checks_nothing(
    advisories: Advisories, capfd: pytest.CaptureFixture[str]
) -> None:
    advisories.holes = set()
    assert audit.main() == 0
    assert "SKIPPED, nothing was checked" in capfd.readouterr().out
    assert advisories.asked == {"jinja2"}


def test_where_nobody_answers_nothing_is_checked(
    advisories: Advisories, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ask("http://127.0.0.1:1", monkeypatch)
    assert audit.main() == 0
    assert "SKIPPED, nothing was checked" in capfd.readouterr().out
    assert advisories.asked == set()
