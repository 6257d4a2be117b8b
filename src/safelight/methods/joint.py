"""A joint encoder of images and texts, contrastively (CLIP, Radford 2021; InfoNCE, van den Oord 2018).

    image_text_i = -log softmax_j(a_i · b_j / τ)_i      text_image_i = -log softmax_j(b_i · a_j / τ)_i

over the global batch: a of images and b of texts, both of unit length, τ learned. Other images with the same
text are not contrasted with. It draws nothing: another recipe names its run as its encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import Section, UserError
from safelight.functional import augment
from safelight.functional.contrast import infonce
from safelight.methods import NetworkConfig
from safelight.types import Batch, DataSpec, Draw, Moment, Nets, Panel, Phase, Unit, Values

STEEPEST = 100.0  # 1 / τ, at most


class JointConfig(Section):
    """[method] of a joint encoder."""

    name: Literal["joint"] = "joint"
    jitter: float = Field(0.1, ge=0, le=0.5)
    """Largest shift and scaling of images, as a share of the side."""


class JointSampling(Section):
    """[sample] of a joint encoder: it draws no images."""


class Joint:
    """An image tower and a text tower, which are trained to agree."""

    Config: ClassVar[type[BaseModel]] = JointConfig
    Sampling: ClassVar[type[BaseModel]] = JointSampling
    roles: ClassVar[tuple[str, ...]] = ("image", "text")
    ema: ClassVar[tuple[str, ...]] = ("image", "text")
    frozen: ClassVar[tuple[str, ...]] = ()
    draws: ClassVar[bool] = False
    components: ClassVar[Mapping[str, float]] = {"image_text": 0.5, "text_image": 0.5}

    units: ClassVar[Mapping[str, Unit]] = {
        "retrieval rank": ("share", "more"),
        "retrieval first": ("share", "more"),
    }

    def __init__(self, config: JointConfig, networks: Mapping[str, NetworkConfig]) -> None:
        self.config, self.configs = config, networks
        self.phases = (Phase("agree", ("image", "text"), self.loss, whole=True),)

    @property
    def title(self) -> str:
        """The family in a few words, as reports say it."""
        return "joint encoder of images and texts"

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        """image(x) and text(h) -> (b, features); text.log_scale = log(1 / τ)."""
        return {role: self.configs[role].build(spec) for role in self.roles}

    def loss(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """Both directions, from images that are moved a little."""
        if "text" not in batch.given:
            raise UserError("method joint: the data have no captions; state data.text_encoder")
        with moment.fp32():
            x = batch.x
            if self.config.jitter:
                shift_y, shift_x, scale = moves(self.config, moment.draw).values()
                x = augment.warp(x, shift_y * x.shape[2], shift_x * x.shape[3], scale, scale)
        image = nets["image"](x).float()
        text = nets["text"](batch.given["text"]).float()
        with moment.fp32():
            a, b = moment.gather(F.normalize(image, dim=1)), moment.gather(F.normalize(text, dim=1))
            texts = moment.gather(F.normalize(batch.given["text"].float(), dim=1))
            there = moment.gather(batch.present.float()) > 0
            scale = nets["text"].log_scale.exp().clamp(max=STEEPEST)  # type: ignore[operator]
            fits = a @ b.T * scale
            contrasted = there[None] & (texts @ texts.T < 0.9999)
            losses = {
                name: torch.where(there, infonce(cosines, contrasted), 0)
                for name, cosines in (("image_text", fits), ("text_image", fits.T))
            }
        return losses, {"scale": scale.detach().expand(len(batch.rows))}

    def latent(self, draw: Draw) -> Tensor:
        """None: it draws no images."""
        raise UserError("encoder runs cannot generate images; name the run as the encoder of another recipe")

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        """None: it draws no images."""
        raise UserError("encoder runs cannot generate images; name the run as the encoder of another recipe")

    # --- what a report shows ----------------------------------------------------------------------

    def measure(self, nets: Nets, batch: Batch, draw: Draw) -> Values:
        """Held-out: share of other texts that fit an image worse than the right one (b,); chance 0.5."""
        fits = self.fits(nets, batch)
        right = fits.diagonal()[:, None]
        others = max(len(fits) - 1, 1)
        rank = ((fits < right).float().sum(1) + 0.5 * ((fits == right).float().sum(1) - 1)) / others
        return {
            "retrieval rank": torch.where(batch.present, rank, 0.5),
            "retrieval first": (rank == 1).float(),
        }

    def panels(self, nets: Nets, batch: Batch, draw: Draw) -> Mapping[str, Panel]:
        """Held-out images in the order in which they fit the text of the first of a row."""
        order = self.fits(nets, batch).T.argsort(1, descending=True)
        rows = torch.cat([torch.arange(len(batch.x), device=order.device)[:, None], order], dim=1)
        columns = ("its text", *(f"{place}." for place in range(1, rows.shape[1])))
        caption = "Held-out images: the first of each row has the text, then all, the best match to it first."
        return {"retrieval": Panel(batch.x[rows], (), columns, caption)}

    def fits(self, nets: Nets, batch: Batch) -> Tensor:
        """Cosines of images (rows) and texts (columns), (b, b)."""
        a = F.normalize(nets["image"](batch.x).float(), dim=1)
        return a @ F.normalize(nets["text"](batch.given["text"]).float(), dim=1).T


def moves(config: JointConfig, draw: Draw) -> dict[str, Tensor]:
    """How images are moved, (b,): shifts as shares of the sides, and the scale."""
    shift = (2 * draw.uniform("shift", 2) - 1) * config.jitter
    scale = torch.exp((2 * draw.uniform("scale") - 1) * config.jitter)
    return {"shift y": shift[:, 0], "shift x": shift[:, 1], "scale": scale}
