"""The one-step denoiser: z = x + σ ε, trained to return x. The first exercise on the way to diffusion.

Images are taken to [0, 1] here, so that σ has its usual unit: the range of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from safelight.config import Section
from safelight.methods import NetworkConfig
from safelight.types import Batch, DataSpec, Draw, Moment, Nets, Panel, Phase, Values


class DenoiseConfig(Section):
    """[method] of a one-step denoiser."""

    name: Literal["denoise"] = "denoise"
    sigma: float = Field(0.5, gt=0)
    """Standard deviation of the training noise, in units of the image's range."""
    strip: tuple[float, ...] = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
    """Noise levels shown in the strips."""


class DenoiseSampling(Section):
    """[sample] of a one-step denoiser: there is nothing to choose."""


class Denoise:
    """One network that removes noise of one strength in one evaluation."""

    Config: ClassVar[type[BaseModel]] = DenoiseConfig
    Sampling: ClassVar[type[BaseModel]] = DenoiseSampling
    roles: ClassVar[tuple[str, ...]] = ("denoiser",)
    ema: ClassVar[tuple[str, ...]] = ("denoiser",)
    frozen: ClassVar[tuple[str, ...]] = ()
    components: ClassVar[Mapping[str, float]] = {"mse": 1.0}

    def __init__(self, config: DenoiseConfig, networks: Mapping[str, NetworkConfig]) -> None:
        self.config = config
        self.network = networks["denoiser"]
        self.phases = (Phase("denoise", ("denoiser",), self.loss),)
        self.shape: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """The family in a few words, as reports say it."""
        return f"one-step denoiser at sigma {self.config.sigma:g}"

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        """The denoiser: forward(z, t, given, present) -> x, of the shape of z; t is 0."""
        self.shape = spec.shape
        return {"denoiser": self.network.build(spec)}

    def loss(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """mse = |D(x + σ ε) - x|², mean over C, H, W."""
        return {"mse": self.error(nets, batch, moment.draw, self.config.sigma)}, {}

    def error(self, nets: Nets, batch: Batch, draw: Draw, sigma: float) -> Tensor:
        """Squared error of the denoised image at one σ, (b,)."""
        x = to_unit(batch.x)
        z = x + sigma * draw.normal("noise", *x.shape[1:])
        return (self.clean(nets, z, batch.given, batch.present) - x).square().mean((1, 2, 3))

    def clean(self, nets: Nets, z: Tensor, given: Values, present: Tensor) -> Tensor:
        """D(z) in [0, 1] units."""
        out: Tensor = nets["denoiser"](z, torch.zeros(len(z), device=z.device), given, present)
        return out.float()

    def latent(self, draw: Draw) -> Tensor:
        """Noise, (b, C, H, W)."""
        return draw.normal("latent", *self.shape)

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        """What the denoiser sees in pure noise: near the mean image, which is why diffusion takes steps."""
        return from_unit(self.clean(nets, latent, given, present))

    def measure(self, nets: Nets, batch: Batch, draw: Draw) -> Values:
        """Held-out squared error (b,) at every σ of the strip."""
        return {f"sigma {sigma:g}": self.error(nets, batch, draw, sigma) for sigma in self.config.strip}

    def panels(self, nets: Nets, batch: Batch, draw: Draw) -> Mapping[str, Panel]:
        """The noising strip, the same strip denoised (out of distribution but at σ), and test results."""
        x, given = to_unit(batch.x), batch.given
        ε = draw.normal("noise", *x.shape[1:])
        noisy = [x + sigma * ε for sigma in self.config.strip]
        cleaned = [self.clean(nets, z, given, batch.present) for z in noisy]
        trained = x + self.config.sigma * ε
        results = [x, trained, self.clean(nets, trained, given, batch.present)]
        columns = tuple(f"σ = {sigma:g}" for sigma in self.config.strip)
        few = slice(0, 4)
        return {
            "noising": Panel(
                from_unit(torch.stack(noisy, dim=1)[few]), (), columns, "Held-out images, noised."
            ),
            "out-of-distribution": Panel(
                from_unit(torch.stack(cleaned, dim=1)[few]),
                (),
                columns,
                f"The same, denoised. The network was trained at σ = {self.config.sigma:g} only.",
            ),
            "test-results": Panel(
                from_unit(torch.stack(results, dim=1)[few]),
                (),
                ("image", f"σ = {self.config.sigma:g}", "denoised"),
                "Held-out images, noised as in training, and denoised.",
            ),
        }


def to_unit(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (x + 1) / 2


def from_unit(x: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return x * 2 - 1
