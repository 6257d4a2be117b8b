"""Between pixels and the space that methods see, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Space:
    """Pixels themselves, 0..255 as [-1, 1]. Every grey level comes back exactly."""

    def from_pixels(self, pixels: Tensor) -> Tensor:
        """(B, H, W, C) uint8 -> (B, C, H, W) float32 in [-1, 1], contiguous, on the pixels' device."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return x.div_(127.5).sub_(1)

    def to_pixels(self, x: Tensor) -> NDArray[np.uint8]:
        """(B, C, H, W) in any float type -> (B, H, W, C) uint8, rounded and clamped. Not-a-number is grey."""
        levels = x.detach().float().nan_to_num(nan=0.0).add(1).mul(127.5).round().clamp(0, 255)
        pixels: NDArray[np.uint8] = levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return pixels
