"""Measuring samples: features as they are drawn, metrics against training images, the floor beside each."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from safelight.data.cache import cache_dir
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.evaluate.distances import NEIGHBOURS, SUBSET_SIZE, SUBSETS
from safelight.evaluate.distances import floor as frechet_floor
from safelight.evaluate.evaluation import Evaluation, Result
from safelight.evaluate.features import BATCH, Extractor, Features, Rows, extract
from safelight.evaluate.regressor import Regressor
from safelight.evaluate.scores import scores
from safelight.evaluate.segmenter import Confusion, Segmenter
from safelight.randomness import permutation
from safelight.store.durable import publish

BLOCK = 1000  # items a file of features: a larger reference reuses those of a smaller one
VERSION = 3  # of the metrics: another number measures every floor anew

Items = NDArray[np.int64]


def reference_items(pack: Pack, count: int) -> NDArray[np.int64]:
    """At most `count` training items in a keyed order, of which a smaller count takes the first."""
    return pack.train[permutation(len(pack.train), "reference")][:count]


def real_features(
    extractor: Extractor, pack: Pack, items: NDArray[np.int64], progress: Progress | None = None
) -> Features:
    """Features of items of a pack, in their order; cached by the data's content and the extractor's hash."""
    folder = cache_dir("features", key(pack.fingerprint, extractor.hash, extractor.rule)[:24])
    done: list[Features] = []
    for start in range(0, len(items), BLOCK):
        block = items[start : start + BLOCK]
        name = blake2b(np.ascontiguousarray(block).tobytes(), digest_size=12).hexdigest()
        path = folder / f"{name}.safetensors"
        features = _load(path)
        if features is None:
            with FileLock(path.with_suffix(".lock")):  # of several that begin at once the first one computes
                features = _load(path)
                if features is None:
                    parts = (pack.images[block[i : i + BATCH]] for i in range(0, len(block), BATCH))
                    _save(path, features := extract(extractor, parts))
        done.append(Features(features.values.to(extractor.home), features.classes))
        if progress:
            progress("features of real images", start + len(block), len(items))
    return joined(done)


def joined(parts: list[Features]) -> Features:
    """Features of several sets of images, one after another."""
    classes = [part.classes for part in parts if part.classes is not None]
    return Features(torch.cat([part.values for part in parts]), torch.cat(classes) if classes else None)


def _load(path: Path) -> Features | None:
    try:
        tensors = load_file(path)
    except (OSError, safetensors.SafetensorError):
        return None  # absent, or cut off: computed anew
    return Features(tensors["values"], tensors.get("classes"))


def _save(path: Path, features: Features) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    tensors = {"values": features.values.cpu()}
    if features.classes is not None:
        tensors["classes"] = features.classes.cpu()
    save_file(tensors, partial)
    publish(partial, path)


@dataclass(frozen=True)
class Floor:
    """Metrics of real images in the place of generated ones, by name, and which images those were.

    A generator that does better has memorised its reference. The floor of n samples is n held-out images
    against the reference of the samples. Where fewer than n are held out, it is n of the training images,
    half of them at most, against others of them. The Fréchet distance grows as images get fewer: where there
    are too few, its floor is scaled to the numbers of the samples and their reference.
    """

    scores: dict[str, Result]
    images: str


def floor(
    extractor: Extractor, pack: Pack, n: int, reference: int, by_class: bool, progress: Progress | None = None
) -> Floor:
    """The floor of n samples measured against `reference` training images; cached by the data's content.

    by_class: whether samples have classes, so that diversity is that within a class.
    """
    split = [blake2b(part.tobytes(), digest_size=16).hexdigest() for part in (pack.train, pack.held_out)]
    facts = (VERSION, pack.fingerprint, *split, extractor.hash, extractor.rule, n, reference, by_class)
    path = cache_dir("floors") / f"{key(*facts)[:24]}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Floor({name: Result(**score) for name, score in stored["scores"].items()}, stored["images"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or of another version: measure
    measured = _measured(extractor, pack, n, reference, by_class, progress)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(asdict(measured)), encoding="utf-8")
    publish(partial, path)
    return measured


def sides(pack: Pack, n: int, reference: int) -> tuple[Items, Items, str]:
    """Images in the place of samples, the images they are measured against, and both in words."""
    training = reference_items(pack, len(pack.train))
    if len(pack.held_out) >= n:
        images, against = pack.held_out[:n], training[:reference]
        sides = "held-out images against training images"
    else:
        part = min(n, len(training) // 2)
        images, against = training[:part], training[part:][:reference]
        sides = "two disjoint parts of the training images"
    return images, against, f"{sides}, {len(images):,} against {len(against):,}"


def _measured(
    extractor: Extractor, pack: Pack, n: int, reference: int, by_class: bool, progress: Progress | None
) -> Floor:
    images, against, words = sides(pack, n, reference)
    classes = classes_of(pack, images) if by_class else torch.full((len(images),), -1)
    real, others = (real_features(extractor, pack, side, progress) for side in (against, images))
    results = scores(extractor, real, others, classes)
    m = min(reference, len(pack.train))
    if (len(images), len(against)) != (n, m):
        training = real_features(extractor, pack, reference_items(pack, len(pack.train)), progress)
        results[extractor.frechet] = Result(frechet_floor(training.values, n, m))
        words += f", the Fréchet distance scaled to {n:,} against {m:,}"
    if "class accuracy" in results and extractor.accuracy is not None and not math.isnan(extractor.accuracy):
        # The classifier has learned its training images: its accuracy is that on held-out ones.
        results["class accuracy"] = Result(extractor.accuracy)
    return Floor(results, words)


def classes_of(pack: Pack, items: Sequence[int] | Items) -> Tensor:
    """The classes of items (n,), -1 for those that have none."""
    if "label" not in pack.given:
        return torch.full((len(items),), -1)
    labels = np.asarray(pack.given["label"])[items]
    return torch.from_numpy(np.where(pack.present[items], labels, -1))


@dataclass(frozen=True)
class Drawn:
    """Some samples, and the conditions they should show."""

    images: NDArray[np.uint8]  # (b, H, W, C)
    classes: Tensor  # (b,) int64 on the CPU, -1 for none
    masks: NDArray[np.uint8] | None = None  # (b, H, W) class numbers; of no class throughout where withheld
    attributes: NDArray[np.float32] | None = None  # (b, A), not-a-number where withheld


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
    weights, in words: conditions, sampler, guidance, seed, average. segmenter: measures whether samples
    follow their masks. regressor: measures their attributes. Raises UserError for too few images.
    """
    conditioned = Rows()
    confusion: Confusion | None = None
    errors = Rows()

    def images() -> Iterable[NDArray[Any]]:
        nonlocal confusion
        for part in samples:
            conditioned.add(part.classes)
            if segmenter and part.masks is not None:
                seen = segmenter.judge(part.images, part.masks)
                confusion = confusion + seen if confusion else seen
            if regressor and part.attributes is not None:
                rows = np.isfinite(part.attributes).all(1)
                errors.add(torch.from_numpy(regressor.judge(part.images[rows], part.attributes[rows])))
            yield part.images

    generated = extract(extractor, images())
    classes = conditioned.joined()
    items = reference_items(pack, reference)
    measured = scores(extractor, real_features(extractor, pack, items, progress), generated, classes)
    lowest = floor(extractor, pack, len(generated), reference, bool((classes >= 0).any()), progress)
    results = {
        name: replace(result, floor=lowest.scores[name].value if name in lowest.scores else None)
        for name, result in measured.items()
        if not math.isnan(result.value)
    }
    if segmenter and confusion:
        results |= mask_results(confusion, segmenter)
    if regressor and errors:
        results |= regressor.results([errors.joined().numpy()])
    bucket = f" of {'x'.join(map(str, pack.images.shape[1:3]))}" if pack.buckets else ""
    basis = {
        "extractor": _named(extractor),
        "images": extractor.rule,
        "n": f"{len(generated):,}",
        "reference": f"{len(items):,} of {len(pack.train):,} training images{bucket}, "
        f"data {pack.fingerprint[:12]}",
        "metrics": _metrics(generated, len(items)),
        **({"masks": f"segmenter {segmenter.hash}"} if segmenter else {}),
        **({"attributes": regressor.description} if regressor else {}),
        **sampling,
    }
    return Evaluation(step, weights, extractor.name, results, basis, lowest.images)


def mask_results(samples: Confusion, segmenter: Segmenter) -> dict[str, Result]:
    """Intersection over union of samples with their masks, mean and by class; floors: held-out images."""
    results = {"mask IoU": Result(samples.mean_iou, None, segmenter.known.mean_iou)}
    for name, value, real in zip(segmenter.classes, samples.iou, segmenter.known.iou, strict=True):
        results[f"IoU of {name}"] = Result(float(value), None, float(real))
    return {name: result for name, result in results.items() if not math.isnan(result.value)}


def _named(extractor: Extractor) -> str:
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
