"""Whether images are of the classes they were asked to be, by a network that did not train the generator."""

from __future__ import annotations

import math

from torch import Tensor


def class_accuracy(predicted: Tensor, wanted: Tensor) -> float:
    """Share of images whose predicted class (n,) is the wanted one (n,); NaN of no images."""
    return float((predicted == wanted).double().mean()) if len(wanted) else math.nan
