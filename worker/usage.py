"""Counting tokens: what was reported, what can be estimated, and the sum over several calls.

A number that nobody reported is null. A report that is zero throughout is none: it comes from
gateways that do not count, and a false 0 would look like a free call.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from api_contracts.results import Usage

#: Characters a token, for estimates: OpenAI's rule of thumb for English text.
CHARACTERS_A_TOKEN: Final = 4
#: Largest number that is believed of a call: models read ten million tokens at most. A counter that
#: was told 10^30 would be of no use any more, and one of 400 digits no counter can hold.
LARGEST: Final = 10**9

UNAVAILABLE: Final = Usage(provenance="unavailable")

#: From the strongest to the weakest.
_PROVENANCES: Final = ("reported", "estimated", "unavailable")


def reported(
    *,
    input_tokens: Any,
    output_tokens: Any,
    total_tokens: Any = None,
    cached_tokens: Any = None,
    reasoning_tokens: Any = None,
) -> Usage:
    """Write down a provider's report; what is no count in it is taken for not reported.

    ``input_tokens`` is all of the input, what came from a cache included. The total is added up
    where the provider gives both parts but not their sum.
    """
    taken, made = count(input_tokens), count(output_tokens)
    total = count(total_tokens)
    if not (taken or made or total):
        return UNAVAILABLE
    if total is None and taken is not None and made is not None:
        total = taken + made
    return Usage(
        provenance="reported",
        input_tokens=taken,
        output_tokens=made,
        total_tokens=total,
        cached_tokens=count(cached_tokens),
        reasoning_tokens=count(reasoning_tokens),
    )


def estimated(characters: int, *, input_tokens: Any = None) -> Usage:
    """Estimate a call that was cut from the characters that came out of it.

    ``input_tokens`` is what the provider reported before the cut. Nothing came, nothing reported:
    unavailable.
    """
    taken = count(input_tokens) or None
    made = -(-characters // CHARACTERS_A_TOKEN) or None
    if taken is None and made is None:
        return UNAVAILABLE
    total = taken + made if taken and made else None
    return Usage(provenance="estimated", input_tokens=taken, output_tokens=made, total_tokens=total)


def added(usages: Iterable[Usage]) -> Usage:
    """Add up the usage of several calls: the weakest provenance, and null + n = n.

    Give only calls that may have cost tokens: one that never reached a model is no unknown.
    """
    every = list(usages)
    if len(every) < 2:  # noqa: PLR2004 - there is nothing to add
        return every[0] if every else UNAVAILABLE
    return Usage(
        provenance=max((usage.provenance for usage in every), key=_PROVENANCES.index),
        input_tokens=_sum(usage.input_tokens for usage in every),
        output_tokens=_sum(usage.output_tokens for usage in every),
        total_tokens=_sum(_total(usage) for usage in every),
        cached_tokens=_sum(usage.cached_tokens for usage in every),
        reasoning_tokens=_sum(usage.reasoning_tokens for usage in every),
    )


def _total(usage: Usage) -> int | None:
    """Return a call's total, or of a call that was cut as much of it as is known."""
    if usage.total_tokens is not None:
        return usage.total_tokens
    return _sum((usage.input_tokens, usage.output_tokens))


def count(value: Any) -> int | None:
    """Return a count as it is; None for what is none: a bool, a fraction, below 0, no call's."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= LARGEST else None


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [one for one in counts if one is not None]
    return sum(known) if known else None
