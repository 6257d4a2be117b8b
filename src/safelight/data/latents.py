"""Latents of every item, encoded once: mean and standard deviation of the posterior, in every view.

<cache>/latents/<key>/<view>.bin holds a row (2, c, h, w) of bfloat16 for each item of a pack: mean, then std.
The key hashes the pack's fingerprint and the codec's digest, so that another encoder makes other files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.config import UserError
from safelight.data.by_view import BLOCK, Rows, read, rows_by_view
from safelight.data.cache import cache_dir
from safelight.data.config import Measured
from safelight.data.pack import Pack
from safelight.data.source import Progress, key
from safelight.data.space import Codec, Space
from safelight.data.view import STRAIGHT, View

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
    pack: Pack,
    codec: Codec,
    views: tuple[View, ...],
    device: torch.device,
    progress: Progress | None = None,
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
