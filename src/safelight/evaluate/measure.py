"""Measuring samples: features as they are drawn, metrics against training images, the floor beside each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.evaluate.evaluation import Evaluation, Result
from safelight.evaluate.features import Extractor, Features, extract
from safelight.evaluate.floor import floor
from safelight.evaluate.kid import SUBSET_SIZE, SUBSETS
from safelight.evaluate.prdc import NEIGHBOURS
from safelight.evaluate.real import real_features, reference_items
from safelight.evaluate.regressor import Regressor
from safelight.evaluate.scores import scores
from safelight.evaluate.segmenter import Confusion, Segmenter


@dataclass(frozen=True)
class Drawn:
    """Some samples: images, and the classes they were asked to be of."""

    images: NDArray[np.uint8]  # (b, H, W, C)
    wanted: Tensor  # (b,) int64 on the CPU, -1 for none
    masks: NDArray[np.uint8] | None = None  # (b, H, W) class numbers; of no class throughout where not asked
    attributes: NDArray[np.float32] | None = None  # (b, A) asked for, not-a-number where they were withheld


def measure(
    samples: Iterable[Drawn],
    pack: Pack,
    extractor: Extractor,
    reference: int,
    *,
    step: int,
    weights: str,
    sampling: Mapping[str, str],
    segmenter: Segmenter | None = None,
    regressor: Regressor | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Every metric of samples that come in parts; keeps their features, not the images.

    reference: training images compared with, at most. sampling: what the samples depend on besides the
    weights, in words: conditions, sampler, guidance, seed, average. segmenter: sees whether samples follow
    their masks. regressor: reads their attributes. Raises UserError for too few images.
    """
    wanted: list[Tensor] = []
    obeyed: list[Confusion] = []
    errors: list[NDArray[np.float32]] = []

    def images() -> Iterable[NDArray[Any]]:
        for part in samples:
            wanted.append(part.wanted)
            if segmenter and part.masks is not None:
                obeyed.append(segmenter.judge(part.images, part.masks))
            if regressor and part.attributes is not None:
                asked_for = np.isfinite(part.attributes).all(1)
                errors.append(regressor.judge(part.images[asked_for], part.attributes[asked_for]))
            yield part.images

    generated = extract(extractor, images())
    asked = torch.cat(wanted)
    items = reference_items(pack, reference)
    found = scores(extractor, real_features(extractor, pack, items, progress), generated, asked)
    lowest = floor(extractor, pack, len(generated), reference, bool((asked >= 0).any()), progress)
    results = {
        name: Result(own.value, own.spread, lowest.scores[name].value if name in lowest.scores else None)
        for name, own in found.items()
        if not math.isnan(own.value)
    }
    if segmenter and obeyed:
        results |= mask_results(sum(obeyed[1:], obeyed[0]), segmenter)
    if regressor and any(map(len, errors)):
        results |= regressor.results(errors)
    basis = {
        "extractor": _told(extractor),
        "images": extractor.rule,
        "n": f"{len(generated):,}",
        "reference": f"{len(items):,} of {len(pack.train):,} training images, data {pack.fingerprint[:12]}",
        "metrics": _metrics(generated, len(items)),
        **({"masks": f"segmenter {segmenter.hash}"} if segmenter else {}),
        **({"attributes": regressor.told} if regressor else {}),
        **sampling,
    }
    return Evaluation(step, weights, extractor.name, results, basis, lowest.told)


def mask_results(obeyed: Confusion, segmenter: Segmenter) -> dict[str, Result]:
    """Intersection over union of samples with their masks, its mean and by class; the floor is that of real
    held-out images.
    """
    found = {"mask IoU": Result(obeyed.mean_iou, None, segmenter.known.mean_iou)}
    for name, value, real in zip(segmenter.classes, obeyed.iou, segmenter.known.iou, strict=True):
        found[f"IoU of {name}"] = Result(float(value), None, float(real))
    return {name: own for name, own in found.items() if not math.isnan(own.value)}


def _told(extractor: Extractor) -> str:
    right = extractor.accuracy
    known = "" if right is None or math.isnan(right) else f", right on {right:.1%} of held-out images"
    return f"{extractor.name} {extractor.hash}{known}"


def _metrics(generated: Features, reference: int) -> str:
    fewer = min(len(generated), reference)
    size = min(SUBSET_SIZE, fewer // 2)
    return (
        f"KID over {SUBSETS} subsets of {size:,}; "
        f"precision, recall, density, coverage with k = {NEIGHBOURS} on {fewer:,} of either"
    )
