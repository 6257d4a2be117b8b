"""The digits and their classifier, trained once for all tests; programs as the tests save them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from programs import Program, save
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.pack import Pack
from safelight.evaluate.classifier import open_classifier
from safelight.evaluate.features import Extractor


@pytest.fixture(scope="session")
def digits() -> Pack:
    return open_data(Data(source="digits"))


@pytest.fixture(scope="session")
def classifier(digits: Pack) -> Extractor:
    return open_classifier(digits, torch.device("cpu"), lambda line: None)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 24 features."""
    return save(Program(24), tmp_path_factory.mktemp("programs") / "program.pt")
