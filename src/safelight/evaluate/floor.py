"""The floor of every metric: real images in the place of the generated ones.

No generator is expected to do better, and one that does has learned its reference by heart. The floor of n
samples is n held-out images against the very reference of the samples. Where fewer than n are held out, it is
n of the training images, half of them at most, against others of them. The Fréchet distance grows as images
get fewer: where there are too few, its floor is brought to the numbers of the samples and their reference.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.data.cache import cache_dir, move_into_place
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.evaluate.features import Extractor
from safelight.evaluate.frechet import floor as frechet_floor
from safelight.evaluate.real import real_features, reference_items
from safelight.evaluate.scores import Score, scores

VERSION = 3  # of the metrics: another number measures every floor anew
Items = NDArray[np.int64]


@dataclass(frozen=True)
class Floor:
    """Metrics of real images against real images, by name, and which images those were."""

    scores: dict[str, Score]
    told: str


def floor(
    extractor: Extractor, pack: Pack, n: int, reference: int, by_class: bool, progress: Progress | None = None
) -> Floor:
    """The floor of n samples measured against `reference` training images; cached by the data's content.

    by_class: whether samples are asked to be of classes, so that diversity is that within a class.
    """
    split = [blake2b(part.tobytes(), digest_size=16).hexdigest() for part in (pack.train, pack.held_out)]
    facts = (VERSION, pack.fingerprint, *split, extractor.hash, extractor.rule, n, reference, by_class)
    path = cache_dir("floors") / f"{key(*facts)[:24]}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Floor({name: Score(**own) for name, own in stored["scores"].items()}, stored["told"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or not ours: measure
    found = _measured(extractor, pack, n, reference, by_class, progress)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(asdict(found)), encoding="utf-8")
    move_into_place(partial, path)
    return found


def sides(pack: Pack, n: int, reference: int) -> tuple[Items, Items, str]:
    """Images in the place of samples, the images they are measured against, and both in words."""
    training = reference_items(pack, len(pack.train))
    if len(pack.held_out) >= n:
        images, against = pack.held_out[:n], training[:reference]
        what = "held-out images against training images"
    else:
        part = min(n, len(training) // 2)
        images, against = training[:part], training[part:][:reference]
        what = "two disjoint parts of the training images"
    return images, against, f"{what}, {len(images):,} against {len(against):,}"


def _measured(
    extractor: Extractor, pack: Pack, n: int, reference: int, by_class: bool, progress: Progress | None
) -> Floor:
    images, against, told = sides(pack, n, reference)
    wanted = classes_of(pack, images) if by_class else torch.full((len(images),), -1)
    found = scores(
        extractor,
        real_features(extractor, pack, against, progress),
        real_features(extractor, pack, images, progress),
        wanted,
    )
    m = min(reference, len(pack.train))
    if (len(images), len(against)) != (n, m):
        training = real_features(extractor, pack, reference_items(pack, len(pack.train)), progress)
        found[extractor.frechet] = Score(frechet_floor(training.values, n, m))
        told += f", the Fréchet distance brought to {n:,} against {m:,}"
    if "class accuracy" in found and extractor.accuracy is not None and not math.isnan(extractor.accuracy):
        # The classifier has learned its training images: how often it is right is known from the others.
        found["class accuracy"] = Score(extractor.accuracy)
    return Floor(found, told)


def classes_of(pack: Pack, items: Sequence[int] | Items) -> Tensor:
    """The classes of items (n,), -1 for those that have none."""
    if "label" not in pack.given:
        return torch.full((len(items),), -1)
    labels = np.asarray(pack.given["label"])[items]
    return torch.from_numpy(np.where(pack.present[items], labels, -1))
