"""The U-Net of a finished flow, as the teacher of a faster model.

Initial weights: the averaged ones of its run; it is never trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file
from torch import Tensor, nn

from safelight.config import Reference, Section, UserError
from safelight.networks.unet import UNetConfig
from safelight.types import DataSpec, Values

FACTS, WEIGHTS = "denoiser.json", "denoiser.safetensors"  # written by loading/dependencies.py
TINY = 2.0**-24  # least t and 1 - t that are divided by


class FinishedFlowConfig(Section):
    name: Literal["finished_flow"] = "finished_flow"
    path: Reference = Reference("run:teacher")
    """Finished run of a flow on the same data: run:NAME, or recipe:NAME, which is trained first."""

    def build(self, spec: DataSpec) -> nn.Module:
        """The network for `spec`. Raises UserError where the run is none of a flow, or one of other data."""
        folder = Path(self.path)
        if not (folder / FACTS).is_file():
            raise UserError(f"network.teacher.path: {self.path} is no flow; name a finished run, run:NAME")
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["data"] != (mine := described(spec)):
            raise UserError(f"network.teacher.path: {facts['name']} is of {facts['data']}, these are {mine}")
        net = UNetConfig(**facts["network"]).build(spec)
        net.load_state_dict(load_file(folder / WEIGHTS))
        return FinishedFlow(net, facts["prediction"])


class FinishedFlow(nn.Module):
    """(x_t, t, given, present) -> the velocity ε - x of x_t = (1 - t) x + t ε, (B, C, H, W) in float32."""

    def __init__(self, net: nn.Module, prediction: str) -> None:
        super().__init__()
        self.net, self.prediction = net, prediction

    def forward(self, x: Tensor, t: Tensor, given: Values, present: Tensor) -> Tensor:
        out: Tensor = self.net(x, t, given, present).float()
        t = t[:, None, None, None]
        match self.prediction:
            case "v":
                return out
            case "x0":
                return (x - out) / t.clamp(min=TINY)
            case _:
                return (out - x) / (1 - t).clamp(min=TINY)


def described(spec: DataSpec) -> str:
    """Data in words: "1x28x28, label of 10"."""
    conditions = [f"{kind} of {condition.size}" for kind, condition in spec.conditions.items()]
    return ", ".join(["x".join(map(str, spec.shape)), *conditions])
