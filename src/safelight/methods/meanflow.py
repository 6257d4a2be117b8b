"""MeanFlow: images in two evaluations, trained from scratch (Geng et al. 2025, arXiv 2505.13447).

x_t = (1 - t) x + t ε moves with velocity v = ε - x. The network predicts its average over an interval,

    u(x_t, r, t) = 1 / (t - r) ∫_r^t v(x_τ, τ) dτ,  so that  x_r = x_t - (t - r) u(x_t, r, t)

is one step of any length. An interval is the sum of its two parts: with
s = t - step (t - r), the later part so short that its average is v, the target is

    u(x_t, r, t)  =  step v + (1 - step) u(x_s, r, s),   x_s = x_t - step (t - r) v

(Zhang et al. 2025, "AlphaFlow", eq. 11). step = 1/2 is a shortcut model's, step -> 0 MeanFlow's derivative; a
difference in its place needs no forward-mode derivative, which attention and bfloat16 lack on a CPU.

With [network.teacher], a finished flow, its velocity at x_t takes the place of ε - x, whose mean it is, so
that targets have no noise. Training begins with its weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn

from safelight.config import Section, UserError
from safelight.methods import NetworkConfig
from safelight.methods.diffusion import BANDS, guided
from safelight.randomness import interior, sent, stratified
from safelight.types import Batch, DataSpec, Draw, Moment, Nets, Panel, Phase, Values

LEAST_ERROR = 1e-3  # added to a squared error before it is divided by itself


class MeanFlowConfig(Section):
    """[method] of MeanFlow."""

    name: Literal["meanflow"] = "meanflow"
    intervals: float = Field(0.5, gt=0, lt=1)
    """Share of samples trained on intervals; the others are trained on the velocity itself, as in a flow."""
    step: float = Field(0.1, gt=0, le=0.5)
    """Part of an interval that is taken by the known velocity; smaller is nearer to MeanFlow, and noisier."""
    logit_mean: float = -0.4
    """Mean of log(t / (1 - t)) of the two ends of an interval."""
    logit_std: float = Field(1.0, gt=0)
    """Standard deviation of log(t / (1 - t)) of the two ends."""
    full_share: float = Field(0.25, ge=0, le=1)
    """Share of the intervals that are the whole way, from noise to image."""
    damping: float = Field(0.5, ge=0, le=1)
    """Errors e² are divided by (e² + 0.001)^damping, so that the largest do not rule; 0 = squared errors."""
    condition_dropout: float = Field(0.1, ge=0, le=1)
    """Share of samples trained without conditions, which guidance needs."""
    guidance: float = Field(1.0, ge=1)
    """Strength of the guidance that is trained into the velocity, at no cost when sampling; 1 = none."""


class MeanFlowSampling(Section):
    """[sample] of MeanFlow."""

    steps: int = Field(2, ge=1, le=1000)
    """Steps of equal length from noise to image, one evaluation each."""
    clip: bool = True
    """Limit the image to [-1, 1]."""


class MeanFlow:
    """One network, one phase, two components: errors of the velocity, and of averages over intervals."""

    Config: ClassVar[type[BaseModel]] = MeanFlowConfig
    Sampling: ClassVar[type[BaseModel]] = MeanFlowSampling
    roles: ClassVar[tuple[str, ...]] = ("denoiser",)
    ema: ClassVar[tuple[str, ...]] = ("denoiser",)
    optional_roles: ClassVar[tuple[str, ...]] = ("teacher",)
    components: ClassVar[Mapping[str, float]] = {"velocity": 0.5, "interval": 0.5}
    title = "MeanFlow"

    def __init__(self, config: MeanFlowConfig, networks: Mapping[str, NetworkConfig]) -> None:
        self.config = config
        self.network, self.teacher = networks["denoiser"], networks.get("teacher")
        self.frozen = ("teacher",) if self.teacher else ()
        self.phases = (Phase("average", ("denoiser",), self.loss),)
        self.shape: tuple[int, ...] = ()

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        """The denoiser: forward(x_t, (t, t - r), given, present) -> u, of the shape of x_t.

        Raises UserError for a network that does not see the length of a step.
        """
        if not getattr(self.network, "interval", False):
            raise UserError(
                'network: meanflow needs to know the length of a step; set name = "unet" and interval = true'
            )
        self.shape = spec.shape
        nets = {"denoiser": self.network.build(spec)}
        if self.teacher:
            nets["teacher"] = self.teacher.build(spec)
            begin_with(nets["denoiser"], nets["teacher"].net)  # type: ignore[arg-type]
        return nets

    # --- the loss ---------------------------------------------------------------------------------

    def loss(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """velocity: |u(x_t, t, t) - v|²; interval: |u(x_t, r, t) - target|². Each a mean over its own rows.

        While the weight of interval is 0 every row trains the velocity.
        """
        draw, share = moment.draw, self.config.intervals
        if not moment.weights["interval"]:
            share = 0.0
        chosen = draw.uniform("interval", host=True) < share  # not stratified: strata are those of the times
        t, r = self.ends(batch, draw, chosen)
        kept = batch.present & (draw.uniform("condition") >= self.config.condition_dropout)
        ε = draw.normal("noise", *batch.x.shape[1:])
        t, r, v = sent(t, ε.device), sent(r, ε.device), ε - batch.x
        x_t = batch.x + over(t) * v
        target = self.target(nets, x_t, v, r, t, batch.given, kept, sent(chosen.nonzero()[:, 0], ε.device))
        out = nets["denoiser"](x_t, torch.stack([t, t - r], 1), batch.given, kept).float()
        error = (out - target).square().mean((1, 2, 3))
        error = error / (error.detach() + LEAST_ERROR) ** self.config.damping
        rows = sent(chosen, error.device)
        zero = torch.zeros_like(error)
        interval = torch.where(rows, error / share, zero) if share else zero
        return {"velocity": torch.where(rows, zero, error / (1 - share)), "interval": interval}, {}

    def ends(self, batch: Batch, draw: Draw, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Later and earlier end (t, r) of every row's interval, (b,) on the CPU; equal where not chosen."""
        first = stratified(draw.uniform("time", host=True), batch.rows, batch.total)
        second = interior(draw.uniform("other end", host=True))
        a, b = ((self.config.logit_mean + self.config.logit_std * torch.special.ndtri(u)).sigmoid()
                for u in (first, second))  # fmt: skip
        whole = draw.uniform("whole", host=True) < self.config.full_share
        t = torch.where(chosen, torch.where(whole, 1.0, torch.maximum(a, b)), a)
        r = torch.where(chosen, torch.where(whole, 0.0, torch.minimum(a, b)), a)
        return t, r

    @torch.no_grad()
    def target(
        self,
        nets: Nets,
        x_t: Tensor,
        v: Tensor,
        r: Tensor,
        t: Tensor,
        given: Values,
        present: Tensor,
        rows: Tensor,
    ) -> Tensor:
        """v, guided; for the rows of an index (n,) step v + (1 - step) u(x_s, r, s). (b, C, H, W)."""
        net, step = nets["denoiser"], self.config.step
        if self.teacher:
            v = guided(nets["teacher"], x_t, t, given, present, self.config.guidance)
        elif self.config.guidance != 1:
            now = torch.stack([t, torch.zeros_like(t)], 1)
            none = net(x_t, now, given, torch.zeros_like(present)).float()
            v = torch.where(over(present), none + self.config.guidance * (v - none), v)
        if not len(rows):
            return v
        length = t[rows] - r[rows]
        x_s = x_t[rows] - over(step * length) * v[rows]
        some = {name: value[rows] for name, value in given.items()}
        times = torch.stack([t[rows] - step * length, (1 - step) * length], 1)
        rest = net(x_s, times, some, present[rows]).float()
        return v.index_copy(0, rows, step * v[rows] + (1 - step) * rest)

    # --- sampling ---------------------------------------------------------------------------------

    def latent(self, draw: Draw) -> Tensor:
        """The noise an image is developed from, (b, C, H, W)."""
        return draw.normal("latent", *self.shape)

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        """Images from noise in `how.steps` steps of equal length."""
        assert isinstance(how, MeanFlowSampling)
        x = latent
        for index in range(how.steps):
            t = 1 - index / how.steps
            x = self.moved(nets, x, t, t - 1 / how.steps, given, present)
        return x.clamp(-1, 1) if how.clip else x

    def moved(self, nets: Nets, x: Tensor, t: float, r: float, given: Values, present: Tensor) -> Tensor:
        """x_r of x_t, in one evaluation."""
        times = sent(torch.tensor([t, t - r]), x.device).expand(len(x), 2)
        out: Tensor = nets["denoiser"](x, times, given, present)
        return x - (t - r) * out.float()

    # --- what a report shows ----------------------------------------------------------------------

    def measure(self, nets: Nets, batch: Batch, draw: Draw) -> Values:
        """Held-out errors (b,): of the velocity in each band of t, and of one step against two."""
        ε, values = draw.normal("noise", *batch.x.shape[1:]), {}
        for band in range(BANDS):
            t = interior((band + draw.uniform(f"band {band}", host=True)) / BANDS).to(ε.device)
            x_t = batch.x + over(t) * (ε - batch.x)
            now = torch.stack([t, torch.zeros_like(t)], 1)
            out = nets["denoiser"](x_t, now, batch.given, batch.present).float()
            name = f"t {band / BANDS:.1f}-{(band + 1) / BANDS:.1f}"
            values[name] = (out - (ε - batch.x)).square().mean((1, 2, 3))
        whole = self.moved(nets, ε, 1.0, 0.0, batch.given, batch.present)
        half = self.moved(nets, ε, 1.0, 0.5, batch.given, batch.present)
        two = self.moved(nets, half, 0.5, 0.0, batch.given, batch.present)
        return {**values, "one step against two": (whole - two).square().mean((1, 2, 3))}

    def panels(self, nets: Nets, batch: Batch, draw: Draw) -> Mapping[str, Panel]:
        """The same noises in 1, 2, 4 and 8 evaluations: how much a longer way still changes."""
        steps = (1, 2, 4, 8)
        rows = slice(0, min(8, len(batch.x)))
        ε, present = draw.normal("noise", *batch.x.shape[1:])[rows], batch.present[rows]
        given = {name: value[rows] for name, value in batch.given.items()}
        images = [self.sample(nets, ε, given, present, draw, MeanFlowSampling(steps=n)) for n in steps]
        return {
            "evaluations": Panel(
                torch.stack(images),
                rows=tuple(f"{n} evaluation" + "s" * (n > 1) for n in steps),
                caption="The same noises, developed in one evaluation and in more.",
            )
        }


def begin_with(denoiser: nn.Module, teacher: nn.Module) -> None:
    """Copy a teacher's weights; the length of a step, which it does not know, has no effect at first.

    Raises UserError where the networks differ in more.
    """
    wider, weights = denoiser.state_dict(), teacher.state_dict()
    name = "embedding.time.0.weight"
    if name in weights and weights[name].shape[1] * 2 == wider[name].shape[1]:
        sines, cosines = weights[name].chunk(2, 1)
        zero = torch.zeros_like(sines)
        weights[name] = torch.cat([sines, zero, cosines, zero], 1)  # of t, of the length, in turn
    try:
        denoiser.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            "network.denoiser: differs from the teacher's in more than interval = true"
        ) from error


def over(values: Tensor) -> Tensor:
    """(b,) -> (b, 1, 1, 1), to multiply images with."""
    return values[:, None, None, None]
