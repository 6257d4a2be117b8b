"""Readers: networks that tell whether an image is what its text says, and that did not train the generator.

On drawn scenes, whose truth is known, a reader names the objects it sees; on other captioned images it ranks
the texts by how well they fit. Each learns the data at hand once, a pure function of it, and is cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.evaluate.features import Extractor
from safelight.evaluate.scores import Score


@dataclass(frozen=True)
class Reader:
    """What images are read by: features of each, and scores of many beside the texts they should show."""

    extractor: Extractor
    scores: Callable[[Tensor, Sequence[str]], dict[str, Score]]  # features (n, d), n texts -> by metric
    told: str  # what the scores are, in words


def open_reader(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> Reader:
    """The reader of a pack with captions: the one in the cache, or trained now."""
    if pack.name == "shapes":
        from safelight.evaluate.scenes import open_scene_reader

        return open_scene_reader(device, tell, progress)
    from safelight.evaluate.retrieval import open_retrieval

    return open_retrieval(pack, device, tell, progress)
