"""Generative adversarial networks: the classic loop of separate steps, and the relativistic one.

    non-saturating (Goodfellow 2014)   d1 = softplus(-D(x)), d2 = softplus(D(G(z)));  g = softplus(-D(G(z)))
    relativistic (R3GAN, Huang 2024)   d = softplus(D(G(z)) - D(x));  g = softplus(D(x) - D(G(z)))
    R1, R2 (Mescheder 2018)            |∇D|² at real and at fake images, summed over C, H, W

softplus(-D) is the binary cross-entropy of the logit D against 1, softplus(D) against 0. The weights of r1
and r2 are gamma / 2. Where neither network wins, d1 = d2 = g = d = log 2 = .693.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import softplus

from safelight.config import Section
from safelight.functional import augment
from safelight.methods import NetworkConfig
from safelight.types import Batch, DataSpec, Draw, Moment, Nets, Phase, Unit, Values


class GanConfig(Section):
    """[method] of a GAN."""

    name: Literal["gan"] = "gan"
    loss: Literal["relativistic", "non-saturating"] = "relativistic"
    """Loss of both networks."""
    separate: bool = False
    """Train the discriminator on real and fake images in separate steps."""
    penalty_every: int = Field(1, ge=1)
    """Steps between two evaluations of r1 and r2."""
    augment: Literal["none", "diffaugment", "ada"] = "none"
    """Augmentation of all images that the discriminator sees."""
    ada_target: float = Field(0.6, gt=0, lt=1)
    """ADA's target for the mean sign of the logits of real images."""
    ada_kimg: float = Field(500.0, gt=0)
    """Thousands of images in which ADA's probability can go from 0 to 1."""

    @model_validator(mode="after")
    def _checked(self) -> GanConfig:
        if self.separate and self.loss == "relativistic":
            raise ValueError('separate = true cannot pair images; set loss = "non-saturating"')
        return self


class GanSampling(Section):
    """[sample] of a GAN."""

    truncation: float = Field(1.0, gt=0)
    """Factor on the latent; below 1 trades variety for quality."""


class Gan:
    """A generator and a discriminator."""

    Config: ClassVar[type[BaseModel]] = GanConfig
    Sampling: ClassVar[type[BaseModel]] = GanSampling
    roles: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    ema: ClassVar[tuple[str, ...]] = ("generator",)
    frozen: ClassVar[tuple[str, ...]] = ()

    units: ClassVar[Mapping[str, Unit]] = {"logit": ("D(x)", "")}

    def __init__(self, config: GanConfig, networks: Mapping[str, NetworkConfig]) -> None:
        self.config = config
        self.configs = networks
        self.latent_size = int(networks["generator"].latent)  # type: ignore[attr-defined]
        losses = {"d": 1.0} if config.loss == "relativistic" else {"d1": 1.0, "d2": 1.0}
        self.components: Mapping[str, float] = {**losses, "g": 1.0, "r1": 0.0, "r2": 0.0}
        self.equilibria: Mapping[str, float] = dict.fromkeys((*losses, "g"), math.log(2))
        self.phases = (*self._discriminator_phases(), Phase("generate", ("generator",), self.generator))

    def _discriminator_phases(self) -> tuple[Phase, ...]:
        trains = ("discriminator",)
        phases = [Phase("discriminate", trains, self.discriminator)]
        if self.config.separate:
            phases = [Phase("real", trains, self.real), Phase("fake", trains, self.fake)]
        if self.config.separate or self.config.penalty_every > 1:
            phases.append(
                Phase("penalise", trains, self.penalty, self.config.penalty_every, components=("r1", "r2"))
            )
        return tuple(phases)

    @property
    def title(self) -> str:
        """The family in a few words, as reports say it."""
        return f"{self.config.loss} GAN"

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        """generator(z, given, present) -> (b, C, H, W); discriminator(x, given, present) -> logits (b,)."""
        self.alpha = spec.alpha
        return {role: self.configs[role].build(spec) for role in self.roles}

    # --- the losses -------------------------------------------------------------------------------

    def discriminator(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """Real and fake images in one step, with the penalties where they are due at every step."""
        real = self.judge(nets, batch, moment, batch.x, "real")
        fake = self.judge(nets, batch, moment, self.make(nets, batch, moment).detach(), "fake")
        if self.config.loss == "relativistic":
            losses = {"d": softplus(fake - real)}
        else:
            losses = {"d1": softplus(-real), "d2": softplus(fake)}
        if self.config.penalty_every == 1:
            losses |= self.penalty(nets, batch, moment)[0]
        return losses, self.signs(real, fake)

    def real(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """d1 = BCE(D(x), 1), a separate step."""
        real = self.judge(nets, batch, moment, batch.x, "real")
        return {"d1": softplus(-real)}, self.signs(real=real)

    def fake(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """d2 = BCE(D(G(z)), 0), a separate step."""
        fake = self.judge(nets, batch, moment, self.make(nets, batch, moment).detach(), "fake")
        return {"d2": softplus(fake)}, self.signs(fake=fake)

    def generator(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """g, on fresh latents, against a discriminator that stands still."""
        fake = self.judge(nets, batch, moment, self.make(nets, batch, moment), "fake")
        if self.config.loss == "relativistic":
            fake = fake - self.judge(nets, batch, moment, batch.x, "real")
        return {"g": softplus(-fake)}, {}

    def penalty(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """R1 and R2, those whose weight is not 0, in fp32: second derivatives under bf16 are noise."""
        penalties = {}
        for name, side in (("r1", "real"), ("r2", "fake")):
            if moment.weights[name]:
                with moment.fp32():
                    images = batch.x if side == "real" else self.make(nets, batch, moment)
                    x = images.detach().float().requires_grad_()
                    logits = self.judge(nets, batch, moment, x, side)
                    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
                penalties[name] = gradient.square().sum((1, 2, 3))
        return penalties, {}

    def make(self, nets: Nets, batch: Batch, moment: Moment) -> Tensor:
        """G(z) for fresh latents, under the batch's own conditions."""
        z = moment.draw.normal("z", self.latent_size)
        images: Tensor = nets["generator"](z, batch.given, batch.present)
        return images

    def judge(self, nets: Nets, batch: Batch, moment: Moment, x: Tensor, name: str) -> Tensor:
        """D of augmented images: logits (b,) in float32."""
        with moment.fp32():  # interpolation weights in bf16 would blur
            x = augment.augmented(
                self.config.augment, x, moment.draw, name, moment.memory.get("p"), self.alpha
            )
        logits: Tensor = nets["discriminator"](x, batch.given, batch.present)
        return logits.float()

    def signs(self, real: Tensor | None = None, fake: Tensor | None = None) -> Values:
        """The logits, whether the discriminator is right, and the sign that ADA watches.

        Of a relativistic pair only the difference means anything: D may have any offset.
        """
        seen: dict[str, Tensor] = {}
        if real is not None:
            seen |= {"logit_real": real.detach(), "sign": real.detach().sign()}
        if fake is not None:
            seen["logit_fake"] = fake.detach()
        if self.config.loss == "relativistic":
            gap = seen["logit_real"] - seen["logit_fake"]
            return {**seen, "sign": gap.sign(), "accuracy": (gap > 0).float()}
        if real is not None:
            seen["accuracy_real"] = (real.detach() > 0).float()
        if fake is not None:
            seen["accuracy_fake"] = (fake.detach() < 0).float()
        return seen

    # --- what is remembered -----------------------------------------------------------------------

    def memory(self) -> dict[str, Tensor]:
        """ADA's p, where it is used."""
        return {"p": torch.zeros(())} if self.config.augment == "ada" else {}

    def remember(self, phase: str, memory: Values, seen: Values) -> Values:
        """p goes up while the discriminator is too sure of training images, and down otherwise."""
        if "p" not in memory or "sign" not in seen:
            return {}
        return {"p": augment.adapted(memory["p"], seen["sign"], self.config.ada_target, self.config.ada_kimg)}

    # --- sampling ---------------------------------------------------------------------------------

    def latent(self, draw: Draw) -> Tensor:
        """z (b, latent)."""
        return draw.normal("latent", self.latent_size)

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        """G(truncation z)."""
        assert isinstance(how, GanSampling)
        images: Tensor = nets["generator"](latent * how.truncation, given, present)
        return images

    def measure(self, nets: Nets, batch: Batch, draw: Draw) -> Values:
        """D(x) of images as they are, (b,): where it overfits, held-out ones look fake to it."""
        return {"logit": nets["discriminator"](batch.x, batch.given, batch.present).float()}
