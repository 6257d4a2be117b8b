"""The text side of a joint encoder: a few layers on the features of a frozen text encoder.

Initial weights: PyTorch's default, uniform within 1 / sqrt(n) for n inputs of an output.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from safelight.config import Section, Size
from safelight.language import TextTower
from safelight.types import DataSpec


class Config(Section):
    name: Literal["text_tower"] = "text_tower"
    width: Size = Field(default=256, description="of the hidden layers")
    depth: int = Field(default=1, ge=0, le=256, description="hidden layers; 0 = a linear projection")
    features: Size = Field(default=128, description="size of the joint features")

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`: (B, T) -> (B, features)."""
        text = spec.conditions["text"].size if "text" in spec.conditions else 1
        return TextTower(text, self.width, self.depth, self.features)
