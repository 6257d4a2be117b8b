"""Every metric of a set of features against another, for samples and for real images alike."""

from __future__ import annotations

import math
from dataclasses import asdict

import torch
from torch import Tensor

from safelight.config import UserError
from safelight.evaluate.distances import NEIGHBOURS, blocks_within, fitted, frechet, kid, prdc
from safelight.evaluate.evaluation import Result
from safelight.evaluate.features import Extractor, Features

FEWEST = 2 * (NEIGHBOURS + 1)  # images on either side


def class_accuracy(predicted: Tensor, classes: Tensor) -> float:
    """Share of images whose predicted class (n,) is the right one (n,); NaN of no images."""
    return float((predicted == classes).double().mean()) if len(classes) else math.nan


def diversity(features: Tensor, groups: Tensor) -> float:
    """Mean Euclidean distance of two different features (n, d) of one group (n,), averaged over the groups.

    Every group of two or more counts once, whatever its size; NaN where there is none.
    """
    means = []
    for group in torch.unique(groups).tolist():
        members = features[groups == group]
        if len(members) > 1:
            centred = members - members.mean(0)
            total = sum(float(block.sqrt().sum()) for _, block in blocks_within(centred, 0.0))
            means.append(total / (len(members) * (len(members) - 1)))
    return sum(means) / len(means) if means else math.nan


def scores(extractor: Extractor, real: Features, images: Features, classes: Tensor) -> dict[str, Result]:
    """All metrics of `images` (n, d) with `real` (m, d) as the reference, by name.

    classes: (n,) the class each image should be of, -1 for none: diversity is that within a class, class
    accuracy the share of the others that are of theirs. The Fréchet distance uses all features; precision,
    recall, density and coverage the first of both that make equal numbers. Raises UserError for fewer than
    FEWEST images.
    """
    if (fewer := min(len(real), len(images))) < FEWEST:
        raise UserError(f"an evaluation needs {FEWEST} images or more on either side, not {fewer}")
    distance, spread = kid(real.values, images.values)
    shares = prdc(real.values[:fewer], images.values[:fewer])
    results = {
        extractor.frechet: Result(frechet(fitted(real.values), fitted(images.values))),
        extractor.kernel: Result(distance, spread),
        **{name: Result(value) for name, value in asdict(shares).items()},
        "diversity": Result(diversity(images.values, classes.to(images.values.device))),
    }
    if images.classes is not None and bool((labelled := classes >= 0).any()):
        results["class accuracy"] = Result(class_accuracy(images.classes[labelled], classes[labelled]))
    return results
