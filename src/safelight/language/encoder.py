"""Text encoders by name. What they make of a text depends on nothing but the text and their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TextEncoder:
    """What turns texts into features of unit length."""

    name: str
    digest: str  # stands for its weights and its version: equal digests give equal features
    size: int  # T
    encode: Callable[[Sequence[str]], NDArray[np.float32]]  # n texts -> (n, T)


@lru_cache(maxsize=4)
def open_encoder(name: str) -> TextEncoder:
    """An encoder by what [data] text_encoder says. Raises UserError."""
    if name == "words":
        from safelight.language import words

        return TextEncoder(name, f"words {words.VERSION}", words.SIZE, words.encode)
    raise NotImplementedError
