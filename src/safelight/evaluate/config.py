"""The [evaluate] section of a recipe."""

from __future__ import annotations

from pydantic import Field

from safelight.config import Section


class Evaluate(Section):
    """[evaluate]: measuring samples while training. None of it changes the weights."""

    every: int = Field(0, ge=0, description="steps between two evaluations; 0 = never")
    n: int = Field(
        500, ge=20, le=10**7, description="samples of each; the same noises and conditions every time"
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="sampler steps, fewer than sample.steps to be quick; without it as many",
    )
    features: str = Field(
        "classifier",
        description="classifier, segmenter, efficientnet, reader, random, inception, or a TorchScript file",
    )
    reference: int = Field(10_000, ge=20, le=10**7, description="training images compared with, at most")
    seed: int = Field(0, ge=0, description="of the noises")
