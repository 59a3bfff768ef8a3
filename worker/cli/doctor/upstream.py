"""What the router's answers to a harmless question mean, for each key. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker.cli.doctor.finding import Finding, bad, good
from worker.errors import Failure

#: What is asked of the router: harmless, and free.
PROBE_PATH: Final = "/v1/models"

_LOOK_AT_ROUTER: Final = "look at ROUTER_WORKER_BASE_URL, the network and its firewalls"
_KEY_REFUSED: Final = frozenset({401, 403})
_REFUSED: Final = ("it does not take the key", "set YOUROUTER_API_KEY to a valid one")
_NO_ANSWER: Final = ("that is no answer", _LOOK_AT_ROUTER)
#: What a status of the router, or a class of them, means, and the remedy where there must be one.
_STATUSES: Final[dict[int, tuple[str, str]]] = {
    401: _REFUSED,
    403: _REFUSED,
    402: ("the account cannot pay", "top it up"),
    429: ("it is there, and at its rate limit now", ""),
    1: _NO_ANSWER,
    2: ("it is there", ""),
    3: ("it points elsewhere", "set ROUTER_WORKER_BASE_URL to that; redirects are not followed"),
    4: ("it is there; the key was not judged", ""),
    5: ("it is in trouble", "try again later"),
}
#: Class of the statuses by which it takes a key.
_SUCCESS: Final = 2
#: What is wrong with a key that a task may name, by the status that it gets.
_FAULTS: Final = {
    401: "the router does not take this key",
    403: "the router does not take this key",
    402: "the account of this key cannot pay",
}


def check_router(base_url: str, answer: int | Failure, *, key_set: bool) -> Finding:
    """Say what the router's answer to a harmless GET means."""
    if isinstance(answer, Failure):
        return bad("router", f"{base_url}: {answer.message}", _LOOK_AT_ROUTER)
    if answer in _KEY_REFUSED and not key_set:
        meaning, remedy = "it is there, and wants a key", ""
    else:
        meaning, remedy = _STATUSES.get(answer) or _STATUSES.get(answer // 100, _NO_ANSWER)
    says = f"{base_url} answers HTTP {answer} to GET {PROBE_PATH}: {meaning}"
    return bad("router", says, remedy) if remedy else good("router", says)


def judged(answers: Mapping[str, int | Failure]) -> dict[str, str]:
    """Say what the router has against each key, nothing where it takes it.

    Keys that it did not judge are not among them: where it has no such list, or was not reached.
    """
    statuses = {name: one for name, one in answers.items() if isinstance(one, int)}
    return {
        name: _FAULTS.get(status, "")
        for name, status in statuses.items()
        if status in _FAULTS or status // 100 == _SUCCESS
    }
