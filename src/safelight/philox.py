"""The draws of randomness.py computed on the device: Philox4x64-10 in torch's integers (Salmon et al. 2011).

Its words are those of NumPy's generator to the bit on every device, and so are uniform numbers and integers.
Normals are made of the same words by the same formula, with the device's logarithm, cosine and sine: they
agree to a few units in the last place, as they do between CPUs. Products of 64 bits are taken in halves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from safelight.randomness import WORDS_PER_COUNT, RowDraw, key

DEVICES = {"cuda"}
LEAST = 1024  # numbers a row; fewer are drawn on the host, where hundreds of small kernels would take longer
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
INCREMENTS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # of the key, after each round
ROUNDS = 10
HALF = 0xFFFFFFFF
ANGLE = float(np.float32(math.pi * 2.0**-31))


@dataclass(frozen=True)
class DeviceDraw(RowDraw):
    """A `RowDraw` whose large draws are made on its device. For training: samples keep the host's bits."""

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal float32 (b, *shape)."""
        size = math.prod(shape)
        if size < LEAST:
            return super().normal(name, *shape)
        words = self._device_words(name, math.ceil(size / 2)).view(torch.int32)  # two a pair
        radius = (words[:, 0::2].float() * 2.0**-32 + 0.5).clamp_(min=2.0**-33)
        radius = radius.log_().mul_(-2).sqrt_()
        angle = words[:, 1::2].float() * ANGLE
        normals = torch.stack([angle.cos() * radius, angle.sin_() * radius], 1)
        return normals.flatten(1)[:, :size].reshape(len(self.rows), *shape)

    def uniform(self, name: str, *shape: int, host: bool = False) -> Tensor:
        """Uniform in [0, 1) float32 (b, *shape), on a grid of 2**-24. host: on the CPU."""
        size = math.prod(shape)
        if size < LEAST or host:
            return super().uniform(name, *shape, host=host)
        words = self._device_words(name, size)[:, :size]
        values = ((words >> 40) & (2**24 - 1)).float() * 2.0**-24
        return values.reshape(len(self.rows), *shape)

    def integers(self, name: str, high: int, *shape: int) -> Tensor:
        """Uniform int64 in [0, high) (b, *shape). The bias is below high / 2**53."""
        size = math.prod(shape)
        if size < LEAST or not 0 < high <= 2**31:
            return super().integers(name, high, *shape)
        words = self._device_words(name, size)[:, :size]
        fraction = ((words >> 11) & (2**53 - 1)).double() * 2.0**-53
        return (fraction * high).long().reshape(len(self.rows), *shape)

    def _device_words(self, name: str, size: int) -> Tensor:
        """`_words` on the device, as int64 (b, words)."""
        counts = max(1, math.ceil(size / WORDS_PER_COUNT))
        number = key(self.seed, self.step, self.phase, name)
        first = self.rows.start * counts
        words = philox(number, first, len(self.rows) * counts, torch.device(self.device))
        return words.view(len(self.rows), counts * WORDS_PER_COUNT)


def philox(number: int, first: int, count: int, device: torch.device) -> Tensor:
    """The 64-bit words of `count` counters after `first` of NumPy's Philox(key=number), int64 (4 count,)."""
    counter = torch.arange(first + 1, first + count + 1, device=device)
    words = [counter, *(torch.zeros_like(counter) for _ in range(3))]
    keys = [number & (2**64 - 1), number >> 64]
    for _ in range(ROUNDS):
        (high0, low0), (high1, low1) = (
            _product(words[place], factor) for place, factor in zip((0, 2), MULTIPLIERS, strict=True)
        )
        words = [high1 ^ words[1] ^ _signed(keys[0]), low1, high0 ^ words[3] ^ _signed(keys[1]), low0]
        keys = [(part + increment) % 2**64 for part, increment in zip(keys, INCREMENTS, strict=True)]
    return torch.stack(words, 1).flatten()


def _product(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The upper and lower 64 bits of unsigned x times a factor."""
    high, low = factor >> 32, factor & HALF
    x_high, x_low = (x >> 32) & HALF, x & HALF
    lower, left, right = x_low * low, x_high * low, x_low * high  # of 64 bits each, whatever their sign
    middle = ((lower >> 32) & HALF) + (left & HALF) + (right & HALF)
    carried = ((left >> 32) & HALF) + ((right >> 32) & HALF) + (middle >> 32)
    return x_high * high + carried, x * _signed(factor)


def _signed(value: int) -> int:
    """64 bits as the int64 that has them."""
    return value - 2**64 if value >= 2**63 else value
