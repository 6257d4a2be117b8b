"""The denoiser of a safelight run as a model of diffusers. Needs the package safelight beside diffusers."""

from __future__ import annotations

import json
from typing import Any

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from safelight.recipe import resolve
from safelight.types import DataSpec


class SafelightDenoiser(ModelMixin, ConfigMixin):
    """forward(x, t, given, present) -> the prediction, of the shape of x; see safelight's networks."""

    @register_to_config
    def __init__(self, recipe: str, shape: list[int], conditions: str) -> None:
        """recipe, conditions: as JSON. shape: (C, H, W) of x."""
        super().__init__()
        self.recipe = resolve(json.loads(recipe), "exported")
        self.spec = DataSpec.from_dict(shape, json.loads(conditions))
        self.method = self.recipe.method()
        self.net = self.method.networks(self.spec)["denoiser"]

    def forward(self, x: Any, t: Any, given: Any, present: Any) -> Any:
        return self.net(x, t, given, present)
