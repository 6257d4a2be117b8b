"""Modulated convolutions two ways: inputs and outputs scaled about one convolution, and a grouped one.

    python benchmarks/modulated.py [rounds]

Both compute StyleGAN2's layer (Karras 2020), forwards and backwards; the grouped one gives every sample
weights of its own, as its authors' code does. Interleaved, one thread, medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.networks.style_generator import Modulated

CASES = ((8, 128, 8), (8, 64, 32), (32, 128, 8), (32, 32, 32), (4, 32, 128))  # batch, channels, side
LATENT = 64
ROUNDS = 15

Layer = Callable[[Tensor, Tensor], Tensor]


def grouped(layer: Modulated, x: Tensor, w: Tensor) -> Tensor:
    """The same layer with weights s * weight of each sample, demodulated, as one convolution of B groups."""
    scale = layer.style(w, None)
    weight = (layer.weight * layer.gain)[None] * scale[:, None, :, None, None]
    weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    rows, outputs = weight.shape[:2]
    y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1), padding=1, groups=rows)
    return y.reshape(rows, outputs, *y.shape[2:]) + layer.bias[:, None, None]


def seconds(way: Layer, x: Tensor, w: Tensor) -> float:
    """Of one pass forwards and backwards."""
    began = time.perf_counter()
    torch.autograd.backward(way(x, w).square().mean())
    return time.perf_counter() - began


def times(batch: int, channels: int, side: int, rounds: int) -> tuple[float, float]:
    """Median milliseconds of the scaled and of the grouped layer. Raises AssertionError where they differ."""
    layer = Modulated(channels, channels, LATENT, (0, 0))
    x = (
        torch.randn(batch, channels, side, side)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    w = torch.randn(batch, LATENT)
    ways: tuple[Layer, Layer] = (layer, lambda x, w: grouped(layer, x, w))
    torch.testing.assert_close(ways[0](x, w), ways[1](x, w), rtol=1e-3, atol=1e-3)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for way, measured in zip(ways, taken, strict=True):
            measured.append(seconds(way, x, w))
    scaled, in_groups = (1e3 * statistics.median(measured[1:]) for measured in taken)  # the first warms up
    return scaled, in_groups


def main() -> None:
    """Time and print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print("| batch, channels, side | scaled, ms | grouped, ms | ratio |\n|---|---:|---:|---:|")
    for case in CASES:
        scaled, in_groups = times(*case, rounds)
        sizes = ", ".join(map(str, case))
        print(f"| {sizes} | {scaled:.2f} | {in_groups:.2f} | {in_groups / scaled:.2f} |", flush=True)


if __name__ == "__main__":
    main()
