"""What a network makes of every item of a pack, computed once: a file for each view, a row for each item.

<cache>/latents/<key>/<view>.bin holds rows (2, c, h, w) of bfloat16: mean and std of the posterior.
<cache>/features/<key>/<view>.bin holds rows (T,) of float32: features by a frozen network.
The key hashes the pack's fingerprint and the network's digest. Rows are written once and in order: a killed
computation continues after the last whole block.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
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
from safelight.data.cache import cache_dir
from safelight.data.config import Measured
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.data.space import Codec, Space
from safelight.data.views import STRAIGHT, View
from safelight.store.durable import publish

FORMAT = 1  # of both kinds of files
BLOCK = 64  # items computed and written at once, at most
PIXELS = 1 << 22  # of a block, at most
MEASURED = 4096  # items the mean and deviation of the latents are measured on
SMALLEST = 1e-3  # of a standard deviation that is divided by: a constant channel stays finite


@dataclass(frozen=True, eq=False)
class Encoded:
    """The rows of a pack, by view."""

    views: tuple[View, ...]
    rows: Sequence[NDArray[Any]]  # by view (N, ...): memory maps

    def read(self, items: NDArray[np.int64], which: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Rows (b, ...) of items. which: (b,) the place in `views` of each; by default the straight one."""
        if which is None:
            which = np.full(len(items), self.views.index(STRAIGHT))
        rows = np.empty((len(items), *self.rows[0].shape[1:]), self.rows[0].dtype)
        for place in np.unique(which):
            rows[which == place] = self.rows[place][items[which == place]]
        return rows


class Latents(Encoded):
    """The latents of a pack: rows (2, c, h, w), the bits of bfloat16."""

    def moments(
        self, items: NDArray[np.int64], which: NDArray[np.int64] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and std (b, c, h, w) of the items' posteriors. which: as in `read`."""
        mean, std = torch.from_numpy(self.read(items, which)).view(torch.bfloat16).float().unbind(1)
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

    def shape(height: int, width: int) -> tuple[int, ...]:
        return (2, *codec.shape(height, width))

    folder = cache_dir("latents", key(FORMAT, pack.fingerprint, codec.digest)[:24])
    return Latents(views, _rows(folder, pack, views, shape, np.uint16, compute, device, progress))


def open_features(
    pack: Pack, network: nn.Module, digest: str, views: tuple[View, ...], device: torch.device,
    progress: Progress | None = None,
) -> Encoded:  # fmt: skip
    """The features of a pack's images: those in the cache, or computed now. Raises UserError.

    network: x (b, C, H, W) in [-1, 1] -> (b, T), in evaluation mode on the device. digest: of its weights.
    """

    def compute(x: Tensor) -> NDArray[np.float32]:
        features: NDArray[np.float32] = network(x).float().cpu().numpy()
        return features

    with torch.no_grad():
        count = network(torch.zeros(1, *pack.spec.shape, device=device)).shape[1]
    folder = cache_dir("features", key(FORMAT, pack.fingerprint, digest)[:24])
    rows = _rows(folder, pack, views, lambda height, width: (count,), np.float32, compute, device, progress)
    return Encoded(views, rows)


def _rows(
    folder: Path, pack: Pack, views: tuple[View, ...], shape: Callable[[int, int], tuple[int, ...]],
    dtype: type[np.generic], compute: Callable[[Tensor], NDArray[Any]], device: torch.device,
    progress: Progress | None,
) -> list[NDArray[Any]]:  # fmt: skip
    """The rows of every view: those in the folder, or computed now. Raises UserError.

    shape: of a row, for images (H, W). compute: x (b, C, H, W) in [-1, 1] on the device -> rows (b, *shape).
    """
    height, width = pack.images.shape[1:3]
    rows: list[NDArray[Any]] = []
    with FileLock(folder.with_suffix(".lock")):
        for view in views:
            row = shape(*((width, height) if view.quarters % 2 else (height, width)))
            path, partial = folder / f"{view.name}.bin", folder / f"{view.name}.partial"
            if not path.exists():
                size = prod(row) * np.dtype(dtype).itemsize
                try:
                    _compute(partial, pack, view, size, compute, device, progress)
                except OSError as error:
                    raise UserError(
                        f"{partial}: cannot be written ({error.strerror}); make room, or set SAFELIGHT_CACHE"
                    ) from error
                publish(partial, path)
            rows.append(np.memmap(path, dtype, "r", shape=(len(pack), *row)))
    return rows


@torch.no_grad()
def _compute(
    partial: Path, pack: Pack, view: View, size: int, compute: Callable[[Tensor], NDArray[Any]],
    device: torch.device, progress: Progress | None,
) -> None:  # fmt: skip
    """Append the rows that are missing, a block at a time. size: bytes of one."""
    block = max(1, min(BLOCK, PIXELS // prod(pack.images.shape[1:3])))
    with partial.open("ab") as file:
        done = file.tell() // (size * block) * block
        file.truncate(done * size)
        for start in range(done, len(pack), block):
            pixels = torch.from_numpy(np.array(pack.images[start : start + block])).to(device)
            file.write(compute(Space().from_pixels(view.of(pixels, 1, 2))).tobytes())
            file.flush()
            os.fsync(file.fileno())
            if progress:
                progress(f"encoding {pack.name}, {view.name}", start + len(pixels), len(pack))


def space_of(pack: Pack, latents: Latents, codec: Codec, shift: Measured, scale: Measured) -> Space:
    """The space of normalised latents: x = (latent - shift) * scale, as stated or as measured by channel."""
    if "measured" in (shift, scale):
        mean, std = measured(pack, latents)
        shift = mean if shift == "measured" else shift
        scale = tuple(1 / max(deviation, SMALLEST) for deviation in std) if scale == "measured" else scale
    return Space(codec, _by_channel("shift", shift, codec), _by_channel("scale", scale, codec))


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
    count, total, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for start in range(0, len(items), BLOCK):
        mean, std = (moment.double() for moment in latents.moments(items[start : start + BLOCK]))
        total = total + mean.sum((0, 2, 3))
        squares = squares + (mean.square() + std.square()).sum((0, 2, 3))
        count += mean[:, 0].numel()
    centre = total / count
    spread = (squares / count - centre.square()).clamp(min=0).sqrt()
    return tuple(centre.tolist()), tuple(spread.tolist())


def describe(space: Space) -> str:
    """Shift and scale in one line, next to the numbers of the Stable Diffusion VAE."""
    scale, shift = (", ".join(f"{number:.4g}" for number in by) for by in (space.scale, space.shift))
    return f"latents: scale {scale} (Stable Diffusion: 0.18215; others: 1/50 = 0.02), shift {shift}"
