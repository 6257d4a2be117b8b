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


class Log(Section):
    """[log]: other tools that show the run while it trains, from a process of their own."""

    to: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = ()
    """Tools to show metrics and sheets in; files lie in logs/ of the run. wandb is offline unless $WANDB_MODE
    says otherwise."""


class Monitor(Section):
    """[monitor]: verdicts on a run while it trains. Every key can be changed meanwhile."""

    ignore: tuple[Name, ...] = ()
    """Verdicts to ignore."""
    act: bool = False
    """Try remedies for a verdict, one at a time, each in a fork."""
    warmup: float = Field(0.06, ge=0, lt=1)
    """Share of the run before anything is judged; at most 2,000 steps."""
    patience: float = Field(0.04, ge=0, lt=1)
    """Share of the run a signal must last; at most 1,000 steps."""
    accuracy: float = Field(0.97, gt=0.5, le=1)
    """Accuracy at which a discriminator wins."""
    overfit: float = Field(0.6, gt=0)
    """Share of the way from fakes to training images by which held-out logits fall short, at which a
    discriminator overfits."""
    diversity: float = Field(0.4, gt=0)
    """Pairwise distance of samples, relative to real images, below which modes collapse."""
    coverage: float = Field(0.5, gt=0)
    """Coverage of samples, relative to real against real, below which modes collapse."""
    spike: float = Field(30.0, gt=1)
    """Median absolute deviations above its median at which a gradient norm is a spike."""

    def warmup_steps(self, steps: int) -> int:
        """Steps of a run of `steps` that nothing is judged in."""
        return min(round(self.warmup * steps), LONGEST_WARMUP)

    def patience_steps(self, steps: int) -> int:
        """Steps for which a signal must last before it is a verdict, and be gone before it is none."""
        return max(1, min(round(self.patience * steps), LONGEST_PATIENCE))
