"""The digits and their classifier, trained once for all tests; programs as the tests save them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.pack import Pack
from safelight.evaluate.classifier import open_classifier
from safelight.evaluate.features import Extractor

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def digits() -> Pack:
    return open_data(Data(source="digits"))


@pytest.fixture(scope="session")
def classifier(digits: Pack) -> Extractor:
    return open_classifier(digits, CPU, lambda line: None)


class Program(nn.Module):
    """The interface of the published Inception file, with few random convolutions in it."""

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


@pytest.fixture(scope="session")
def save_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Save a module as a TorchScript file."""

    def save(module: nn.Module, name: str = "program.pt") -> Path:
        path = tmp_path_factory.mktemp("programs") / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(module).save(str(path))
        return path

    return save


@pytest.fixture(scope="session")
def program(save_program) -> Path:
    """A file of 24 features."""
    return save_program(Program(24))
