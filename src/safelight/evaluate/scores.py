"""Every metric of one set of features against another: what is told of samples, and of real images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.config import UserError
from safelight.evaluate.distances import NEIGHBOURS, blocks_within, fitted, frechet, kid, prdc
from safelight.evaluate.features import Extractor, Features

# Whether images are of the classes they were asked to be, by a network that did not train the generator


def class_accuracy(predicted: Tensor, wanted: Tensor) -> float:
    """Share of images whose predicted class (n,) is the wanted one (n,); NaN of no images."""
    return float((predicted == wanted).double().mean()) if len(wanted) else math.nan


# --- Diversity: how far apart images of one condition lie in feature space ---


def diversity(features: Tensor, groups: Tensor) -> float:
    """Mean Euclidean distance of two different features (n, d) of one group (n,), averaged over the groups.

    Every group of two or more counts once, whatever its size; NaN where there is none.
    """
    means = []
    for group in torch.unique(groups).tolist():
        own = features[groups == group]
        if len(own) > 1:
            centred = own - own.mean(0)
            total = sum(float(block.sqrt().sum()) for _, block in blocks_within(centred, 0.0))
            means.append(total / (len(own) * (len(own) - 1)))
    return sum(means) / len(means) if means else float("nan")


FEWEST = 2 * (NEIGHBOURS + 1)  # images on either side


@dataclass(frozen=True)
class Score:
    """A metric's value; its spread where it has one."""

    value: float
    spread: float | None = None


def scores(extractor: Extractor, real: Features, images: Features, wanted: Tensor) -> dict[str, Score]:
    """All metrics of `images` (n, d) with `real` (m, d) as the reference, by name.

    wanted: (n,) the class each image should be of, -1 for none: diversity is that within a class, class
    accuracy the share of the others that are of theirs. The Fréchet distance uses all features; precision,
    recall, density and coverage the first of both that make equal numbers. Raises UserError for fewer than
    FEWEST images.
    """
    if (fewer := min(len(real), len(images))) < FEWEST:
        raise UserError(f"an evaluation needs {FEWEST} images or more on either side, not {fewer}")
    distance, spread = kid(real.values, images.values)
    shares = prdc(real.values[:fewer], images.values[:fewer])
    found = {
        extractor.frechet: Score(frechet(fitted(real.values), fitted(images.values))),
        extractor.kernel: Score(distance, spread),
        "precision": Score(shares.precision),
        "recall": Score(shares.recall),
        "density": Score(shares.density),
        "coverage": Score(shares.coverage),
        "diversity": Score(diversity(images.values, wanted.to(images.values.device))),
    }
    if images.classes is not None and bool((asked := wanted >= 0).any()):
        found["class accuracy"] = Score(class_accuracy(images.classes[asked], wanted[asked]))
    return found
