"""What a text encoder is. What it makes of a text depends on nothing but the text and its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TextEncoder:
    """What turns texts into features of unit length."""

    name: str
    digest: str  # stands for its weights and its version: equal digests give equal features
    size: int  # T
    encode: Callable[[Sequence[str]], NDArray[np.float32]]  # n texts -> (n, T)


def digest_of(*files: Path) -> str:
    """What stands for the content of files."""
    whole = blake2b(digest_size=12)
    for path in files:
        with path.open("rb") as file:
            whole.update(file_digest(file, "sha256").digest())
    return whole.hexdigest()
