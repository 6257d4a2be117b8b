"""Features of a small classifier, trained once on the labels of each data set.

Its features know the data at hand, which ImageNet's do not, and its classes measure class accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import UserError
from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.evaluate.features import Extractor, pixels_of
from safelight.evaluate.training import (
    averaged_down,
    chunks,
    fit,
    initialised,
    shifted,
    shuffled,
    trained_once,
    weights_hash,
)
from safelight.randomness import RowDraw

VERSION = 2  # of the network and its training: another number trains anew
FEATURES = 128
LARGEST = 64  # pixels; larger images are averaged down to this
EPOCHS, FEWEST, MOST = 12, 16_000, 200_000  # images shown: so many epochs, between these
AUGMENTED = 4  # epochs from which on images are shifted, by up to
SHIFT = 2  # pixels
LR, WEIGHT_DECAY = 0.01, 0.02  # lr of batches of 256, by the square root of the size for others
RULE = f"as it is, averaged down to {LARGEST} pixels where larger"


def open_classifier(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> Extractor:
    """The classifier of a pack: the one in the cache, or trained now. Raises UserError without classes."""
    if pack.spec.classes < 2:
        raise UserError(
            f"features 'classifier': {pack.name} has no classes to learn; "
            "use features efficientnet or random, or data.labels = true"
        )
    items, held_out = (side[pack.present[side]] for side in (pack.train, pack.held_out))
    network = build(pack.spec.shape[0], pack.spec.classes)

    def train() -> float:
        tell(f"training a classifier on {len(items):,} images of {pack.name}, once")
        learn(network, pack, items, progress)
        return _accuracy(network, pack, held_out, device)

    facts = (VERSION, pack.fingerprint, items.tobytes(), held_out.tobytes())
    accuracy = trained_once("classifier", facts, network, device, train)
    body, head = network[:-1], network[-1]

    def see(pixels: Tensor) -> tuple[Tensor, Tensor]:
        features: Tensor = body(prepared(pixels))
        return features, head(features).argmax(1)

    return Extractor("classifier", weights_hash(network), RULE, see, device, accuracy)


def build(channels: int, classes: int) -> nn.Sequential:
    """(b, C, H, W) in [-1, 1] -> class logits (b, classes); all but the last layer give the features."""
    network = initialised("classifier", lambda: nn.Sequential(*body(channels), nn.Linear(FEATURES, classes)))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def body(channels: int) -> list[nn.Module]:
    """The layers that turn (b, C, H, W) in [-1, 1] into features (b, FEATURES)."""

    def block(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return [
        *block(channels, 32, 5, stride=2),
        *block(32, 48),
        nn.MaxPool2d(2, ceil_mode=True),
        *block(48, 96),
        nn.MaxPool2d(2, ceil_mode=True),
        *block(96, FEATURES),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]


def prepared(pixels: Tensor) -> Tensor:
    """uint8 (b, C, H, W) -> float32 in [-1, 1], no side above LARGEST."""
    return averaged_down(pixels, LARGEST).contiguous(memory_format=torch.channels_last)


def learn(network: nn.Sequential, pack: Pack, items: NDArray[np.int64], progress: Progress | None) -> None:
    """Train on labelled items by cross-entropy; images that come often are shifted."""
    device = next(network.parameters()).device
    images = min(MOST, max(FEWEST, EPOCHS * len(items)))
    batch = max(32, min(256, images // 400))
    steps = images // batch
    order = shuffled(items, steps * batch, "classifier")
    shift = SHIFT if images / len(items) > AUGMENTED else 0

    def loss(step: int) -> Tensor:
        rows = order[step * batch : (step + 1) * batch]
        pixels = pixels_of(pack.images[rows])
        labels = torch.from_numpy(pack.given["label"][rows]).to(device)
        if shift:
            pixels = shifted(pixels, RowDraw(0, step, "classifier", range(batch)), shift)
        return F.cross_entropy(network(prepared(pixels.to(device))), labels)

    settings = {"lr": LR * math.sqrt(batch / 256), "weight_decay": WEIGHT_DECAY, "warm_up": 0.15 * steps}
    fit(network, loss, "classifier", progress, steps=steps, batch=batch, **settings)


@torch.inference_mode()
def _accuracy(network: nn.Sequential, pack: Pack, items: NDArray[np.int64], device: torch.device) -> float:
    """Share of items classified rightly; NaN of none."""
    if not len(items):
        return math.nan
    taken = torch.cat([network(prepared(x)).argmax(1).cpu() for x in chunks(pack.images, items, device)])
    return float((taken == torch.from_numpy(pack.given["label"][items])).double().mean())
