"""Whether a task is to be obeyed: it is opened, and its signature is checked. Pure.

The task is read from its record, which anybody may have written. What :mod:`api_contracts.client`
says in :mod:`.box` and :mod:`.signatures` is held here. Neither is asked for without its keys.
"""

from __future__ import annotations

from dataclasses import replace

from api_contracts.client.box import Box
from api_contracts.client.keyring import Keyring
from api_contracts.client.signatures import NotSigned, Said, Signatures
from api_contracts.errors import ErrorCode, InvalidTask, NotOpened
from api_contracts.requests import Task
from worker.claim import Claim
from worker.errors import AttemptFailed, Failure
from worker.intake import read_record


class Untrusted(AttemptFailed):
    """A task that is not obeyed; ``reason`` is the word that it is counted under."""

    def __init__(self, reason: str, failure: Failure) -> None:
        """Keep the reason beside the failure."""
        super().__init__(failure)
        self.reason = reason


def read(claim: Claim, box: Box, signatures: Signatures, now_ms: int) -> tuple[Claim, Task]:
    """Read a task from its record; return the claim with what it says opened, and the task.

    Untrusted where it is not obeyed, InvalidTask where it breaks the contract. Its deadlines do not
    count where it was replayed: whoever replays it later means now.
    """
    try:
        claim = _opened(claim, box)
    except NotOpened as error:
        # A key that is missing may still be given: then the task can be replayed.
        missing = error.reason == "no_key"
        code = ErrorCode.NO_KEY if missing else ErrorCode.INVALID_REQUEST
        raise Untrusted(error.reason, Failure(code, str(error))) from None
    said = Said(claim.task_id, claim.kind, claim.envelope, claim.request)
    try:
        signatures.check(claim.signature, said, now_ms)
    except NotSigned as error:
        failure = Failure(ErrorCode.INVALID_REQUEST, f"the task {error}")
        raise Untrusted(error.reason, failure) from None
    task = read_record(claim.task_id, claim.kind, claim.envelope, claim.request)
    return claim, _without_moments(task) if claim.replays else task


def foreign_fault(keyring: Keyring, signatures: Signatures) -> tuple[str, InvalidTask] | None:
    """Say why a task is not obeyed that came whole in a message, and the word it is counted under.

    Such a task is neither signed nor encrypted. None where nobody asks for that.
    """
    if signatures:
        return "unsigned", InvalidTask("task", "must be signed: write its record, and sign it")
    if keyring.required:
        return "plain", InvalidTask("task", "must be encrypted: write its record, encrypted")
    return None


def _opened(claim: Claim, box: Box) -> Claim:
    """Decrypt what is encrypted in a claim; the claim itself where nothing is."""
    envelope, request = box.open("task", claim.envelope), box.open("request", claim.request)
    if request is claim.request and envelope is claim.envelope:
        return claim
    return replace(claim, envelope=envelope, request=request)


def _without_moments(task: Task) -> Task:
    options = task.options.model_copy(update={"expires_at": None, "deadline": None})
    return task.model_copy(update={"options": options})
