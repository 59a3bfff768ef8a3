"""Embeddings, OpenAI-compatible. Shapes: OpenAI's API reference, "Embeddings"."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.simulator.conversation import JsonObject, check, count_words

#: Length of a vector where the request does not say: short enough to read.
_DIMENSIONS = 8


class _Embeddings(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    model: Annotated[str, Field(min_length=1)]
    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=2048)]
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[list[int]], Field(min_length=1, max_length=2048)]
    )
    dimensions: Annotated[int, Field(ge=1, le=4096)] = _DIMENSIONS
    encoding_format: Literal["float", "base64"] = "float"


def embed(body: JsonObject) -> JsonObject:
    """Answer an embeddings request: the same text has the same vector, of length 1."""
    asked = check(_Embeddings, body)
    texts = asked.input if isinstance(asked.input, list) else [asked.input]
    if isinstance(texts[0], int):
        texts = [" ".join(str(token) for token in texts)]
    vectors = [_vector(str(text), asked.dimensions) for text in texts]
    tokens = count_words([str(text) for text in texts])
    return {
        "object": "list",
        "model": asked.model,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": vector if asked.encoding_format == "float" else _packed(vector),
            }
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _vector(text: str, dimensions: int) -> list[float]:
    raw = hashlib.shake_256(text.encode()).digest(dimensions)
    values = [byte - 127.5 for byte in raw]
    length = math.sqrt(sum(value * value for value in values))
    return [round(value / length, 6) for value in values]


def _packed(vector: list[float]) -> str:
    """Write a vector as OpenAI's ``base64`` does: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
