"""Two small methods that need all of the protocol: a GAN with lazy R1 and ADA, and a contrastive encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from safelight.config import Section
from safelight.engine.plan import Optim, Plan, Train
from safelight.randomness import RowDraw
from safelight.types import Batch, DataSpec, Draw, Method, Moment, Nets, Phase, Values

SPEC = DataSpec((1, 4, 4))


class NoSettings(Section):
    """No settings."""


class ToyStream:
    """Batches of smooth random images, pure functions of the step."""

    def __init__(self, total: int = 12) -> None:
        self.total = total

    def parts(self, step: int, accumulate: int, rank: int, world: int) -> list[Batch]:
        size = self.total // (accumulate * world)
        starts = [(rank * accumulate + part) * size for part in range(accumulate)]
        return [self._part(step, range(start, start + size)) for start in starts]

    def _part(self, step: int, rows: range) -> Batch:
        x = RowDraw(7, step, "data", rows).normal("x", 1, 4, 4).cumsum(-1).tanh()
        return Batch(x, {}, torch.zeros(len(rows), dtype=torch.bool), rows, self.total)


class Scaled(nn.Module):
    """Pixels times constants: a buffer that no step changes and no checkpoint holds."""

    scales: Tensor

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.register_buffer("scales", torch.linspace(0.9, 1.1, pixels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scales


class ToyGan:
    """Non-saturating GAN: d, lazy R1 in fp32, adaptive augmentation whose strength is remembered."""

    Config: ClassVar[type[BaseModel]] = NoSettings
    Sampling: ClassVar[type[BaseModel]] = NoSettings
    roles = ("generator", "discriminator")
    ema = ("generator",)
    frozen = ()
    components: ClassVar[Mapping[str, float]] = {"d": 1.0, "r1": 5.0, "g": 1.0}

    def __init__(self, dropout: float = 0.0) -> None:
        self.dropout = dropout
        self.phases = (
            Phase("discriminate", ("discriminator",), self.d),
            Phase("penalise", ("discriminator",), self.r1, every=4),
            Phase("generate", ("generator",), self.g),
        )

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        pixels = spec.shape[1] * spec.shape[2]
        return {
            "generator": nn.Sequential(
                nn.Linear(8, 32),
                nn.BatchNorm1d(32),
                nn.SiLU(),
                nn.Linear(32, pixels),
                nn.Unflatten(1, spec.shape),
            ),
            "discriminator": nn.Sequential(
                nn.Flatten(),
                Scaled(pixels),
                nn.Linear(pixels, 32),
                nn.SiLU(),
                nn.Dropout(self.dropout),
                nn.Linear(32, 1),
                nn.Flatten(0),
            ),
        }

    def memory(self) -> dict[str, Tensor]:
        return {"p": torch.zeros(())}

    def remember(self, phase: str, memory: Values, seen: Values) -> Values:
        if phase != "discriminate":
            return {}
        return {"p": (memory["p"] + 0.05 * (seen["sign"].mean() - 0.1).sign()).clamp(0, 1)}

    def augment(self, x: Tensor, moment: Moment, name: str) -> Tensor:
        flip = moment.draw.uniform(name, 1, 1, 1) < moment.memory["p"]
        return torch.where(flip, x.flip(-1), x)

    def d(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        real = nets["discriminator"](self.augment(batch.x, moment, "real"))
        fake = nets["generator"](moment.draw.normal("z", 8)).detach()
        fake = nets["discriminator"](self.augment(fake, moment, "fake"))
        return {"d": F.softplus(-real) + F.softplus(fake)}, {"sign": real.detach().sign()}

    def r1(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        with moment.fp32():
            x = batch.x.detach().float().requires_grad_()
            (gradient,) = torch.autograd.grad(nets["discriminator"](x).sum(), x, create_graph=True)
        return {"r1": gradient.square().sum((1, 2, 3))}, {}

    def g(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        fake = nets["generator"](moment.draw.normal("z", 8))
        return {"g": F.softplus(-nets["discriminator"](self.augment(fake, moment, "fake")))}, {}

    def latent(self, draw: Draw) -> Tensor:
        return draw.normal("z", 8)

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        image: Tensor = nets["generator"](latent)
        return image


class ToyContrast:
    """Two noisy views of an image agree (InfoNCE over the whole batch), with a learned temperature."""

    Config: ClassVar[type[BaseModel]] = NoSettings
    Sampling: ClassVar[type[BaseModel]] = NoSettings
    roles = ("encoder",)
    ema = ()
    frozen = ()
    components: ClassVar[Mapping[str, float]] = {"contrast": 1.0, "scale": 0.01}

    def __init__(self) -> None:
        self.phases = (Phase("encode", ("encoder",), self.contrast, whole=True),)

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 6))
        encoder.temperature = nn.Parameter(torch.tensor(0.0))
        return {"encoder": encoder}

    def memory(self) -> dict[str, Tensor]:
        return {"queue": torch.zeros(24, 6)}

    def remember(self, phase: str, memory: Values, seen: Values) -> Values:
        return {"queue": torch.cat([seen["feature"], memory["queue"]])[: len(memory["queue"])]}

    def contrast(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        encoder = nets["encoder"]
        views = [
            F.normalize(encoder(batch.x + 0.3 * moment.draw.normal(name, 1, 4, 4)), dim=1) for name in "ab"
        ]
        a, b = (moment.gather(view) for view in views)
        logits = torch.cat([a @ b.T, a @ moment.memory["queue"].T], dim=1) * encoder.temperature.exp() * 2
        contrast = F.cross_entropy(logits, torch.arange(len(a)), reduction="none")  # (B,)
        scale = views[0].new_ones(len(batch.rows)) * encoder.temperature.square()  # (b,)
        return {"contrast": contrast, "scale": scale}, {"feature": views[0].detach()}

    def latent(self, draw: Draw) -> Tensor:
        return draw.normal("z", 6)

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        raise AssertionError("an encoder draws no images")


def plan(
    method: Method, steps: int = 12, accumulate: int = 1, lr: float = 0.01, spec: DataSpec = SPEC
) -> Plan:
    """A plan for a toy method: one Adam for every network."""
    networks = method.networks(spec)
    return Plan(
        steps,
        Train(steps=steps, batch_size=12, accumulate=accumulate, precision="fp32", ema=0.9),
        {name: Optim(lr=lr, clip=1.0, warmup=2, schedule="cosine") for name in networks},
        dict(method.components),
    )
