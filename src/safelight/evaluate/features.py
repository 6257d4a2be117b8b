"""Features: what a network that did not train the generator sees in images. Metrics are functions of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BATCH = 100  # images an extractor sees at once, always: features depend on it in their last bits
READER = "reader"  # of captions, see reader.py
RANDOM = "random"  # a network of random weights
INCEPTION = "inception"  # the one extractor whose distance may be called FID


@dataclass(frozen=True)
class Features:
    """Features of n images."""

    values: Tensor  # (n, d) float32
    classes: Tensor | None = None  # (n,) int64 on the CPU: what they are taken for, by one that knows classes

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Extractor:
    """A network that turns images into features, and what a number needs to name it by."""

    name: str
    hash: str  # of its weights
    rule: str  # what happens to an image before the network sees it
    network: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    # uint8 (b, C, H, W) -> features (b, d), and classes (b,) where it knows them
    device: torch.device
    accuracy: float | None = None  # on held-out images, of one that knows the classes

    @property
    def home(self) -> torch.device:
        """Where features are kept and compared: float64 is not to be had on every device."""
        return self.device if self.device.type == "cuda" else torch.device("cpu")

    @property
    def frechet(self) -> str:
        """The name of its Fréchet distance: only that of TF-2015 Inception features is FID."""
        return "FID" if self.name == INCEPTION else f"FD-{self.name}"

    @property
    def kernel(self) -> str:
        """The name of its kernel distance."""
        return "KID" if self.name == INCEPTION else f"KID-{self.name}"


@torch.inference_mode()
def extract(extractor: Extractor, chunks: Iterable[NDArray[Any]]) -> Features:
    """Features of images that come in chunks (b, H, W, C) uint8. Keeps features, not images.

    Raises ValueError where there is no image.
    """
    values, classes = [], []
    for chunk in chunks:
        for batch in torch.split(pixels_of(chunk), BATCH):
            own, predicted = extractor.network(batch.to(extractor.device))
            values.append(own.float().to(extractor.home))
            if predicted is not None:
                classes.append(predicted.cpu())
    if not values:
        raise ValueError("features of no images")
    return Features(torch.cat(values), torch.cat(classes) if classes else None)


def pixels_of(images: NDArray[Any]) -> Tensor:
    """Images as packs hold them, (b, H, W, C) -> as networks take them, (b, C, H, W) uint8."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"])).permute(0, 3, 1, 2)


def rgb(pixels: Tensor) -> Tensor:
    """Images (b, C, H, W) with three channels: grey is replicated."""
    return pixels.expand(-1, 3, -1, -1) if pixels.shape[1] == 1 else pixels


def file_hash(path: Path) -> str:
    """16 hexadecimal digits that stand for the content of a file."""
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=8)).hexdigest()
