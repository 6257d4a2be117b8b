"""Canvases larger than the images trained on: overlapping tiles, blended where the networks see them.

At every noise level each tile is seen alone, at the size that was trained, and what the network makes of the
tiles is averaged where they overlap (MultiDiffusion, Bar-Tal 2023). So all tiles develop into one picture,
with whatever sampler, and the networks and the decoder never hold more than a tile of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from safelight.config import UserError
from safelight.data.space import Codec, Space
from safelight.loading.model import Model
from safelight.methods.diffusion import Diffusion
from safelight.randomness import RowDraw
from safelight.types import DataSpec, Values

OVERLAP = 4  # a quarter of a tile's side, at least, is shared with the next one


def canvas_specs(pixels: DataSpec, space: Space, size: tuple[int, int]) -> tuple[DataSpec, DataSpec]:
    """The data as pixels and as methods see them, for images of a size (H, W). Raises UserError."""
    for side, tile, dimension in zip(size, pixels.shape[1:], ("high", "wide"), strict=True):
        if side < tile or side % space.factor:
            raise UserError(
                f"canvas {size[0]}x{size[1]}: should be {tile} pixels {dimension} or more, and a multiple of "
                f"{space.factor}"
            )
    large = replace(pixels, shape=(pixels.shape[0], *size))
    return large, replace(pixels, shape=space.shape(large.shape))


@torch.no_grad()
def paint(model: Model, given: Values, present: Tensor, seed: int, canvas: DataSpec) -> NDArray[np.uint8]:
    """Samples (n, H, W, C) uint8 as large as a canvas, one after the other.

    canvas: the data as methods see them, as large as the canvas. Raises UserError for a method that is no
    diffusion.
    """
    tile = model.spec.shape[1], model.spec.shape[2]
    if not issubclass(type(model.method), Diffusion):
        raise UserError("canvas: only diffusion models paint canvases larger than the images trained on")
    tiled = replace(model, nets={name: Tiled(net, tile) for name, net in model.nets.items()})
    space, images = tiled_space(model.space, tile), []
    for row in range(len(present)):
        draw = RowDraw(seed, 0, "sample", range(row, row + 1), present.device)
        conditions = {name: value[row : row + 1] for name, value in given.items()}
        x = tiled.sample(draw.normal("latent", *canvas.shape), conditions, present[row : row + 1], draw)
        images.append(space.to_pixels(x))
    return np.concatenate(images)


class Tiled(nn.Module):
    """A network that sees its input and the masks in tiles, and blends what it makes of them."""

    def __init__(self, net: nn.Module, tile: tuple[int, int]) -> None:
        super().__init__()
        self.net, self.tile = net, tile

    def forward(self, x: Tensor, t: Tensor, given: Mapping[str, Tensor], present: Tensor) -> Tensor:
        """As of the network itself."""

        def see(rows: slice, columns: slice) -> Tensor:
            conditions = {name: value[:, :, rows, columns] if value.ndim == 4 else value
                   for name, value in given.items()}  # fmt: skip
            output: Tensor = self.net(x[:, :, rows, columns], t, conditions, present)
            return output

        return blended(see, (x.shape[2], x.shape[3]), self.tile)


def tiled_space(space: Space, tile: tuple[int, int]) -> Space:
    """The space, its decoder seeing latents in tiles (h, w)."""
    if space.codec is None:
        return space
    whole: Codec = space.codec

    def decode(z: Tensor) -> Tensor:
        def see(rows: slice, columns: slice) -> Tensor:
            return whole.decode(z[:, :, rows, columns])

        return blended(see, (z.shape[2], z.shape[3]), tile, whole.factor)

    return replace(space, codec=replace(whole, decode=decode))


def blended(
    see: Callable[[slice, slice], Tensor], size: tuple[int, int], tile: tuple[int, int], factor: int = 1
) -> Tensor:
    """What is seen in tiles of a canvas (H, W), each weighted by how far inside of the tile it lies.

    see: (rows, columns) of the canvas -> (b, C, factor h, factor w).
    """
    total: Any = None
    window = _ramp(tile[0] * factor)[:, None] * _ramp(tile[1] * factor)
    for top in starts(size[0], tile[0]):
        for left in starts(size[1], tile[1]):
            seen = see(slice(top, top + tile[0]), slice(left, left + tile[1])).float()
            if total is None:
                total = seen.new_zeros(*seen.shape[:2], size[0] * factor, size[1] * factor)
                weight, window = torch.zeros_like(total[:1, :1]), window.to(seen.device)
            place = [slice(at * factor, (at + side) * factor)
                     for at, side in zip((top, left), tile, strict=True)]  # fmt: skip
            total[:, :, *place] += seen * window
            weight[:, :, *place] += window
    blend: Tensor = total / weight
    return blend


def starts(side: int, tile: int) -> Iterator[int]:
    """Where tiles begin along a side, evenly, so that neighbours share a quarter of a tile or more."""
    step = max(1, tile - tile // OVERLAP)
    count = -(-(side - tile) // step) + 1
    return (round(place * (side - tile) / max(count - 1, 1)) for place in range(count))


def _ramp(length: int) -> Tensor:
    """From little at the ends to 1 in the middle, never 0."""
    place = torch.arange(length) + 0.5
    return torch.minimum(place, length - place) / (length / 2)
