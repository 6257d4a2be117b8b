"""Features of every image, by a frozen network that training asks for them again and again: computed once.

<cache>/features/<key>/<view>.bin holds a row (T,) of float32 for each item of a pack. The key hashes the
pack's fingerprint and the digest of the network's weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from safelight.data.by_view import Rows, read, rows_by_view
from safelight.data.cache import cache_dir
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.data.view import View

FORMAT = 1


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """The features of a pack's images, by view."""

    views: tuple[View, ...]
    rows: Rows  # by view (N, T) float32

    def read(self, items: NDArray[np.int64], which: NDArray[np.int64]) -> Tensor:
        """(b, T) of items, each in its own view: which (b,), places in `views`."""
        return torch.from_numpy(read(self.rows, items, which))


def open_features(
    pack: Pack,
    network: nn.Module,
    digest: str,
    views: tuple[View, ...],
    device: torch.device,
    progress: Progress | None = None,
) -> ImageFeatures:
    """The features of a pack: those in the cache, or computed now. Raises UserError.

    network: x (b, C, H, W) in [-1, 1] -> (b, T), in evaluation mode on the device. digest: of its weights.
    """

    def compute(x: Tensor) -> NDArray[np.float32]:
        features: NDArray[np.float32] = network(x).float().cpu().numpy()
        return features

    channels, *size = pack.spec.shape
    with torch.no_grad():
        count = network(torch.zeros(1, channels, *size, device=device)).shape[1]
    folder = cache_dir("features", key(FORMAT, pack.fingerprint, digest)[:24])
    rows = rows_by_view(
        folder, pack, views, lambda height, width: (count,), np.float32, compute, device, progress
    )
    return ImageFeatures(views, rows)
