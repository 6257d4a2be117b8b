"""Variational autoencoders (Kingma and Welling 2014; conditional, Sohn 2015), vector or spatial latents.

    z = μ(x, c) + s(x, c) ε,  x̂ = D(z, c)
    -ELBO = nll + kl   nll = N/2 (log(2π σ²) + mse / σ²), σ stated, or σ² a running mean of mse (Rybkin 2020)
    w mse + kl         where loss.weights.mse = w is above 0: then nll is left out, and σ² = N / (2 w)

mse is the mean over the N = C H W pixel values, in units of the image's range [0, 1]; kl the sum over the
latent's dimensions, in nats. A warm-up of β is a ramp on the weight of kl. Formulas: functional/elbo.py.

With [network.perceptual], a frozen network of feature maps, and [network.discriminator] there are also

    perceptual   distance of the feature maps of x̂ and x (Johnson 2016)
    adversarial  softplus(-D(x̂)), against a discriminator trained on d = softplus(-D(x)) + softplus(D(x̂))

each with the weight 0 until the recipe says otherwise: with them a spatial latent serves latent diffusion
(Rombach 2022). A ramp lets them in late.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Protocol

import torch
from pydantic import BaseModel, Field, PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import softplus

from safelight.config import Section
from safelight.functional import elbo, sliders
from safelight.functional.contrast import distance
from safelight.functional.sliders import Slider
from safelight.methods import NetworkConfig
from safelight.types import Batch, DataSpec, Draw, Moment, Nets, Panel, Phase, Unit, Values

FORGETS = 0.9  # of the running mean of mse, a step: it follows within ten
FIRST = 1 / 12  # its value before the first step: the variance of a pixel of which nothing is known
ROWS, COLUMNS = 4, 15  # of a grid, at most
LOGVAR = (-30.0, 20.0)  # past which exp is of no use in float32


class EncoderConfig(Protocol):
    """encoder(x, given, present) -> mean, log-variance, (b, *latent) each."""

    def latent_shape(self, spec: DataSpec) -> tuple[int, ...]:
        """Of a z: (d,), or (c, h, w) where it is spatial."""
        ...

    def build(self, spec: DataSpec) -> nn.Module: ...


class DecoderConfig(Protocol):
    """decoder(z, given, present) -> (b, C, H, W). The size of its latent is the encoder's to state."""

    def build(self, spec: DataSpec, latent: tuple[int, ...]) -> nn.Module: ...


class VaeConfig(Section):
    """[method] of a variational autoencoder."""

    name: Literal["vae"] = "vae"
    sigma: PositiveFloat | Literal["calibrated"] = "calibrated"
    """Standard deviation of the decoder's output, in units of the image's range; calibrated follows the
    error."""
    free_bits: float = Field(0.0, ge=0)
    """Nats of KL that each latent dimension of a sample may cost for free (Kingma 2016)."""
    grid: tuple[str, ...] = ()
    """Attributes that the report's grid varies, such as "male=0..1,female=1..0". Default: each attribute
    from 0 to 1, two that add up to 1 together; or the classes."""


class VaeSampling(Section):
    """[sample] of a variational autoencoder."""

    temperature: float = Field(1.0, gt=0)
    """Factor on the latent; below 1 trades variety for quality."""


class Vae:
    """An encoder and a decoder."""

    Config: ClassVar[type[BaseModel]] = VaeConfig
    Sampling: ClassVar[type[BaseModel]] = VaeSampling
    roles: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    ema: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    optional_roles: ClassVar[tuple[str, ...]] = ("perceptual", "discriminator")

    units: ClassVar[Mapping[str, Unit]] = {
        "mse": ("squared error", "less"),
        "kl": ("nats", ""),
        "active units": ("units", ""),
        "bpd*": ("bits a pixel value", "less"),
    }

    def __init__(self, config: VaeConfig, networks: Mapping[str, object]) -> None:
        self.config = config
        self.encoder: EncoderConfig = networks["encoder"]  # type: ignore[assignment]
        self.decoder: DecoderConfig = networks["decoder"]  # type: ignore[assignment]
        self.others: dict[str, NetworkConfig] = {
            role: networks[role]  # type: ignore[misc]
            for role in self.optional_roles
            if role in networks
        }
        self.frozen = ("perceptual",) if "perceptual" in networks else ()
        components, phases = (
            {"nll": 1.0, "mse": 0.0, "kl": 1.0},
            [Phase("autoencode", ("encoder", "decoder"), self.loss)],
        )
        if "perceptual" in networks:
            components["perceptual"] = 0.0
        if "discriminator" in networks:
            components |= {"adversarial": 0.0, "d": 1.0}
            phases.append(Phase("discriminate", ("discriminator",), self.discriminate))
            self.equilibria: Mapping[str, float] = {"d": 2 * math.log(2), "adversarial": math.log(2)}
        self.components: Mapping[str, float] = components
        self.phases = tuple(phases)
        self.spec = DataSpec((0, 0, 0))
        self.latent_shape: tuple[int, ...] = ()
        self.sliders: tuple[Slider, ...] = ()

    @property
    def title(self) -> str:
        """The family in a few words, as reports say it."""
        return "variational autoencoder"

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        """The encoder, a decoder of its latent, and what else the recipe has.

        perceptual(x) -> feature maps; discriminator(x, given, present) -> logits (b,).
        """
        self.spec, self.latent_shape = spec, self.encoder.latent_shape(spec)
        self.sliders = tuple(sliders.read(text, spec) for text in self.config.grid)
        return {
            "encoder": self.encoder.build(spec),
            "decoder": self.decoder.build(spec, self.latent_shape),
            **{role: config.build(spec) for role, config in self.others.items()},
        }

    # --- the loss ---------------------------------------------------------------------------------

    def loss(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """kl, and mse where its weight is above 0, otherwise nll; each (b,). What else the recipe weighs."""
        mean, logvar = self.posterior(nets, batch)
        x̂ = self.reconstruct(nets, batch, mean, logvar, moment.draw)
        mse = squared_error(x̂, batch.x)
        nats = elbo.kl(mean, logvar).flatten(1).clamp(min=self.config.free_bits).sum(1)
        values = batch.x[0].numel()
        if weight := moment.weights["mse"]:
            losses = {"mse": mse, "kl": nats}
            sigma = mse.new_full((), elbo.implied_sigma(weight, values, moment.weights["kl"]))
        else:
            variance = self.variance(moment.memory, mse)
            losses = {"nll": elbo.gaussian_nll(mse, variance, values), "kl": nats}
            sigma = variance.sqrt()
        if moment.weights.get("perceptual"):
            with torch.no_grad():
                maps = nets["perceptual"](batch.x)
            losses["perceptual"] = distance(nets["perceptual"](x̂), maps)
        if moment.weights.get("adversarial"):
            losses["adversarial"] = softplus(-nets["discriminator"](x̂, batch.given, batch.present).float())
        return losses, {"mse": mse.detach(), "sigma": sigma.expand(len(mse))}

    def discriminate(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """d = softplus(-D(x)) + softplus(D(x̂)), (b,), once x̂ are asked to deceive."""
        if not moment.weights["adversarial"]:
            return {}, {}
        with torch.no_grad():
            x̂ = self.reconstruct(nets, batch, *self.posterior(nets, batch), moment.draw)
        real, fake = (nets["discriminator"](x, batch.given, batch.present).float() for x in (batch.x, x̂))
        return {"d": softplus(-real) + softplus(fake)}, {}

    def reconstruct(self, nets: Nets, batch: Batch, mean: Tensor, logvar: Tensor, draw: Draw) -> Tensor:
        """x̂ of a latent drawn from the posterior, (b, C, H, W)."""
        z = mean + (logvar / 2).exp() * draw.normal("z", *mean.shape[1:])
        return self.decode(nets, z, batch.given, batch.present)

    def posterior(self, nets: Nets, batch: Batch) -> tuple[Tensor, Tensor]:
        """μ and log s², (b, *latent) each, in float32."""
        mean, logvar = nets["encoder"](batch.x, batch.given, batch.present)
        return mean.float(), logvar.float().clamp(*LOGVAR)

    def decode(self, nets: Nets, z: Tensor, given: Values, present: Tensor) -> Tensor:
        """D(z, c) in float32, (b, C, H, W) in model space."""
        x: Tensor = nets["decoder"](z, given, present)
        return x.float()

    def variance(self, memory: Values, mse: Tensor) -> Tensor:
        """σ² of the decoder, 0-d, where mse is."""
        if self.config.sigma == "calibrated":
            return memory["mse"].clamp(min=elbo.FINEST)
        return mse.new_full((), self.config.sigma**2)

    # --- what is remembered -----------------------------------------------------------------------

    def memory(self) -> dict[str, Tensor]:
        """The running mean of mse, where σ is calibrated by it."""
        return {"mse": torch.tensor(FIRST)} if self.config.sigma == "calibrated" else {}

    def remember(self, phase: str, memory: Values, seen: Values) -> Values:
        """σ² = mse is the best σ² for an error of mse."""
        if "mse" not in memory or "mse" not in seen:
            return {}
        return {"mse": FORGETS * memory["mse"] + (1 - FORGETS) * seen["mse"].mean()}

    # --- sampling ---------------------------------------------------------------------------------

    def latent(self, draw: Draw) -> Tensor:
        """z of the prior, (b, *latent)."""
        return draw.normal("latent", *self.latent_shape)

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        """D(temperature z, c)."""
        assert isinstance(how, VaeSampling)
        return self.decode(nets, latent * how.temperature, given, present)

    def encode(self, nets: Nets, batch: Batch, draw: Draw) -> Tensor:
        """μ(x, c): the latent of a reconstruction, (b, *latent)."""
        return self.posterior(nets, batch)[0]

    # --- what a report shows ----------------------------------------------------------------------

    def measure(self, nets: Nets, batch: Batch, draw: Draw) -> Values:
        """mse and KL (b,) with z drawn from the posterior, and of the whole batch active units and bpd*."""
        mean, logvar = self.posterior(nets, batch)
        mse = squared_error(self.reconstruct(nets, batch, mean, logvar, draw), batch.x)
        nats = elbo.kl(mean, logvar).flatten(1).sum(1)
        return {
            "mse": mse,
            "kl": nats,
            "active units": elbo.active_units(mean).float(),
            "bpd*": elbo.bits_per_value(mse.mean(), nats.mean(), batch.x[0].numel()),
        }

    def panels(self, nets: Nets, batch: Batch, draw: Draw) -> Mapping[str, Panel]:
        """Reconstructions, samples of the prior, and sliders over the conditions with one z a row."""
        x̂ = self.decode(nets, self.encode(nets, batch, draw), batch.given, batch.present)
        prior = [
            self.decode(nets, draw.normal(f"prior {row}", *self.latent_shape), batch.given, batch.present)
            for row in range(ROWS)
        ]
        panels = {
            "reconstructions": Panel(
                torch.stack([batch.x, x̂]),
                rows=("image", "decoded"),
                caption="Held-out images, and their reconstructions from the posterior mean.",
            ),
            "prior": Panel(
                torch.stack(prior),
                caption="Decoded samples of the prior; each column has the conditions of the image above.",
            ),
        }
        if batch.present.all() and (grid := self.grid(nets, batch, draw)):
            panels["conditions"] = grid
        return panels

    def grid(self, nets: Nets, batch: Batch, draw: Draw) -> Panel | None:
        """One z and one held-out image's conditions a row; a column moves one of those. None without any."""
        each = self.sliders or sliders.each(self.spec, batch.given)
        columns = [place for slider in each for place in sliders.places([slider], slider.steps(3))][:COLUMNS]
        if not columns:
            return None
        z = draw.normal("grid", *self.latent_shape)[:ROWS]
        given, present = {name: value[:ROWS] for name, value in batch.given.items()}, batch.present[:ROWS]
        images = [self.decode(nets, z, sliders.moved(given, self.spec, place), present) for place in columns]
        return Panel(
            torch.stack(images, dim=1),
            columns=sliders.labels(each, columns, self.spec),
            caption="One latent a row; a column sets a condition, the others are those of a held-out image.",
        )


def squared_error(x̂: Tensor, x: Tensor) -> Tensor:
    """|x̂ - x|² of images in [-1, 1], mean over C, H, W, in units of the image's range, (b,)."""
    return ((x̂ - x) / 2).square().mean((1, 2, 3))
