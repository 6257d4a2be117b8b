"""Text encoders by name. What they make of a text depends on nothing but the text and their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, file_digest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError


@dataclass(frozen=True)
class TextEncoder:
    """What turns texts into features of unit length."""

    name: str
    digest: str  # stands for its weights and its version: equal digests give equal features
    size: int  # T
    encode: Callable[[Sequence[str]], NDArray[np.float32]]  # n texts -> (n, T)


@lru_cache(maxsize=4)
def open_encoder(name: str) -> TextEncoder:
    """The encoder of [data] text_encoder: "words", "sentences", or the folder of a trained one.

    Raises UserError where it is not there, or its package is missing.
    """
    if name == "words":
        from safelight.language import words

        return TextEncoder(name, f"words {words.VERSION}", words.SIZE, words.encode)
    if name == "sentences":
        from safelight.language import sentences

        return sentences.open_sentences()
    folder = Path(name)
    if (folder / "encoder.json").is_file():
        from safelight.language import joint

        return joint.open_joint(folder)
    if (folder / "config.json").is_file():
        from safelight.language import clip

        return clip.open_clip(folder)
    raise UserError(
        f"data.text_encoder: {name} is no encoder; expected words, sentences, recipe:NAME, run:NAME, or the "
        "folder or Hub id of a CLIP"
    )


def digest_of(*files: Path) -> str:
    """What stands for the content of files."""
    whole = blake2b(digest_size=12)
    for path in files:
        with path.open("rb") as file:
            whole.update(file_digest(file, "sha256").digest())
    return whole.hexdigest()
