"""Ranking texts by how well they fit an image: the second encoder, which no generator is trained by.

A small network learns images beside their captions' bags of word runs (language/words.py), contrastively,
from the training images of the data at hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import UserError
from safelight.data.cache import cache_dir
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.draw import RowDraw, permutation
from safelight.evaluate import classifier
from safelight.evaluate.classifier import cosine, initialised, load, save, shifted, weights_hash
from safelight.evaluate.features import READER, Extractor
from safelight.evaluate.reader import Reader
from safelight.evaluate.scores import Score
from safelight.language import words

VERSION = 1  # of the network and its training: another number trains anew
FEATURES = 128
BATCH, FEWEST, MOST, EPOCHS = 128, 30_000, 200_000, 12  # images a step, and shown in all
TEMPERATURE, LR = 0.07, 3e-3
AMONG = 32  # texts of which the right one is to be found


def open_retrieval(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> Reader:
    """The reader of a pack's captions: the one in the cache, or trained now. Raises UserError without any."""
    captioned = np.array([bool(own) for own in pack.texts] or [False])
    if not captioned.any():
        raise UserError(
            f"features {READER!r}: {pack.name} has no captions to read; use features efficientnet"
        )
    train = pack.train[captioned[pack.train]]
    path = cache_dir("extractors") / (
        f"reader-{key('reader', VERSION, pack.fingerprint, train.tobytes())[:16]}.safetensors"
    )
    network = build(pack.spec.shape[0])
    with FileLock(f"{path}.lock"):
        if load(path, network) is None:
            tell(f"training a reader on {len(train):,} captioned images of {pack.name}, once")
            learn(network, pack, train, device, progress)
            save(path, network, math.nan)
    network.to(device).eval().requires_grad_(False)
    image, text = network[0], network[1]

    def see(pixels: Tensor) -> tuple[Tensor, None]:
        return F.normalize(image(classifier.prepared(pixels)), dim=1), None

    def scores(features: Tensor, texts: Sequence[str]) -> dict[str, Score]:
        told = F.normalize(text.cpu()(torch.from_numpy(words.encode(texts))), dim=1)
        return ranked(features.cpu() @ told.T, texts)

    rule = f"as it is, averaged down to {classifier.LARGEST} pixels where larger"
    extractor = Extractor(READER, weights_hash(network), rule, see, device)
    what = f"share of other texts that fit worse, chance 0.5; how often the own one of {AMONG} fits best"
    return Reader(extractor, scores, what)


def build(channels: int) -> nn.Sequential:
    """An image side (b, C, H, W) -> (b, FEATURES), and a text side (b, words.SIZE) -> (b, FEATURES)."""
    image = classifier.build(channels, FEATURES)
    text = initialised(
        lambda: nn.Sequential(nn.Linear(words.SIZE, FEATURES), nn.ReLU(), nn.Linear(FEATURES, FEATURES))
    )
    return nn.Sequential(image, text)


def learn(
    network: nn.Sequential,
    pack: Pack,
    train: NDArray[np.int64],
    device: torch.device,
    progress: Progress | None,
) -> None:
    """InfoNCE both ways (Radford 2021), a caption of each image drawn at random, images shifted a little."""
    image, text = network.to(device).train()
    features = {int(item): torch.from_numpy(words.encode(pack.texts[int(item)])) for item in train}
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.05, fused=True)
    batch = min(BATCH, len(train))
    steps = min(MOST, max(FEWEST, EPOCHS * len(train))) // batch
    order = np.concatenate(
        [train[permutation(len(train), "reader", epoch)] for epoch in range(steps * batch // len(train) + 1)]
    )
    for step in range(steps):
        items = order[step * batch : (step + 1) * batch]
        draw = RowDraw(0, step, "reader", range(batch))
        pixels = torch.from_numpy(pack.images[items]).permute(0, 3, 1, 2)
        pixels = shifted(pixels, draw, classifier.SHIFT).to(device)
        which = draw.uniform("caption")
        told = torch.stack([own[int(which[row] * len(own))] for row, own in
                            enumerate(features[int(item)] for item in items)]).to(device)  # fmt: skip
        for group in optimiser.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / (0.1 * steps)) * cosine(step / steps)
        optimiser.zero_grad()
        seen = F.normalize(image(classifier.prepared(pixels)), dim=1)
        logits = seen @ F.normalize(text(told), dim=1).T / TEMPERATURE
        own = torch.arange(batch, device=device)
        loss = F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if progress and (step % 10 == 0 or step == steps - 1):
            progress("training the reader", (step + 1) * batch, steps * batch)


def ranked(fits: Tensor, texts: Sequence[str]) -> dict[str, Score]:
    """Scores of how well image i fits text j (n, n), its own text being i; spreads are standard errors.

    Texts that are the same as the own one are no others.
    """
    number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    which = torch.tensor([number[text] for text in texts])
    other = which[:, None] != which[None]
    own = fits.diagonal()[:, None]
    worse = ((fits < own).double() + 0.5 * (fits == own).double()) * other
    rank = worse.sum(1) / other.sum(1).clamp(min=1)
    rank = rank[other.any(1)]
    if len(rank) < 2:
        return {}
    best = rank ** (AMONG - 1)  # that each of so many others, drawn at random, fits worse

    def mean(values: Tensor) -> Score:
        return Score(float(values.mean()), float(values.std() / math.sqrt(len(values))))

    return {"retrieval rank": mean(rank), f"retrieval of {AMONG}": mean(best)}
