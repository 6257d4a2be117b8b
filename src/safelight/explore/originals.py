"""Samples of a run beside the training images they are nearest to, and the images at risk of being copied."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from safelight.data.edits import Items
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.evaluate.features import Extractor, extract
from safelight.evaluate.judge import condition_items
from safelight.evaluate.measure import real_features
from safelight.evaluate.originals import Nearest
from safelight.loading.model import Model
from safelight.monitor.sample_statistics import all_features, features
from safelight.render.sheet import panel
from safelight.samplers.generate import chunks

HELD_OUT = 1000  # images of the baseline, at most
SHOWN = 16  # samples of a sheet


@dataclass(frozen=True)
class AtRisk:
    """A training image that samples come too near to."""

    name: str
    path: str | None  # where it is a file of a folder
    hash: str  # of its pixels
    samples: tuple[int, ...]  # numbers of those that are nearest to it
    ratio: float  # of the nearest
    space: str
    copies: int  # training images of the same pixels, itself included


@dataclass(frozen=True, eq=False)
class Originals:
    """What was found. Samples are numbered in the order of their conditions, as `evaluate` draws them."""

    step: int
    seed: int
    trained: int  # images searched
    images: NDArray[np.uint8]  # (n, H, W, C) samples
    spaces: dict[str, Nearest]  # pixels, and by the extractor's name
    items: NDArray[np.int64]  # which item of the pack a place is
    pack: Pack
    at_risk: tuple[AtRisk, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json and for the report."""
        rates = ("copies", "held_out_copies", "nearer")
        names = self.pack.names
        return {
            "step": self.step,
            "seed": self.seed,
            "n": len(self.images),
            "trained": self.trained,
            "spaces": {
                name: {"chance": space.chance} | {rate: asdict(getattr(space, rate)) for rate in rates}
                for name, space in self.spaces.items()
            },
            "at_risk": [asdict(item) for item in self.at_risk],
            "nearest": [
                {name: {"item": names[self.items[int(space.places[n])]], "ratio": float(space.ratios[n])}
                 for name, space in self.spaces.items()}
                for n in range(len(self.images))
            ],
        }  # fmt: skip

    def sheet(self) -> Image.Image:
        """The samples nearest to a training image, each above the nearest one in every space."""
        first = next(iter(self.spaces.values()))
        order = first.ratios.argsort()[:SHOWN]
        originals = [
            self.pack.images[self.items[space.places[order].numpy()]] for space in self.spaces.values()
        ]
        rows = ("sample", *(f"nearest in {name}" for name in self.spaces))
        grid = np.stack([self.images[order.numpy()], *originals])[..., :3]
        labels = tuple(f"{number}: {first.ratios[number]:.2f}" for number in order.tolist())
        return panel(grid, rows, labels)


def originals(
    model: Model, extractor: Extractor | None, n: int, seed: int, progress: Progress | None = None
) -> Originals:
    """Draw n samples under the conditions of training images, and find what they are nearest to.

    extractor: of the feature space, beside that of pixels averaged to 16x16; None = pixels alone. Images that
    do not count (data.without) are not searched: they were not trained on. Mirrored ones are, where training
    mirrors. Raises UserError.
    """
    stream = model.data.stream(progress)
    pack, flip = stream.pack, model.recipe.data.flip
    weights = Items(pack).weights(model.recipe.data) if not pack.buckets else None
    train = pack.train if weights is None else pack.train[weights[0][pack.train] > 0]
    held_out, drawn = pack.held_out[:HELD_OUT], []
    for rows in chunks(n):
        drawn.append(model.generate_like(stream.conditions(condition_items(pack, rows), rows), seed))
        if progress:
            progress("samples", rows.stop, n)
    images = np.concatenate(drawn)
    real = all_features(pack, train, flip)
    fresh = all_features(pack, held_out, False) if len(held_out) else real[:0]
    spaces = {"pixels": Nearest.of(features(images), real, fresh)}
    if extractor:
        both = real_features(extractor, pack, np.concatenate([train, held_out]), progress).values.cpu()
        known, fresh = both[: len(train)], both[len(train) :]
        spaces[extractor.name] = Nearest.of(extract(extractor, [images]).values.cpu(), known, fresh)
    items = np.tile(train, 1 + flip)
    risk = _at_risk(spaces, items, pack, model.recipe.data.place)
    return Originals(model.step, seed, len(train), images, spaces, items, pack, risk)


def _at_risk(
    spaces: dict[str, Nearest], items: NDArray[np.int64], pack: Pack, place: str
) -> tuple[AtRisk, ...]:
    """The training images that flagged samples are nearest to, the nearest first."""
    known = Items(pack)
    digests = [known.hash_of(int(item)) for item in pack.train] if len(pack.parts) == 1 else []
    times = Counter(digests)
    worst: dict[int, tuple[float, str]] = {}
    samples: dict[int, set[int]] = {}
    for name, space in spaces.items():
        for number in torch.nonzero(space.flagged).flatten().tolist():
            item, ratio = int(items[int(space.places[number])]), float(space.ratios[number])
            worst[item] = min(worst.get(item, (ratio, name)), (ratio, name))
            samples.setdefault(item, set()).add(number)
    made = []
    for item, (ratio, nearest) in sorted(worst.items(), key=lambda each: each[1]):
        path, digest = Path(place) / pack.names[item], known.hash_of(item)
        where = str(path) if place and path.is_file() else None
        numbers = tuple(sorted(samples[item]))
        made.append(AtRisk(pack.names[item], where, digest, numbers, ratio, nearest, times.get(digest, 1)))
    return tuple(made)
