"""Numbers of numbers: percentiles, medians and spreads."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the sorted ``values`` that this share of them does not exceed.

    ValueError where there are none.
    """
    if not values:
        message = "no values, no percentile"
        raise ValueError(message)
    place = -(-len(values) * round(share * 10_000) // 10_000) - 1
    return values[max(0, place)]


class Spread(NamedTuple):
    """What several runs came to."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Tell median and range; ValueError where there are no values."""
    if not values:
        message = "no values, no spread"
        raise ValueError(message)
    return Spread(median(values), min(values), max(values))


def apart(values: Sequence[float], gap: float) -> list[float]:
    """Move sorted values up until each is at least ``gap`` above the one before it."""
    placed: list[float] = []
    for value in values:
        placed.append(max(value, placed[-1] + gap) if placed else value)
    return placed
