"""A small segmenter, trained once on the masks of each data set: do samples follow their masks?

Its pooled features measure distances.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import UserError
from safelight.data.pack import Pack
from safelight.data.source import NOT_MASKED, Progress
from safelight.evaluate.features import BATCH, Extractor, pixels_of
from safelight.evaluate.training import (
    averaged_down,
    chunks,
    fit,
    initialised,
    shuffled,
    trained_once,
    weights_hash,
)
from safelight.randomness import RowDraw

VERSION = 1  # of the network and its training: another number trains anew
WIDTHS = (24, 48, 96)
LARGEST = 128  # pixels; larger images are averaged down to this, their masks to the nearest
EPOCHS, FEWEST, MOST = 6, 12_000, 100_000  # images shown: so many epochs, between these
SIZE, LR, WEIGHT_DECAY = 32, 3e-3, 0.02  # of a batch, and AdamW's
RULE = f"as it is, averaged down to {LARGEST} pixels where larger"


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network that classifies every pixel."""

    hash: str  # of its weights
    classes: tuple[str, ...]
    known: Confusion  # on held-out real images
    predict: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # (b, H, W, C) -> (b, h, w), LARGEST at most
    extractor: Extractor  # its features

    def judge(self, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> Confusion:
        """How images (b, H, W, C) agree with the masks (b, H, W) they were to follow."""
        predicted = self.predict(images)
        return Confusion.of(predicted, resized(masks, predicted.shape[1:]), len(self.classes))


@dataclass(frozen=True, eq=False)
class Confusion:
    """Pixels by the class they should be of, and the class they are taken for: (K, K)."""

    pixels: NDArray[np.int64]

    @classmethod
    def of(cls, predicted: NDArray[np.uint8], target: NDArray[np.uint8], classes: int) -> Confusion:
        """Pixels of no class are left out."""
        known = target < classes
        place = target[known].astype(np.int64) * classes + predicted[known]
        return cls(np.bincount(place, minlength=classes**2).reshape(classes, classes))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.pixels + other.pixels)

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class (K,); NaN of a class that is nowhere."""
        both = np.diagonal(self.pixels).astype(float)
        either = self.pixels.sum(0) + self.pixels.sum(1) - both
        shares: NDArray[np.float64] = np.full(len(both), math.nan)
        np.divide(both, either, out=shares, where=either > 0)
        return shares

    @property
    def mean_iou(self) -> float:
        """The mean over the classes that should be somewhere."""
        there = self.pixels.sum(1) > 0
        return float(self.iou[there].mean()) if there.any() else math.nan


def open_segmenter(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> Segmenter:
    """The segmenter of a pack: the one in the cache, or trained now. Raises UserError without masks."""
    if "mask" not in pack.described:
        raise UserError(f"features 'segmenter': {pack.name} has no masks to learn; use efficientnet")
    items, held_out = (side[pack.covered["mask"][side]] for side in (pack.train, pack.held_out))
    count, names = pack.mask_classes, pack.described["mask"][2]
    classes = tuple(names) or tuple(map(str, range(count)))
    network = build(pack.images.shape[3], len(classes))

    def train() -> object:
        tell(f"training a segmenter on {len(items):,} images of {pack.name}, once")
        learn(network, pack, items, progress)
        return _known(network, pack, held_out, len(classes), device).pixels.tolist()

    facts = (VERSION, pack.fingerprint, items.tobytes(), held_out.tobytes())
    known = Confusion(np.array(trained_once("segmenter", facts, network, device, train), np.int64))
    weights = weights_hash(network)

    def see(pixels: Tensor) -> tuple[Tensor, None]:
        return network.features(shown(pixels)), None

    def predict(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return _predict(network, images, device)

    return Segmenter(weights, classes, known, predict, Extractor("segmenter", weights, RULE, see, device))


class Network(nn.Module):
    """(b, C, H, W) in [-1, 1] -> class logits (b, K, H, W): three sizes down, and up again."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.enter = _layer(channels, fine, 5, stride=2)
        self.fine = _layer(fine, middle)
        self.middle = _layer(middle, coarse)
        self.coarse = _layer(coarse, coarse)
        self.up = _layer(2 * coarse, middle)
        self.out = _layer(2 * middle, middle)
        self.head = nn.Conv2d(middle + fine, 4 * classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        first, fine, middle, coarse = self._down(x)
        y = self.up(torch.cat([middle, _like(coarse, middle)], 1))
        y = self.out(torch.cat([fine, _like(y, fine)], 1))
        logits = F.pixel_shuffle(self.head(torch.cat([first, y], 1)), 2)
        return logits[:, :, :height, :width]

    def features(self, x: Tensor) -> Tensor:
        """What it sees at its two coarser sizes: mean over the pixels, and spread, (b, 4 * 96)."""
        _, _, middle, coarse = self._down(x)
        parts = [part.flatten(2) for part in (middle, coarse)]
        return torch.cat([statistic for part in parts for statistic in (part.mean(2), part.std(2))], 1)

    def _down(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first = self.enter(x)
        fine = self.fine(first)
        middle = self.middle(F.max_pool2d(fine, 2, ceil_mode=True))
        return first, fine, middle, self.coarse(F.max_pool2d(middle, 2, ceil_mode=True))


def _layer(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def _like(x: Tensor, other: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, : other.shape[2], : other.shape[3]]


def build(channels: int, classes: int) -> Network:
    """The network, its weights drawn by name."""
    return initialised("segmenter", lambda: Network(channels, classes), layer="{}")


def shown(pixels: Tensor) -> Tensor:
    """uint8 (b, C, H, W) -> float32 in [-1, 1], no side above LARGEST."""
    return averaged_down(pixels, LARGEST)


def resized(masks: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """Class numbers (b, H, W) at a size (h, w), each of the pixel that lies in its middle."""
    if masks.shape[1:] == tuple(size):
        return masks
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, masks.shape[1:], strict=True)
    )
    return masks[:, rows[:, None], columns]


def learn(network: Network, pack: Pack, items: NDArray[np.int64], progress: Progress | None) -> None:
    """Train on masked items by their cross-entropy, rare classes weighted up, half of the images mirrored."""
    device = next(network.parameters()).device
    steps = min(MOST, max(FEWEST, EPOCHS * len(items))) // SIZE
    order = shuffled(items, steps * SIZE, "segmenter", whole=SIZE)
    classes = network.head.out_channels // 4
    counts = np.bincount(pack.mask_numbers(items[:500]).ravel(), minlength=256)[:classes]
    weight = torch.tensor((counts / counts.sum()).clip(1e-3) ** -0.5, dtype=torch.float32, device=device)

    def loss(step: int) -> Tensor:
        rows = order[step * SIZE : (step + 1) * SIZE]
        x = shown(pixels_of(pack.images[rows]).to(device))
        masks = resized(pack.mask_numbers(rows), tuple(x.shape[2:]))
        ids = torch.from_numpy(np.ascontiguousarray(masks)).long().to(device)
        if RowDraw(0, step, "segmenter", range(1)).uniform("mirrored") < 0.5:
            x, ids = x.flip(3), ids.flip(2)
        target = torch.where(ids < classes, ids, NOT_MASKED)
        return F.cross_entropy(network(x), target, weight, ignore_index=NOT_MASKED)

    settings = {"lr": LR, "weight_decay": WEIGHT_DECAY, "warm_up": 0.1 * steps}
    fit(network, loss, "segmenter", progress, steps=steps, batch=SIZE, **settings)


@torch.inference_mode()
def _predict(network: Network, images: NDArray[np.uint8], device: torch.device) -> NDArray[np.uint8]:
    every = chunks(images, np.arange(len(images)), device)
    return np.concatenate([network(shown(x)).argmax(1).to(torch.uint8).cpu().numpy() for x in every])


def _known(
    network: Network, pack: Pack, items: NDArray[np.int64], classes: int, device: torch.device
) -> Confusion:
    """How it does on real items it has not learnt."""
    total = Confusion(np.zeros((classes, classes), np.int64))
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        predicted = _predict(network, np.asarray(pack.images[part]), device)
        masks = resized(pack.mask_numbers(part), predicted.shape[1:])
        total += Confusion.of(predicted, masks, classes)
    return total
