"""Ranking texts by how well they fit an image: a second encoder, which trains no generator.

A small network learns images beside their captions' bags of word runs (language/words.py), contrastively,
from the training images of the data at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import UserError
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.evaluate import classifier
from safelight.evaluate.evaluation import Result
from safelight.evaluate.features import READER, Extractor, pixels_of
from safelight.evaluate.reader import ConditionReader
from safelight.evaluate.training import (
    fit,
    initialised,
    shifted,
    shuffled,
    trained_once,
    weights_hash,
)
from safelight.language import words
from safelight.randomness import RowDraw

VERSION = 2  # of the network and its training: another number trains anew
FEATURES = 128
BATCH, FEWEST, MOST, EPOCHS = 128, 30_000, 200_000, 12  # images a step, and shown in all
TEMPERATURE, LR, WEIGHT_DECAY = 0.07, 3e-3, 0.05
AMONG = 32  # texts of which the right one is ranked


def open_retrieval(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> ConditionReader:
    """The reader of a pack's captions, as `open_towers` has it. Raises UserError without any."""
    network = open_towers(pack, device, tell, progress)
    image, text = network[0], network[1]

    def see(pixels: Tensor) -> tuple[Tensor, None]:
        return F.normalize(image(classifier.prepared(pixels)), dim=1), None

    def scores(features: Tensor, texts: Sequence[str]) -> dict[str, Result]:
        return ranked(features.cpu() @ text_features(text, texts).T, texts)

    extractor = Extractor(READER, weights_hash(network), classifier.RULE, see, device)
    description = (
        f"share of other texts that fit worse, chance 0.5; how often the right one of {AMONG} fits best"
    )
    return ConditionReader(extractor, scores, description)


def text_features(text: nn.Module, texts: Sequence[str]) -> Tensor:
    """Features (n, FEATURES) of unit length of texts, by the text side."""
    return F.normalize(text.cpu()(torch.from_numpy(words.encode(texts))), dim=1)


def open_towers(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> nn.Sequential:
    """Image and text side, see `build`: those in the cache, or trained now, frozen. Raises UserError."""
    captioned = np.array([bool(captions) for captions in pack.texts] or [False])
    if not captioned.any():
        raise UserError(
            f"features {READER!r}: {pack.name} has no captions to read; use features efficientnet"
        )
    items = pack.train[captioned[pack.train]]
    network = build(pack.spec.shape[0])

    def train() -> None:
        tell(f"training a reader on {len(items):,} captioned images of {pack.name}, once")
        learn(network, pack, items, progress)

    trained_once("reader", (VERSION, pack.fingerprint, items.tobytes()), network, device, train)
    return network


def build(channels: int) -> nn.Sequential:
    """An image side (b, C, H, W) -> (b, FEATURES), and a text side (b, words.SIZE) -> (b, FEATURES)."""
    image = classifier.build(channels, FEATURES)
    text = initialised(
        "classifier",
        lambda: nn.Sequential(nn.Linear(words.SIZE, FEATURES), nn.ReLU(), nn.Linear(FEATURES, FEATURES)),
    )
    return nn.Sequential(image, text)


def learn(network: nn.Sequential, pack: Pack, items: NDArray[np.int64], progress: Progress | None) -> None:
    """InfoNCE both ways (Radford 2021), a caption of each image drawn at random, images shifted a little."""
    image, text = network
    device = next(network.parameters()).device
    features = {int(item): torch.from_numpy(words.encode(pack.texts[int(item)])) for item in items}
    batch = min(BATCH, len(items))
    steps = min(MOST, max(FEWEST, EPOCHS * len(items))) // batch
    order = shuffled(items, steps * batch, "reader")
    pairs = torch.arange(batch, device=device)

    def loss(step: int) -> Tensor:
        rows = order[step * batch : (step + 1) * batch]
        draw = RowDraw(0, step, "reader", range(batch))
        pixels = shifted(pixels_of(pack.images[rows]), draw, classifier.SHIFT).to(device)
        captions = [features[int(item)] for item in rows]
        choice = draw.uniform("caption")
        texts_seen = torch.stack([each[int(u * len(each))] for each, u in zip(captions, choice, strict=True)])
        seen = F.normalize(image(classifier.prepared(pixels)), dim=1)
        logits = seen @ F.normalize(text(texts_seen.to(device)), dim=1).T / TEMPERATURE
        return F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)

    settings = {"lr": LR, "weight_decay": WEIGHT_DECAY, "warm_up": 0.1 * steps}
    fit(network, loss, "reader", progress, steps=steps, batch=batch, **settings)


def ranked(fits: Tensor, texts: Sequence[str]) -> dict[str, Result]:
    """Scores of how well image i fits text j (n, n), text i being right; spreads are standard errors.

    Texts equal to the right one are left out.
    """
    number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    numbers = torch.tensor([number[text] for text in texts])
    other = numbers[:, None] != numbers[None]
    right = fits.diagonal()[:, None]
    worse = ((fits < right).double() + 0.5 * (fits == right).double()) * other
    rank = worse.sum(1) / other.sum(1).clamp(min=1)
    rank = rank[other.any(1)]
    if len(rank) < 2:
        return {}
    best = rank ** (AMONG - 1)  # that each of so many others, drawn at random, fits worse

    def mean(values: Tensor) -> Result:
        return Result(float(values.mean()), float(values.std() / math.sqrt(len(values))))

    return {"retrieval rank": mean(rank), f"retrieval of {AMONG}": mean(best)}
