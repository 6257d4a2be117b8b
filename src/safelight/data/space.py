"""Between pixels and the space that methods see, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safelight.constants import constant, vector

DECODED = 1 << 21  # pixels decoded at once, at least one image


@dataclass(frozen=True, eq=False)
class Codec:
    """An autoencoder: images in [-1, 1] to latents and back. Whoever trained it, methods never see it."""

    name: str
    digest: str  # stands for its weights
    channels: int  # of a latent
    factor: int  # pixels a side of a latent's pixel
    encode: Callable[[Tensor], tuple[Tensor, Tensor]]  # (b, C, H, W) -> mean, std of (b, c, h, w)
    decode: Callable[[Tensor], Tensor]  # (b, c, h, w) -> (b, C, H, W)
    any_size: bool = True  # whether it takes images of any size that divides by the factor

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(c, h, w) of the latent of an image."""
        return self.channels, height // self.factor, width // self.factor


@dataclass(frozen=True)
class Space:
    """Pixels themselves, 0..255 as [-1, 1], every grey level back exactly; or normalised latents.

    With a codec x = (latent - shift) * scale, by channel, and to_pixels undoes just that before it decodes.
    """

    codec: Codec | None = None
    shift: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def shape(self, pixels: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of x for images (C, H, W)."""
        return self.codec.shape(*pixels[1:]) if self.codec else pixels

    @property
    def factor(self) -> int:
        """Pixels a side of a pixel of x."""
        return self.codec.factor if self.codec else 1

    def from_pixels(self, pixels: Tensor) -> Tensor:
        """(B, H, W, C) uint8 -> x (B, C, H, W) float32, contiguous, on the pixels' device.

        Of a latent the mean of the posterior; training reads latents from a cache instead (encoded.py).
        """
        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        x = x.div_(127.5).sub_(1)
        return self.normalised(self.codec.encode(x)[0]) if self.codec else x

    def normalised(self, latent: Tensor) -> Tensor:
        """A latent as methods see it."""
        shift, scale = self._by_channel(latent)
        return (latent - shift) * scale

    def latent(self, x: Tensor) -> Tensor:
        """The latent that x stands for."""
        shift, scale = self._by_channel(x)
        return x / scale + shift

    def to_pixels(self, x: Tensor) -> NDArray[np.uint8]:
        """(B, C, H, W) in any float type -> (B, H, W, C) uint8, rounded and clamped. Not-a-number is grey.

        Latents are decoded a few at a time.
        """
        if self.codec is None:
            return _levels(x)
        z = self.latent(x.detach().float())
        few = max(1, DECODED // (z.shape[2] * z.shape[3] * self.codec.factor**2))
        with torch.no_grad():
            parts = [_levels(self.codec.decode(part)) for part in torch.split(z, few)]
        return np.concatenate(parts)

    def _by_channel(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale = (
            constant(vector, *by, device=like.device, dtype=like.dtype)[:, None, None]
            for by in (self.shift, self.scale)
        )
        return shift, scale


def _levels(x: Tensor) -> NDArray[np.uint8]:
    levels = x.detach().float().nan_to_num(nan=0.0).add(1).mul(127.5).round().clamp(0, 255)
    pixels: NDArray[np.uint8] = levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return pixels
