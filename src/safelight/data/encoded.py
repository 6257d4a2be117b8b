"""What a network makes of every item of a pack, computed once: a file for each view, a row for each item.

A row is written once and in order: what was killed goes on behind the last whole block. Files are named by
the view, in a folder whose name hashes all that they depend on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from safelight.config import UserError
from safelight.data.cache import cache_dir, move_into_place
from safelight.data.config import Measured
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.data.space import Codec, Space
from safelight.data.views import STRAIGHT, View

BLOCK = 64  # items computed and written at once, at most
PIXELS = 1 << 22  # of a block, at most
Rows = tuple[NDArray[Any], ...]  # by view (N, ...): memory maps


def rows_by_view(
    folder: Path,
    pack: Pack,
    views: tuple[View, ...],
    shape: Callable[[int, int], tuple[int, ...]],
    dtype: type[np.generic],
    compute: Callable[[Tensor], NDArray[Any]],
    device: torch.device,
    progress: Progress | None = None,
) -> Rows:
    """The rows of every view: those in the folder, or computed now. Raises UserError.

    shape: of a row, for images (H, W). compute: x (b, C, H, W) in [-1, 1] on the device -> rows (b, *shape).
    """
    with FileLock(folder.with_suffix(".lock")):
        return tuple(_rows(folder, pack, view, shape, dtype, compute, device, progress) for view in views)


def read(rows: Rows, items: NDArray[np.int64], which: NDArray[np.int64]) -> NDArray[Any]:
    """Rows (b, ...) of items, each in its own view: which (b,), places among the views."""
    found = np.empty((len(items), *rows[0].shape[1:]), rows[0].dtype)
    for place in np.unique(which):
        own = which == place
        found[own] = rows[place][items[own]]
    return found


def _rows(
    folder: Path, pack: Pack, view: View, shape: Callable[[int, int], tuple[int, ...]],
    dtype: type[np.generic], compute: Callable[[Tensor], NDArray[Any]], device: torch.device,
    progress: Progress | None,
) -> NDArray[Any]:  # fmt: skip
    """The rows of one view, mapped into memory."""
    height, width = pack.images.shape[1:3]
    own = shape(*((width, height) if view.quarters % 2 else (height, width)))
    path, partial = folder / f"{view.name}.bin", folder / f"{view.name}.partial"
    if not path.exists():
        try:
            _compute(partial, pack, view, prod(own) * np.dtype(dtype).itemsize, compute, device, progress)
        except OSError as error:
            raise UserError(
                f"{partial}: cannot be written ({error.strerror}); make room, or set SAFELIGHT_CACHE"
            ) from error
        move_into_place(partial, path)
    return np.memmap(path, dtype, "r", shape=(len(pack), *own))


@torch.no_grad()
def _compute(
    partial: Path, pack: Pack, view: View, row: int, compute: Callable[[Tensor], NDArray[Any]],
    device: torch.device, progress: Progress | None,
) -> None:  # fmt: skip
    """Append the rows that are not there yet, a block at a time. row: bytes of one."""
    block = max(1, min(BLOCK, PIXELS // prod(pack.images.shape[1:3])))
    with partial.open("ab") as file:
        done = file.tell() // (row * block) * block
        file.truncate(done * row)
        for start in range(done, len(pack), block):
            pixels = torch.from_numpy(np.array(pack.images[start : start + block])).to(device)
            file.write(compute(Space().from_pixels(view.of(pixels, 1, 2))).tobytes())
            file.flush()
            os.fsync(file.fileno())
            if progress:
                progress(f"encoding {pack.name}, {view.name}", start + len(pixels), len(pack))


# --- Latents of every item, encoded once: mean and standard deviation of the posterior, in every view ---
# <cache>/latents/<key>/<view>.bin holds a row (2, c, h, w) of bfloat16 for each item of a pack: mean,
# then std.
# The key hashes the pack's fingerprint and the codec's digest, so that another encoder makes other files.

FORMAT = 1
MEASURED = 4096  # items the mean and deviation of the latents are measured on
SMALLEST = 1e-3  # of a standard deviation that is divided by: a channel that says nothing stays finite


@dataclass(frozen=True, eq=False)
class Latents:
    """The latents of a pack, by view."""

    views: tuple[View, ...]
    rows: Rows  # by view (N, 2, c, h, w): the bits of bfloat16

    def read(self, items: NDArray[np.int64], which: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Mean and std (b, c, h, w) of items, each in its own view: which (b,), places in `views`."""
        bits = read(self.rows, items, which)
        mean, std = torch.from_numpy(bits).view(torch.bfloat16).float().unbind(1)
        return mean, std


def open_latents(
    pack: Pack, codec: Codec, views: tuple[View, ...], device: torch.device, progress: Progress | None = None
) -> Latents:
    """The latents of a pack: those in the cache, or encoded now. Raises UserError where they do not fit."""
    height, width = pack.images.shape[1:3]
    if height % codec.factor or width % codec.factor:
        raise UserError(
            f"data.size: {height}x{width} images do not divide by {codec.factor}, as {codec.name} needs"
        )

    def compute(x: Tensor) -> NDArray[np.uint16]:
        bits = torch.stack([*codec.encode(x)], 1).to(torch.bfloat16).cpu().contiguous().view(torch.int16)
        return bits.numpy().view(np.uint16)

    folder = cache_dir("latents", key(FORMAT, pack.fingerprint, codec.digest)[:24])

    def shape(height: int, width: int) -> tuple[int, ...]:
        return (2, *codec.shape(height, width))

    return Latents(views, rows_by_view(folder, pack, views, shape, np.uint16, compute, device, progress))


def space_of(pack: Pack, latents: Latents, codec: Codec, shift: Measured, scale: Measured) -> Space:
    """The space of normalised latents: x = (latent - shift) * scale, as stated or as measured by channel."""
    found = {"shift": shift, "scale": scale}
    if "measured" in found.values():
        mean, std = measured(pack, latents)
        found["shift"] = mean if shift == "measured" else shift
        found["scale"] = tuple(1 / max(own, SMALLEST) for own in std) if scale == "measured" else scale
    values = {name: _by_channel(name, own, codec) for name, own in found.items()}
    return Space(codec, values["shift"], values["scale"])


def _by_channel(name: str, value: Measured, codec: Codec) -> tuple[float, ...]:
    assert value != "measured"
    numbers = tuple(value) if isinstance(value, tuple) else (float(value),) * codec.channels
    if len(numbers) != codec.channels:
        raise UserError(
            f"data.latents.{name}: states {len(numbers)} numbers, but latents of {codec.name} have "
            f"{codec.channels} channels"
        )
    return numbers


def measured(pack: Pack, latents: Latents) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by channel of latents drawn from the posteriors of training items.

    Var(latent) = Var(mean) + E(std²), so that nothing is drawn. The same items on every machine.
    """
    items = pack.train[np.linspace(0, len(pack.train) - 1, min(MEASURED, len(pack.train))).astype(np.int64)]
    straight = np.full(len(items), latents.views.index(STRAIGHT))
    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for start in range(0, len(items), BLOCK):
        mean, std = latents.read(items[start : start + BLOCK], straight[start : start + BLOCK])
        mean, std = mean.double(), std.double()
        total = total + mean.sum((0, 2, 3))
        squares = squares + (mean.square() + std.square()).sum((0, 2, 3))
        count += mean[:, 0].numel()
    centre = total / count
    spread = (squares / count - centre.square()).clamp(min=0).sqrt()
    return tuple(centre.tolist()), tuple(spread.tolist())


def told(space: Space) -> str:
    """Shift and scale in one line, next to the numbers of the Stable Diffusion VAE."""
    scale, shift = (", ".join(f"{own:.4g}" for own in values) for values in (space.scale, space.shift))
    return f"latents: scale {scale} (Stable Diffusion: 0.18215; others: 1/50 = 0.02), shift {shift}"


# Features of every image, by a frozen network that training asks for them again and again: computed once
# <cache>/features/<key>/<view>.bin holds a row (T,) of float32 for each item of a pack. The key hashes the
# pack's fingerprint and the digest of the network's weights.

FEATURES_FORMAT = 1


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
    folder = cache_dir("features", key(FEATURES_FORMAT, pack.fingerprint, digest)[:24])
    rows = rows_by_view(
        folder, pack, views, lambda height, width: (count,), np.float32, compute, device, progress
    )
    return ImageFeatures(views, rows)
