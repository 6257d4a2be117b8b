"""The [evaluate] section of a recipe."""

from __future__ import annotations

from pydantic import Field

from safelight.config import Section


class Evaluate(Section):
    """[evaluate]: measuring samples while training. Nothing here changes the weights."""

    every: int = Field(0, ge=0)
    """Steps between two evaluations; 0 = never."""
    n: int = Field(500, ge=20, le=10**7)
    """Samples an evaluation; noises and conditions are the same every time."""
    steps: int | None = Field(None, ge=1, le=10_000)
    """Sampler steps; few are faster. Default: sample.steps."""
    features: str = "classifier"
    """Features that distances are measured on: classifier, segmenter, efficientnet, reader, random,
    inception, or the path of a TorchScript file."""
    reference: int = Field(10_000, ge=20, le=10**7)
    """Largest number of training images to compare with."""
    seed: int = Field(0, ge=0)
    """Random seed of the samples."""
