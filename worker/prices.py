"""What tokens cost, by model, from a table of the operator's. Pure.

    {"gpt-4o": {"input": 2.5, "cached": 1.25, "output": 10}}

in US dollars for a million tokens, as price lists have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api_contracts.results import Usage

#: Tokens that a price is for.
PRICED: Final = 1_000_000
#: Most models with a price: each is a label in metrics.
MODELS_LIMIT: Final = 100

Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """What a million tokens of one model cost, in US dollars."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: Dollars
    output: Dollars
    #: Input that came from the provider's cache; by default as any other.
    cached: Dollars | None = None

    def cost(self, usage: Usage) -> float:
        """Return what a call cost, in dollars. Tokens that nobody knows of cost nothing."""
        cached = min(usage.cached_tokens or 0, usage.input_tokens or 0)
        fresh = (usage.input_tokens or 0) - cached
        of_cached = self.input if self.cached is None else self.cached
        output = (usage.output_tokens or 0) * self.output
        return (fresh * self.input + cached * of_cached + output) / PRICED


_TABLE: Final = TypeAdapter(dict[str, Price])


def read_prices(text: bytes) -> Mapping[str, Price]:
    """Read a table. ValueError says what is wrong with it, and where."""
    try:
        prices = _TABLE.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        message = f"{place}: {first['msg']}"
        raise ValueError(message) from None
    if len(prices) > MODELS_LIMIT:
        message = f"has {len(prices)} models; at most {MODELS_LIMIT} are taken"
        raise ValueError(message)
    return prices
