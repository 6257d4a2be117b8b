"""Readers: networks that tell whether an image is what its text says, and that did not train the generator.

On drawn scenes, whose truth is known, a reader names the objects it sees; on other captioned images it ranks
the texts by how well they fit (scenes.py, retrieval.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from safelight.evaluate.features import Extractor
from safelight.evaluate.scores import Score


@dataclass(frozen=True)
class ConditionReader:
    """What images are read by: features of each, and scores of many beside the texts they should show."""

    extractor: Extractor
    scores: Callable[[Tensor, Sequence[str]], dict[str, Score]]  # features (n, d), n texts -> by metric
    told: str  # what the scores are, in words
