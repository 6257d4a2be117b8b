"""Inception features, the ones of FID: TensorFlow's Inception of 2015 as a TorchScript file.

The file is the one published with StyleGAN2-ADA (Karras et al. 2020). It resizes to 299x299 as TensorFlow 1
did, inside itself, which is why its numbers agree with published ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from safelight.config import UserError
from safelight.data.cache import cache_dir
from safelight.evaluate.features import INCEPTION, Extractor
from safelight.evaluate.torchscript import open_program

FILE = "inception-2015-12-05.pt"
PUBLISHED = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE}"
VARIABLE = "SAFELIGHT_INCEPTION"  # path of the file
POOL3 = 2048  # features an image


def open_inception(device: torch.device, tell: Callable[[str], None]) -> Extractor:
    """The file at $SAFELIGHT_INCEPTION, or in the cache. Raises UserError where it is absent or another."""
    stated = os.environ.get(VARIABLE)
    path = Path(stated).expanduser() if stated else cache_dir("extractors") / FILE
    if not path.is_file():
        raise UserError(
            f"features 'inception': {path} is not there; put {PUBLISHED} there, or set {VARIABLE} to its path"
        )
    return open_program(path, INCEPTION, device, tell, POOL3)
