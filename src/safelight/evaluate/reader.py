"""Readers: networks that score whether an image shows its text, and that did not train the generator.

On drawn scenes, whose truth is known, a reader names the objects it sees (scenes.py); on other captioned
images it ranks the texts by how well they fit (retrieval.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from safelight.evaluate.evaluation import Result
from safelight.evaluate.features import Extractor


@dataclass(frozen=True)
class ConditionReader:
    """Features of images, and scores of many against the texts they should show."""

    extractor: Extractor
    scores: Callable[[Tensor, Sequence[str]], dict[str, Result]]  # features (n, d), n texts -> by metric
    description: str  # what the scores are
