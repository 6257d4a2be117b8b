"""TorchScript files as tests save them: the interface of the published Inception file, and a plainer one."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Program(nn.Module):
    """Few random convolutions behind the interface of the published Inception file."""

    def __init__(self, size: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.stem = nn.Parameter(torch.randn(16, 3, 5, 5, generator=random) / 75**0.5)
        self.head = nn.Parameter(torch.randn(size, 16, generator=random) / 4)

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        x = F.conv2d(img.float() / 127.5 - 1, self.stem, stride=2)
        pooled = torch.relu(x).mean((2, 3)) + torch.relu(-x).amax((2, 3))
        if return_features:
            return F.linear(pooled, self.head)
        return pooled.sum(1)


class Blocks(nn.Module):
    """Twelve features of 28x28 images: the means of blocks of rows."""

    def forward(self, img: Tensor) -> Tensor:
        return img.float()[:, :, :24].reshape(img.shape[0], 3, 12, 2, -1).mean(4).mean(3).mean(1)


def save(module: nn.Module, path: Path) -> Path:
    """The module as a TorchScript file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path
