"""`make audit` finds a hole that is known, and says where there is nobody to ask."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests import audit
from tests.parts.need import need
from tests.parts.program import ROOT

#: A hole, as https://ossf.github.io/osv-schema/ has it.
HOLE = {
    "id": "OSV-2030-1",
    "summary": "a hole",
    "affected": [
        {
            "package": {"name": "celery", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
        }
    ],
}


class Advisories(ThreadingHTTPServer):
    """Tells of holes, as OSV does, and of a project, as PyPI does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        #: What is in PyPI's answer.
        self.page: dict[str, Any] = {"info": {}, "vulnerabilities": []}
        self.asked: set[str] = set()


class _Page(BaseHTTPRequestHandler):
    server: Advisories

    def do_GET(self) -> None:
        self._answer(self.server.page)

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = question["package"]["name"]
        self.server.asked.add(name)
        self._answer({"vulns": [HOLE]} if name == "celery" else {})

    def _answer(self, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    with Advisories() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_hole_that_is_known_of_anything_in_the_lock_fails_the_build(
    advisories: Advisories,
) -> None:
    done = subprocess.run(
        [*audit.COMMAND, "--vulnerability-service", "osv", "--osv-url", advisories.url],
        capture_output=True,
        text=True,
        check=False,
    )
    need("No module named pip_audit" not in done.stderr, "pip-audit is not installed")
    assert done.returncode == 1, done.stderr
    assert re.search(r"^celery +\S+ +OSV-2030-1 ", done.stdout, re.MULTILINE)
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==[^;]+? \\$", lock, re.MULTILINE))
    assert len(locked) > 20
    assert locked - advisories.asked == set()


def test_who_tells_of_holes_is_asked(
    advisories: Advisories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "ADVISORIES", f"{advisories.url}/pypi/x/1/json")
    assert audit.silence() is None


def test_a_mirror_that_tells_of_none_is_said_to_and_checks_nothing(
    advisories: Advisories, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    advisories.page = {"info": {}}
    monkeypatch.setattr(audit, "ADVISORIES", f"{advisories.url}/pypi/x/1/json")
    monkeypatch.setattr(audit, "COMMAND", ("false",))
    assert audit.main() == 0
    assert "SKIPPED, nothing was checked" in capsys.readouterr().out
    monkeypatch.setattr(audit, "ADVISORIES", "http://127.0.0.1:1/")
    assert audit.main() == 0
    assert "Connection refused" in capsys.readouterr().out
