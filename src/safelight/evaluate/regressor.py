"""A small regressor of attributes, trained once on each data set: do samples have those they should?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.data.pack import Pack
from safelight.data.source import Progress
from safelight.evaluate.classifier import build, prepared
from safelight.evaluate.evaluation import Result
from safelight.evaluate.features import pixels_of
from safelight.evaluate.training import (
    chunks,
    fit,
    shifted,
    shuffled,
    trained_once,
    weights_hash,
)
from safelight.randomness import RowDraw

VERSION = 1  # of the network and its training: another number trains anew
EPOCHS, FEWEST, MOST = 4, 16_000, 60_000  # images shown: so many epochs, between these
SIZE, LR, WEIGHT_DECAY, SHIFT = 64, 5e-3, 0.02, 2  # of a batch; AdamW's; pixels an image is moved by at most

Values = NDArray[np.float32]  # (n, A)


@dataclass(frozen=True, eq=False)
class Regressor:
    """A network that reads attributes off images."""

    hash: str  # of its weights
    names: tuple[str, ...]
    known: tuple[float, ...]  # mean absolute error by attribute, on held-out real images
    guess: tuple[float, ...]  # the error of always predicting the mean of the data
    predict: Callable[[NDArray[np.uint8]], Values]  # (b, H, W, C) -> (b, A)

    def judge(self, images: NDArray[np.uint8], attributes: Values) -> Values:
        """Absolute errors (b, A) of images against the attributes they should have."""
        errors: Values = np.abs(self.predict(images) - attributes)
        return errors

    def results(self, errors: Sequence[Values]) -> dict[str, Result]:
        """The mean error of samples by attribute, beside that of real images."""
        means = np.concatenate(errors).mean(0).tolist()
        return {
            f"error of {name}": Result(error, None, real)
            for name, error, real in zip(self.names, means, self.known, strict=True)
        }

    @property
    def description(self) -> str:
        """What the errors are, and those of a guess."""
        guesses = ", ".join(f"{name} {error:.3f}" for name, error in zip(self.names, self.guess, strict=True))
        return f"regressor {self.hash}, mean absolute errors; always predicting the mean makes {guesses}"


def open_regressor(
    pack: Pack, device: torch.device, tell: Callable[[str], None], progress: Progress | None = None
) -> Regressor | None:
    """The regressor of a pack: the one in the cache, or trained now; None where too few have attributes."""
    condition = pack.conditions.get("attributes")
    if condition is None:
        return None
    items, held_out = (side[pack.covered["attributes"][side]] for side in (pack.train, pack.held_out))
    if not (len(items) and len(held_out)):
        return None
    values = np.asarray(pack.given["attributes"], np.float32)
    mean, deviation = values[items].mean(0), values[items].std(0).clip(1e-6)
    network = build(pack.images.shape[3], condition.size)

    def read(images: NDArray[np.uint8], items: NDArray[np.int64]) -> Values:
        values: Values = _read(network, images, items, device) * deviation + mean
        return values

    def predict(images: NDArray[np.uint8]) -> Values:
        return read(images, np.arange(len(images)))

    def train() -> object:
        tell(f"training a regressor of attributes on {len(items):,} images of {pack.name}, once")
        learn(network, pack, items, (values - mean) / deviation, progress)
        return np.abs(read(pack.images, held_out) - values[held_out]).mean(0).tolist()

    facts = (VERSION, pack.fingerprint, items.tobytes(), held_out.tobytes())
    known = tuple(trained_once("regressor", facts, network, device, train))
    names = condition.names or tuple(map(str, range(condition.size)))
    guess = tuple(np.abs(values[held_out] - mean).mean(0).tolist())
    return Regressor(weights_hash(network), names, known, guess, predict)


def learn(
    network: nn.Sequential, pack: Pack, items: NDArray[np.int64], targets: Values, progress: Progress | None
) -> None:
    """Train on items with attributes by the squared error of targets (N, A), images shifted a little."""
    device = next(network.parameters()).device
    steps = min(MOST, max(FEWEST, EPOCHS * len(items))) // SIZE
    order = shuffled(items, steps * SIZE, "regressor", whole=SIZE)

    def loss(step: int) -> Tensor:
        rows = order[step * SIZE : (step + 1) * SIZE]
        pixels = shifted(pixels_of(pack.images[rows]), RowDraw(0, step, "regressor", range(SIZE)), SHIFT)
        return F.mse_loss(network(prepared(pixels.to(device))), torch.from_numpy(targets[rows]).to(device))

    settings = {"lr": LR, "weight_decay": WEIGHT_DECAY, "warm_up": 0.1 * steps}
    fit(network, loss, "regressor", progress, steps=steps, batch=SIZE, **settings)


@torch.inference_mode()
def _read(
    network: nn.Sequential, images: NDArray[np.uint8], items: NDArray[np.int64], device: torch.device
) -> Values:
    values: Values = torch.cat(
        [network(prepared(x)).float().cpu() for x in chunks(images, items, device)]
    ).numpy()
    return values
