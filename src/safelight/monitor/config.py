"""[monitor]: what is judged while a run trains."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from safelight.config import Section

Name = Literal[
    "discriminator wins",
    "discriminator overfits",
    "mode collapse",
    "discriminator dead",
    "not finite or spike",
    "KL collapse",
    "KL explosion",
    "condition ignored",
    "colour drift",
    "memorising",
]
LONGEST_WARMUP, LONGEST_PATIENCE = 2000, 1000  # steps: a long run is not left alone for days


class Monitor(Section):
    """[monitor]: loss-aware verdicts. Every key can be edited while the run goes on."""

    ignore: tuple[Name, ...] = Field((), description="verdicts that are not wanted")
    act: bool = Field(False, description="try remedies against a verdict, one at a time, each in a fork")
    warmup: float = Field(
        0.06, ge=0, lt=1, description="share of the run that is not judged, 2,000 steps at most"
    )
    patience: float = Field(
        0.04, ge=0, lt=1, description="share of the run a signal must last, 1,000 steps at most"
    )
    accuracy: float = Field(0.97, gt=0.5, le=1, description="of a discriminator that wins")
    overfit: float = Field(
        0.6, gt=0, description="of the way from fake to training, how far held-out logits fall short"
    )
    diversity: float = Field(
        0.4, gt=0, description="pairwise distance of samples, as a share of real images'"
    )
    coverage: float = Field(0.5, gt=0, description="coverage of samples, as a share of real against real")
    spike: float = Field(
        30.0, gt=1, description="median absolute deviations a gradient norm may lie above its median"
    )

    def warmup_steps(self, steps: int) -> int:
        """Steps of a run of `steps` that nothing is judged in."""
        return min(round(self.warmup * steps), LONGEST_WARMUP)

    def patience_steps(self, steps: int) -> int:
        """Steps for which a signal must last before it is a verdict, and be gone before it is none."""
        return max(1, min(round(self.patience * steps), LONGEST_PATIENCE))
