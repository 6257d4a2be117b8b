"""Feature maps of VGG-16 (Simonyan and Zisserman 2015), of which perceptual distances are made.

Weights by torchvision's names, such as those of timm/vgg16.tv_in1k on the Hub.

Initial weights: those of the file; it is never trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import Reference, Section, UserError
from safelight.types import DataSpec

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, in [0, 1]


class VGGMapsConfig(Section):
    name: Literal["vgg_maps"] = "vgg_maps"
    path: Reference = Reference("timm/vgg16.tv_in1k")
    """Weights: model.safetensors of a VGG-16, its folder, or its Hub id."""
    stages: int = Field(4, ge=1, le=5)
    """Number of feature maps, one from the end of each stage."""

    @property
    def multiple(self) -> int:
        """It takes images of any size."""
        return 1

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError where the weights are not there, or not of a VGG-16."""
        path = Path(self.path)
        file = path / "model.safetensors" if path.is_dir() else path
        if not file.is_file():
            raise UserError(f"network.perceptual.path: {self.path} holds no model.safetensors")
        network = VggMaps(self.stages)
        weights = load_file(file)
        try:
            network.load_state_dict({name: weights[name] for name in network.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise UserError(f"network.perceptual.path: {file} is not a VGG-16 ({error})") from error
        return network


class VggMaps(nn.Module):
    """(B, C, H, W) in [-1, 1] -> a list of maps, the last of each stage; smaller pictures give fewer."""

    mean: Tensor
    std: Tensor

    def __init__(self, stages: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.ends: list[int] = []
        inputs = 3
        for widths in STAGES[:stages]:
            for width in widths:
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                inputs = width
            self.ends.append(len(layers))
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = ((x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]) + 1) / 2
        x = (x - self.mean) / self.std
        maps = []
        for number, layer in enumerate(self.features):
            if isinstance(layer, nn.MaxPool2d) and min(x.shape[2:]) < 2:
                break
            x = layer(x) if not isinstance(layer, nn.ReLU) else F.relu(x)
            if number + 1 in self.ends:
                maps.append(x)
        return maps
