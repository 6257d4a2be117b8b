"""Texts as sums of fixed random vectors, one for each run of up to four words: needs no training.

Two texts are as similar as the runs they share (a Johnson-Lindenstrauss projection of their counts), so word
order counts: "red circle left" and "circle left blue" tell which of two circles is the red one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from safelight.draw import key

VERSION = 1  # of what a text becomes
SIZE = 256
LONGEST = 4  # words of a run
SILENT = frozenset(("a", "an", "the", "of", "is", "are", "to", "and", "with"))
WORD = re.compile(r"[^\W_]+")


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Features (n, SIZE) of unit length; of a text without words, zeros."""
    features = np.zeros((len(texts), SIZE), np.float32)
    for row, text in enumerate(texts):
        for run in runs(text):
            features[row] += _direction(run)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, np.float32(1e-12)), np.float32)


def runs(text: str) -> list[str]:
    """Every run of one to LONGEST words, in lower case, words that say little left out."""
    words = [word for word in WORD.findall(text.lower()) if word not in SILENT]
    return [" ".join(words[start : start + length])
            for length in range(1, LONGEST + 1) for start in range(len(words) - length + 1)]  # fmt: skip


@lru_cache(maxsize=100_000)
def _direction(run: str) -> NDArray[np.float32]:
    """A random vector of about unit length, by name."""
    chance = np.random.Generator(np.random.Philox(key=key("words", VERSION, run)))
    vector: NDArray[np.float32] = chance.standard_normal(SIZE, np.float32)
    return vector * np.float32(SIZE**-0.5)
