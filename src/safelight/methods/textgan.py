"""A text-to-image GAN with contrastive losses, after LAFITE (Zhou 2022) on StyleGAN2 (Karras 2020).

    D(x, h) = D0(x) + <f(x), h>    the text term sums over the features of that sample alone
    d = softplus(D(G(z, h), h)) + softplus(-D(x, h));   g = softplus(-D(G(z, h), h))
    C(a, b)_i = -log softmax_j(cos(a_i, b_j) / τ)_i over the global batch (InfoNCE; van den Oord 2018)

    component       of              what
    con_d           discriminator   C(f(x), h)
    mismatch        discriminator   softplus(D(x, h')), h' the text of another image (GigaGAN, Kang 2023)
    r1              discriminator   |∇D(x, h)|², summed over C, H, W, every `penalty_every`; weight gamma / 2
    con_g_d         generator       C(f(G), h)
    con_g_encoder   generator       C(E(G), h), E a frozen encoder of images
    image_d         generator       C(f(G), f(x))
    image_encoder   generator       C(E(G), E(x))
    perceptual      generator       distance of the feature maps of G and x in a frozen network
    variety         generator       max(0, 1 - |G(z, h) - G(z', h)| / reach), z' a second latent: the mode
                                    seeking of Mao 2019, bounded as by Yang 2019
    path            generator       (|Jᵀ y| - a)² every `path_every`, a its running mean (Karras 2020)

x is the image that the text h belongs to. A component of weight 0 is not computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import softplus

from safelight.config import Section
from safelight.functional import augment, contrast, styles
from safelight.functional.contrast import distance, perturbed
from safelight.methods import NetworkConfig
from safelight.networks.style_discriminator import judged
from safelight.types import Batch, DataSpec, Draw, Moment, Nets, Panel, Phase, Unit, Values

PATH_DECAY = 0.01  # of the running mean of path lengths


class TextGanConfig(Section):
    """[method] of a text-to-image GAN."""

    name: Literal["textgan"] = "textgan"
    temperature: float = Field(0.5, gt=0)
    """Temperature of the contrastive losses."""
    contrastive: Literal["infonce", "lafite"] = "infonce"
    """Contrastive loss; lafite exponentiates the similarities twice, as its published code does."""
    queue: int = Field(0, ge=0, le=2**20)
    """Text features of earlier batches to contrast with as well."""
    perturb: float = Field(0.1, ge=0, lt=1)
    """Share of unit noise in the text feature during training."""
    language_free: float = Field(0.0, ge=0, le=1)
    """Share of samples conditioned on the encoder's feature of their image instead of a text."""
    language_free_perturb: float = Field(0.75, ge=0, lt=1)
    """Share of unit noise in that image feature."""
    mixing: float = Field(0.9, ge=0, le=1)
    """Share of samples whose style is mixed from two latents."""
    reach: float = Field(0.2, gt=0)
    """Mean difference between two samples of a text up to which variety is rewarded; pixels lie in [-1,
    1]."""
    penalty_every: int = Field(16, ge=0)
    """Steps between two evaluations of r1; 0 = never."""
    path_every: int = Field(4, ge=0)
    """Steps between two evaluations of path; 0 = never."""
    augment: Literal["none", "diffaugment", "ada"] = "none"
    """Augmentation of all images that the discriminator sees."""
    ada_target: float = Field(0.6, gt=0, lt=1)
    """ADA's target for the mean sign of the logits of real images."""
    ada_kimg: float = Field(500.0, gt=0)
    """Thousands of images in which ADA's probability can go from 0 to 1."""


class TextGanSampling(Section):
    """[sample] of a text-to-image GAN."""

    truncation: float = Field(1.0, ge=0)
    """Truncation of styles towards their mean; below 1 trades variety for quality."""


class TextGan:
    """A generator of styles, a discriminator with a feature, and frozen networks for some of the losses."""

    Config: ClassVar[type[BaseModel]] = TextGanConfig
    Sampling: ClassVar[type[BaseModel]] = TextGanSampling
    roles: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    optional_roles: ClassVar[tuple[str, ...]] = ("encoder", "perceptual")
    ema: ClassVar[tuple[str, ...]] = ("generator",)

    units: ClassVar[Mapping[str, Unit]] = {"text cosine": ("cosine", "more")}

    def __init__(self, config: TextGanConfig, networks: Mapping[str, NetworkConfig]) -> None:
        self.config, self.configs = config, networks
        self.frozen = tuple(role for role in self.optional_roles if role in networks)
        self.latent_size = int(networks["generator"].latent)  # type: ignore[attr-defined]
        self.shape: tuple[int, ...] = ()
        self.text_size = 0
        components = {"d": 1.0, "con_d": 0.0, "mismatch": 0.0, "g": 1.0, "con_g_d": 0.0, "image_d": 0.0,
                      "variety": 0.0}  # fmt: skip
        phases = [
            Phase("discriminate", ("discriminator",), self.discriminator, whole=True),
            Phase("generate", ("generator",), self.generator, whole=True),
        ]
        if "encoder" in networks:
            components |= {"con_g_encoder": 0.0, "image_encoder": 0.0}
        if "perceptual" in networks:
            components["perceptual"] = 0.0
        if config.penalty_every:
            components["r1"] = 0.0
            phases.append(
                Phase("penalise", ("discriminator",), self.penalty, config.penalty_every, components=("r1",))
            )
        if config.path_every:
            components["path"] = 0.0
            phases.append(
                Phase("straighten", ("generator",), self.path, config.path_every, components=("path",))
            )
        self.components: Mapping[str, float] = components
        self.equilibria: Mapping[str, float] = {"d": 2 * math.log(2), "g": math.log(2)}
        self.phases = tuple(phases)

    @property
    def title(self) -> str:
        """The family in a few words, as reports say it."""
        return "text-to-image GAN"

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        """generator.mapping(z) -> w, generator.synthesis(w, given, present, noise) -> images;
        discriminator.eye(x) -> D0 (b,), f (b, T); encoder(x) -> (b, T) of unit length; perceptual(x) -> maps.
        """
        self.shape, self.alpha = spec.shape, spec.alpha
        self.text_size = spec.conditions["text"].size if "text" in spec.conditions else 0
        return {role: config.build(spec) for role, config in self.configs.items()}

    # --- the losses -------------------------------------------------------------------------------

    def discriminator(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """d, and what the discriminator learns of text."""
        given, present = self.conditions(nets, batch, moment)
        fake = self.make(nets, given, present, moment.draw).detach()
        real_logit, real_feature = self.look(nets, batch.x, moment, "real")
        fake_logit, fake_feature = self.look(nets, fake, moment, "fake")
        real = judged(real_logit, real_feature, given, present)
        fakes = judged(fake_logit, fake_feature, given, present)
        losses = {"d": softplus(fakes) + softplus(-real)}
        if "text" in given:
            h, there = given["text"], present
            if moment.weights["con_d"]:
                losses["con_d"] = self.contrast(moment, real_feature, h, there, texts=True)
            if moment.weights["mismatch"]:
                other, is_other = contrast.of_the_next(moment, batch, h, there)
                wrong = judged(real_logit, real_feature, {"text": other}, present)
                losses["mismatch"] = softplus(wrong) * is_other
        seen = {  # of D(x, h) with its text term, the logits that d is about
            "accuracy_real": (real.detach() > 0).float(),
            "accuracy_fake": (fakes.detach() < 0).float(),
            "sign": real.detach().sign(),
            "logit_real": real.detach(),
            "logit_fake": fakes.detach(),
        }
        if self.config.queue and "text" in given:
            seen["text"] = given["text"] * present[:, None]
        return losses, seen

    def generator(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """g, and what draws the image to its text and to the image of that text."""
        weights = moment.weights
        given, present = self.conditions(nets, batch, moment)
        fake = self.make(nets, given, present, moment.draw)
        logit, feature = self.look(nets, fake, moment, "fake")
        losses = {"g": softplus(-judged(logit, feature, given, present))}
        everywhere = torch.ones_like(present)
        if weights["image_d"]:
            with torch.no_grad():
                _, real = self.look(nets, batch.x, moment, "real")
            losses["image_d"] = self.contrast(moment, feature, real, everywhere)
        if weights["con_g_d"] and "text" in given:
            losses["con_g_d"] = self.contrast(moment, feature, given["text"], present, texts=True)
        if weights.get("con_g_encoder") or weights.get("image_encoder"):
            seen = nets["encoder"](fake).float()
            if weights["con_g_encoder"] and "text" in given:
                losses["con_g_encoder"] = self.contrast(moment, seen, given["text"], present, texts=True)
            if weights["image_encoder"]:
                losses["image_encoder"] = self.contrast(moment, seen, self.seen(nets, batch), everywhere)
        if weights["variety"]:
            losses["variety"] = self.variety(nets, fake, given, present, moment.draw)
        if weights.get("perceptual"):
            with torch.no_grad():
                maps = nets["perceptual"](batch.x)
            losses["perceptual"] = distance(nets["perceptual"](fake), maps)
        return losses, {}

    def variety(self, nets: Nets, fake: Tensor, given: Values, present: Tensor, draw: Draw) -> Tensor:
        """How much a sample is like another of its text (b,): 0 from `reach` on, 1 if they are the same."""
        w = styles.styles(nets["generator"], draw.normal("second z", self.latent_size))
        other = nets["generator"].synthesis(w, given, present, self.noise(draw))  # type: ignore[operator]
        apart = (fake.float() - other.float()).abs().mean((1, 2, 3))
        return F.relu(1 - apart / self.config.reach)

    def penalty(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """r1 in fp32: second derivatives under bf16 are noise."""
        if not moment.weights["r1"]:
            return {}, {}
        with moment.fp32():
            given, present = self.conditions(nets, batch, moment)
            x = batch.x.detach().float().requires_grad_()
            logits = judged(*self.look(nets, x, moment, "real"), given, present)
            (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        return {"r1": gradient.square().sum((1, 2, 3))}, {}

    def path(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """path: how far the image moves with the style should be the same everywhere. In fp32."""
        if not moment.weights["path"]:
            return {}, {}
        with moment.fp32():
            given, present = self.conditions(nets, batch, moment)
            w = self.styles(nets, moment.draw)
            images = nets["generator"].synthesis(w, given, present, self.noise(moment.draw))  # type: ignore[operator]
            length = styles.path_length(images, w, moment.draw)
        return {"path": (length - moment.memory["length"]).square()}, {"length": length.detach()}

    # --- their parts ------------------------------------------------------------------------------

    def conditions(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[dict[str, Tensor], Tensor]:
        """The conditions of training, and (b,) present: the text feature h with noise, or the image's."""
        given, present = dict(batch.given), batch.present
        if "text" not in given:
            return given, present
        h = perturbed(F.normalize(given["text"].float(), dim=1), self.config.perturb, moment.draw)
        if self.config.language_free:
            free = moment.draw.uniform("language free") < self.config.language_free
            seen = perturbed(self.seen(nets, batch), self.config.language_free_perturb, moment.draw)
            h, present = torch.where(free[:, None], seen, h), present | free
        given["text"] = h
        return given, present

    def looks_with(self, weights: Mapping[str, Any]) -> str | None:
        """The encoder, where the losses use its features of real images."""
        used = self.config.language_free or weights.get("image_encoder")
        return "encoder" if used and "encoder" in self.configs else None

    def seen(self, nets: Nets, batch: Batch) -> Tensor:
        """What the encoder makes of the real images (b, T): kept, or computed now."""
        if batch.features is not None:
            return batch.features
        with torch.no_grad():
            features: Tensor = nets["encoder"](batch.x).float()
        return features

    def make(self, nets: Nets, given: Values, present: Tensor, draw: Draw) -> Tensor:
        """G(z, h) for fresh latents."""
        w = self.styles(nets, draw)
        images: Tensor = nets["generator"].synthesis(w, given, present, self.noise(draw))  # type: ignore[operator]
        return images

    def styles(self, nets: Nets, draw: Draw) -> Tensor:
        """Styles of fresh latents (b, styles, latent), some mixed."""
        return styles.fresh(nets["generator"], self.latent_size, self.config.mixing, draw)

    def noise(self, draw: Draw) -> Tensor | None:
        """Noise of every pixel (b, 2, H, W), by name like everything random; None where none is used."""
        if not getattr(self.configs["generator"], "noise", False):
            return None
        return draw.normal("noise", 2, *self.shape[1:])

    def look(self, nets: Nets, x: Tensor, moment: Moment, name: str) -> tuple[Tensor, Tensor]:
        """D0 (b,) and f (b, T) of augmented images."""
        with moment.fp32():  # interpolation weights in bf16 would blur
            x = augment.augmented(
                self.config.augment, x, moment.draw, name, moment.memory.get("p"), self.alpha
            )
        logit, feature = nets["discriminator"].eye(x)  # type: ignore[operator]
        return logit, feature

    def contrast(self, moment: Moment, a: Tensor, b: Tensor, there: Tensor, texts: bool = False) -> Tensor:
        """C(a, b) over the global batch (B,). texts: b is of texts, and those of the queue belong to it."""
        queue = moment.memory["queue"] if texts and self.config.queue else None
        twice = self.config.contrastive == "lafite"
        return contrast.over_all(moment, a, b, there, self.config.temperature, queue, twice=twice)

    # --- what is remembered -----------------------------------------------------------------------

    def memory(self) -> dict[str, Tensor]:
        """ADA's p, the mean path length, the queue of texts: those that are used."""
        remembered = {}
        if self.config.augment == "ada":
            remembered["p"] = torch.zeros(())
        if self.config.path_every:
            remembered["length"] = torch.zeros(())
        if self.config.queue:
            remembered["queue"] = torch.zeros(self.config.queue, self.text_size)
        return remembered

    def remember(self, phase: str, memory: Values, seen: Values) -> Values:
        """What the global batch changes of that."""
        changed = {}
        if "p" in memory and "sign" in seen:
            changed["p"] = augment.adapted(
                memory["p"], seen["sign"], self.config.ada_target, self.config.ada_kimg
            )
        if "length" in seen:
            changed["length"] = memory["length"].lerp(seen["length"].mean(), PATH_DECAY)
        if "text" in seen:
            changed["queue"] = torch.cat([seen["text"], memory["queue"]])[: self.config.queue]
        return changed

    # --- sampling ---------------------------------------------------------------------------------

    def latent(self, draw: Draw) -> Tensor:
        """z (b, latent)."""
        return draw.normal("latent", self.latent_size)

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        """G at the style of z (b, latent), or at styles (b, styles, latent)."""
        w = latent if latent.ndim == 3 else self.style(nets, latent, how)
        if "text" in given:
            given = {**given, "text": F.normalize(given["text"].float(), dim=1)}
        images: Tensor = nets["generator"].synthesis(w, given, present, self.noise(draw))  # type: ignore[operator]
        return images

    def style(self, nets: Nets, latent: Tensor, how: BaseModel) -> Tensor:
        """w̄ + truncation (w - w̄) for every layer, w̄ the mean style of many latents."""
        assert isinstance(how, TextGanSampling)
        return styles.truncated(nets["generator"], latent, how.truncation)

    # --- what a report shows ----------------------------------------------------------------------

    def measure(self, nets: Nets, batch: Batch, draw: Draw) -> Values:
        """How near samples are to held-out texts for the encoder that trained them: cosines (b,)."""
        if "encoder" not in nets or "text" not in batch.given:
            return {}
        z = self.latent(draw)
        x = self.sample(nets, z, batch.given, batch.present, draw, TextGanSampling())
        h = F.normalize(batch.given["text"].float(), dim=1)
        return {"text cosine": (nets["encoder"](x).float() * h).sum(1)}

    def panels(self, nets: Nets, batch: Batch, draw: Draw) -> Mapping[str, Panel]:
        """Held-out images, and several samples of each one's text."""
        wide, high = 6, min(6, len(batch.x))
        columns = [batch.x[:high]]
        for column in range(wide):
            z = draw.normal(f"latent {column}", self.latent_size)
            x = self.sample(nets, z, batch.given, batch.present, draw, TextGanSampling())
            columns.append(x.float()[:high])
        caption = "Held-out images, and samples of their texts."
        return {"one-text": Panel(torch.stack(columns, 1), (), ("image", *["sample"] * wide), caption)}
