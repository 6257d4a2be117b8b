"""Loss scaling for fp16, whose smallest number is 6e-8: gradients are computed large, then made small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

FIRST, GROWTH, BACKOFF, INTERVAL = 2.0**16, 2.0, 0.5, 2000  # as torch.amp.GradScaler's


class LossScale:
    """The scale of a phase's loss: halved when a gradient is not finite, doubled after 2,000 good steps.

    Everything stays on the device (Micikevicius et al. 2018).
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), FIRST, device=device)
        self.good = torch.zeros((), dtype=torch.int32, device=device)  # steps since it last changed

    def unscale(self, gradients: Sequence[Tensor]) -> None:
        """Divide gradients by the scale, a power of two, in place."""
        torch._foreach_mul_(list(gradients), self.scale.reciprocal())

    def update(self, norms: Sequence[Tensor]) -> None:
        """Take in the gradient norms of a step, 0-d each; one that is not finite counts as a bad step."""
        bad = (~torch.stack(list(norms)).isfinite()).any().float()
        torch._amp_update_scale_(self.scale, self.good, bad, GROWTH, BACKOFF, INTERVAL)

    def to(self, device: torch.device) -> LossScale:
        """The same on a device."""
        other = LossScale(device)
        other.scale, other.good = self.scale.to(device), self.good.to(device)
        return other

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"scale": self.scale, "good": self.good}


def scales_of(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, LossScale]:
    """The scales of a checkpoint, "<phase>.scale" and "<phase>.good", by phase."""
    scales: dict[str, LossScale] = {}
    for key, value in tensors.items():
        phase, _, part = key.rpartition(".")
        scale = scales.setdefault(phase, LossScale(device))
        setattr(scale, part, value.to(device))
    return scales
