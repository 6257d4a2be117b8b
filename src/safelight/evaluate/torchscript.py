"""Features from any TorchScript file: a program of its own, together with its weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safelight.config import UserError
from safelight.evaluate.features import Extractor, file_hash, rgb


def open_program(
    path: Path, name: str, device: torch.device, tell: Callable[[str], None], size: int | None = None
) -> Extractor:
    """The program in a file, called with uint8 RGB images (b, 3, H, W), with return_features=True if it asks.

    size: the number of features it must give. Loading a TorchScript file makes its program ready to run, so
    the user is told first. Raises UserError.
    """
    tell(f"{path}: loading and running the program in this file; use only files you trust")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the format is what published files have
            program: Any = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path}: is not a TorchScript file; save one with torch.jit.save") from error
    asked = [argument.name for argument in program.forward.schema.arguments]
    options = {"return_features": True} if "return_features" in asked else {}

    def network(pixels: Tensor) -> tuple[Tensor, None]:
        try:
            features = program(rgb(pixels).contiguous(), **options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"{path}: cannot take uint8 images {tuple(pixels.shape)} ({reason})") from error
        if not (isinstance(features, Tensor) and features.ndim == 2 and len(features) == len(pixels)):
            raise UserError(f"{path}: should turn images (b, 3, H, W) into features (b, d), and does not")
        if size is not None and features.shape[1] != size:
            raise UserError(f"{path}: gives {features.shape[1]} features an image, {name} gives {size}")
        return features, None

    return Extractor(name, file_hash(path), "uint8 RGB as it is; resized inside the file", network, device)
