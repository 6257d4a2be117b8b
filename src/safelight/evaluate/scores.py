"""Every metric of one set of features against another: what is told of samples, and of real images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from safelight.config import UserError
from safelight.evaluate.class_accuracy import class_accuracy
from safelight.evaluate.diversity import diversity
from safelight.evaluate.features import Extractor, Features
from safelight.evaluate.frechet import fitted, frechet
from safelight.evaluate.kid import kid
from safelight.evaluate.prdc import NEIGHBOURS, prdc

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
