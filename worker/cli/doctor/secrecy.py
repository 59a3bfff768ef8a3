"""What a user of Redis may do, and how the tasks on record are encrypted and signed. Pure.

The doctor's keys are those that a worker with the same environment has. No key is said, only its
id, which gives nothing away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from api_contracts.client.box import key_id
from api_contracts.client.keyring import Keyring
from api_contracts.client.signatures import Signatures, signer
from worker.cli.doctor.finding import (
    Finding,
    advice,
    bad,
    counted,
    good,
    listed,
    unseen,
)
from worker.store.rights import Tried
from worker.store.view import Mark

_KEYS: Final = "ROUTER_WORKER_ENCRYPTION_KEYS"
_SIGNERS: Final = "ROUTER_WORKER_SIGNING_KEYS"
_OPEN: Final = "open tasks that were looked at are"
_STRANGER: Final = "or look who else writes to Redis"


def check_rights(tried: Tried) -> Iterator[Finding]:
    """Say whether this user of Redis can be a worker's."""
    check = "rights"
    if tried.untried:
        says = "whether this user of Redis may do a worker's work"
        remedy = f"it cannot be tried ({tried.untried}): run doctor with a worker's REDIS_URL, too"
        yield unseen(check, says, remedy)
    if tried.unknown:
        says = f"a worker needs what Redis does not know: {listed(tried.unknown)}"
        yield bad(check, says, "look whether it renames commands, or install Redis 6.2 or newer")
    if tried.refused:
        says = f"a worker needs what this user of Redis may not: {listed(tried.refused)}"
        yield bad(check, says, "give it the rules of `worker` in deploy/redis/users.acl")
    if tried == Tried():
        yield good(check, "this user of Redis may do all that a worker does")


def check_encryption(
    keyring: Keyring, tasks: Sequence[Mark], letters: Sequence[Mark]
) -> Iterator[Finding]:
    """Hold the keys against what is encrypted, of open tasks and of dead letters."""
    check = "encryption"
    has = f"{_KEYS} has {keyring.ids}" if keyring else f"{_KEYS} is not set"
    used, lacking = _by_key(keyring, tasks)
    if lacking:
        says = f"{lacking.total()} of {len(tasks)} {_OPEN} encrypted with {_ids(lacking)}; {has}"
        yield bad(check, says, "give workers that key as well: without, they fail as no_key")
    plain = len(tasks) - used.total()
    if keyring.required and plain:
        says = f"{plain} of {len(tasks)} {_OPEN} not encrypted: this worker refuses them"
        yield bad(check, says, f"give their producers the key ({_KEYS}), {_STRANGER}")
    _, buried = _by_key(keyring, letters)
    if buried:
        says = f"{counted(buried.total(), 'dead letter')} encrypted with {_ids(buried)}; {has}"
        yield advice(check, says, "give workers that key as well before they are replayed")
    if keyring and not lacking:
        says = f"{used.total()} of {len(tasks)} {_OPEN} encrypted"
        yield good(check, f"on, with {keyring.ids}; {says}")


def check_signatures(signatures: Signatures, tasks: Sequence[Mark]) -> Iterator[Finding]:
    """Hold the known producers against who has signed; nothing where signatures are not asked."""
    if not signatures:
        return
    check, known = "signatures", ", ".join(signatures.names)
    signers = Counter(filter(None, (signer(mark.signature) for mark in tasks)))
    unsigned = len(tasks) - signers.total()
    if unsigned:
        says = f"{unsigned} of {len(tasks)} {_OPEN} not signed: this worker refuses them"
        yield bad(check, says, f"give their producers a key ({_SIGNERS}), {_STRANGER}")
    for name in signatures.names:
        del signers[name]
    if signers:
        says = f"{signers.total()} of {len(tasks)} {_OPEN} signed by {listed(sorted(signers))}"
        remedy = f"add the key to {_SIGNERS} if it is a producer's of yours, {_STRANGER}"
        yield bad(check, f"{says}; known are {known}: this worker refuses them", remedy)
    if not unsigned and not signers:
        yield good(check, f"asked for; known are {known}")


def _by_key(keyring: Keyring, marks: Sequence[Mark]) -> tuple[Counter[str], Counter[str]]:
    """Count what is encrypted by the key's id; and what of that has a key that is not here."""
    used = Counter(filter(None, (key_id(mark.head) for mark in marks)))
    ours = keyring.ids.split(", ")
    return used, Counter({one: count for one, count in used.items() if one not in ours})


def _ids(keys: Counter[str]) -> str:
    return f"the key{'s' if len(keys) > 1 else ''} {listed(sorted(keys))}"
