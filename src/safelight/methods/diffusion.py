"""Diffusion: rectified flow and DDPM, conditional, with classifier-free guidance.

Everything follows from x_t = α x + σ ε and from what the network predicts, a x + s ε:

    process                    α           σ           v = a x + s ε
    flow (Liu 2022)            1 - t       t           a = -1, s = 1
    DDPM (Ho 2020)             √ᾱ_t        √(1 - ᾱ_t)  a = -σ, s = α   (v: Salimans and Ho 2022)

    prediction x0: a = 1, s = 0; epsilon: a = 0, s = 1. Solved for x:  x = (s x_t - σ out) / (α s - σ a).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from safelight import samplers
from safelight.config import Section
from safelight.methods import NetworkConfig
from safelight.randomness import interior, stratified
from safelight.samplers.processes import Level
from safelight.types import Batch, DataSpec, Draw, Moment, Nets, Panel, Phase, Values

TINY = 2.0**-24  # least α and σ that weights are computed from; α is 0 in pure noise, σ in an image
BANDS = 5  # noise bands of the held-out loss, of equal width in t
Denoiser = Callable[[Tensor, Tensor, Values, Tensor], Tensor]  # (x_t, t, given, present) -> prediction


class DiffusionConfig(Section):
    """[method] of a diffusion model."""

    name: Literal["diffusion"] = "diffusion"
    process: Literal["flow", "ddpm"] = "flow"
    """How images turn into noise: flow, x_t = (1 - t) x + t noise, or ddpm."""
    prediction: Literal["v", "epsilon", "x0"] = "v"
    """What the network predicts: v (in a flow noise - x), epsilon (the noise) or x0 (the image)."""
    times: Literal["logit-normal", "uniform"] = "logit-normal"
    """Distribution of the training times t of a flow."""
    uniform_share: float = Field(0.0, ge=0, le=1)  # 0 as in runs that are older than the key
    """Share of t drawn uniformly with logit-normal times, so that the ends are trained too."""
    logit_mean: float = 0.0
    """Mean of log(t / (1 - t)) with logit-normal times."""
    logit_std: float = Field(1.0, gt=0)
    """Standard deviation of log(t / (1 - t)) with logit-normal times."""
    shift: float = Field(1.0, gt=0)
    """Shift of t in training and sampling; above 1 towards noise, for large images. For flow."""
    condition_dropout: float = Field(0.1, ge=0, le=1)
    """Share of samples trained without conditions, which guidance needs."""
    min_snr: float = Field(0.0, ge=0)
    """Gamma of min-SNR weighting (Hang 2023); 0 = none."""
    timesteps: int = Field(1000, ge=2, le=10**6)
    """Number of noise levels of ddpm."""
    betas: Literal["linear", "cosine"] = "cosine"
    """Noise schedule of ddpm."""
    beta_range: tuple[float, float] = (1e-4, 0.02)
    """First and last beta of the linear schedule."""

    @model_validator(mode="after")
    def _checked(self) -> DiffusionConfig:
        if not 0 < self.beta_range[0] <= self.beta_range[1] < 1:
            raise ValueError(f"beta_range {list(self.beta_range)} must rise within (0, 1)")
        if self.process == "ddpm" and self.shift != 1:
            raise ValueError(f'shift = {self.shift:g} needs process = "flow"; set shift = 1')
        return self


class DiffusionSampling(Section):
    """[sample] of a diffusion model."""

    sampler: Literal["euler", "heun", "ddim", "ancestral", "dpmpp_2m", "unipc", "ipndm"] = "unipc"
    """Sampler that turns noise into images."""
    steps: int = Field(10, ge=1, le=10_000)
    """Sampling intervals, one evaluation each; heun takes two in each but the last."""
    guidance: float = Field(1.0, ge=0)
    """Strength of classifier-free guidance; 1 = none."""
    guidance_interval: tuple[float, float] | None = None
    """First and last t at which guidance is used (Kynkaanniemi et al. 2024). Default: all."""
    guidance_interval_sigma: tuple[float, float] | None = None
    """The same by the noise of x / alpha, sigma / alpha, as EDM counts it. Default: all."""
    guide_by: str | None = Field(None, min_length=1)
    """Weaker run to guide by, RUN, RUN@STEP or @STEP of the same run, in place of samples without conditions
    (autoguidance, Karras et al. 2024). Only for samples of a trained run."""
    eta: float = Field(0.0, ge=0, le=1)
    """Fresh noise of ddim; 1 = as much as the ancestral sampler."""
    variance: Literal["posterior", "beta"] = "posterior"
    """Noise variance of the ancestral sampler; beta is the larger one, as in Ho 2020."""
    t_max: float = Field(0.999, gt=0, lt=1)
    """First t of a flow, before shift."""
    clip: bool = True
    """Limit every estimate of the image to [-1, 1]."""

    @model_validator(mode="after")
    def _checked(self) -> DiffusionSampling:
        if self.guidance_interval and not 0 <= self.guidance_interval[0] <= self.guidance_interval[1] <= 1:
            raise ValueError(f"guidance_interval {list(self.guidance_interval)} must rise within 0 and 1")
        if (sigmas := self.guidance_interval_sigma) and not 0 <= sigmas[0] <= sigmas[1]:
            raise ValueError(f"guidance_interval_sigma {list(sigmas)} must rise from 0 or more")
        if self.guidance_interval and sigmas:
            raise ValueError("guidance_interval has t, guidance_interval_sigma has sigma; state one of them")
        if self.eta and self.sampler != "ddim":
            raise ValueError(
                f'eta = {self.eta} has no effect with {self.sampler!r}; set sampler = "ddim" or eta = 0'
            )
        return self


class Diffusion:
    """One network, one phase, one component: the mean squared error of the prediction."""

    Config: ClassVar[type[BaseModel]] = DiffusionConfig
    Sampling: ClassVar[type[BaseModel]] = DiffusionSampling
    roles: ClassVar[tuple[str, ...]] = ("denoiser",)
    ema: ClassVar[tuple[str, ...]] = ("denoiser",)
    frozen: ClassVar[tuple[str, ...]] = ()
    components: ClassVar[Mapping[str, float]] = {"mse": 1.0}

    def __init__(self, config: DiffusionConfig, networks: Mapping[str, NetworkConfig]) -> None:
        self.config = config
        self.network = networks["denoiser"]
        self.phases = (Phase("denoise", ("denoiser",), self.loss),)
        self.shape: tuple[int, ...] = ()
        self.process = _process(config)

    @property
    def title(self) -> str:
        """The family in a few words, as reports say it."""
        return (
            "rectified flow" if self.config.process == "flow" else f"DDPM of {self.config.timesteps:,} steps"
        )

    def networks(self, spec: DataSpec) -> dict[str, nn.Module]:
        """The denoiser: forward(x_t, t, given, present) -> prediction, of the shape of x_t."""
        self.shape = spec.shape
        return {"denoiser": self.network.build(spec)}

    # --- the loss ---------------------------------------------------------------------------------

    def loss(self, nets: Nets, batch: Batch, moment: Moment) -> tuple[Values, Values]:
        """mse = w |out - (a x + s ε)|² at a random t, a share of the conditions dropped."""
        u = stratified(moment.draw.uniform("time", host=True), batch.rows, batch.total)
        kept = moment.draw.uniform("condition") >= self.config.condition_dropout
        level = self.process.trained(u)
        return {"mse": self.error(nets, batch, batch.present & kept, level, moment.draw)}, {}

    def error(self, nets: Nets, batch: Batch, present: Tensor, level: Level, draw: Draw) -> Tensor:
        """Weighted squared error of the prediction, mean over C, H, W: (b,)."""
        ε, level = draw.normal("noise", *batch.x.shape[1:]), level.to(batch.x.device)
        x_t = level.alpha * batch.x + level.sigma * ε
        a, s = self.target(level)
        out = nets["denoiser"](x_t, level.t, batch.given, present)
        error: Tensor = (out.float() - (a * batch.x + s * ε)).square().mean((1, 2, 3))
        return error * self.weight(level) if self.config.min_snr else error

    def target(self, level: Level) -> tuple[Tensor | float, Tensor | float]:
        """(a, s) of the predicted combination a x + s ε."""
        match self.config.prediction, self.config.process:
            case "x0", _:
                return 1.0, 0.0
            case "epsilon", _:
                return 0.0, 1.0
            case _, "flow":
                return -1.0, 1.0
            case _:
                return -level.sigma, level.alpha

    def estimate(self, x_t: Tensor, out: Tensor, level: Level) -> Tensor:
        """The image x that a prediction stands for."""
        a, s = self.target(level)
        return (s * x_t - level.sigma * out) / (level.alpha * s - level.sigma * a)

    def weight(self, level: Level) -> Tensor:
        """min-SNR weight of the squared error: min(SNR, γ) on the error of x, carried over to the output."""
        a, s = self.target(level)
        alpha, sigma = level.alpha.clamp(min=TINY), level.sigma.clamp(min=TINY)
        least = torch.minimum(alpha.square(), self.config.min_snr * sigma.square())
        return (least / (alpha * s - sigma * a).square()).flatten()

    # --- sampling ---------------------------------------------------------------------------------

    def latent(self, draw: Draw) -> Tensor:
        """The noise an image is developed from, (b, C, H, W)."""
        return draw.normal("latent", *self.shape)

    def sample(
        self, nets: Nets, latent: Tensor, given: Values, present: Tensor, draw: Draw, how: BaseModel
    ) -> Tensor:
        """Images from noise. The samplers work on x_t / α, where every process is x + σ ε.

        nets: with a `Guide` as "guide" where samples are guided by one.
        """
        assert isinstance(how, DiffusionSampling)
        sigmas = self.process.sigmas(how.steps, how.t_max)
        net, guide = nets["denoiser"], nets["guide"] if how.guide_by else None

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            interval, noisiness = how.guidance_interval, self.process.at(sigma, 1).t
            if how.guidance_interval_sigma:
                interval, noisiness = how.guidance_interval_sigma, sigma
            low, high = interval or (-math.inf, math.inf)
            guidance = how.guidance if low <= float(noisiness) <= high else 1.0
            estimate = self.denoised(net, x, sigma, given, present, 1.0 if guide else guidance)
            if guide and guidance != 1:
                estimate = autoguided(estimate, guide(x, sigma, given, present), guidance)
            return estimate.clamp(-1, 1) if how.clip else estimate

        def noise(step: int) -> Tensor:
            return draw.normal(f"sampler {step}", *latent.shape[1:])

        start = latent * self.process.start(sigmas[0])
        return samplers.sample(how.sampler, denoise, start, sigmas, noise, how.eta, how.variance)

    def denoised(
        self, net: Denoiser, x: Tensor, sigma: Tensor, given: Values, present: Tensor, guidance: float = 1.0
    ) -> Tensor:
        """The estimate D(x; σ) of the image in x = x_t / α (b, C, H, W), σ () that of x."""
        level = self.process.at(sigma, len(x)).to(x.device)
        x_t = level.alpha * x
        return self.estimate(x_t, guided(net, x_t, level.t, given, present, guidance).float(), level)

    # --- what a report shows ----------------------------------------------------------------------

    def measure(self, nets: Nets, batch: Batch, draw: Draw) -> Values:
        """Held-out loss (b,) in each band of t: a signal of quality that needs no sampling."""
        losses = {}
        for band in range(BANDS):
            u = interior((band + draw.uniform(f"band {band}", host=True)) / BANDS)
            name = f"t {band / BANDS:.1f}-{(band + 1) / BANDS:.1f}"
            losses[name] = self.error(nets, batch, batch.present, self.process.even(u), draw)
        return losses

    def panels(self, nets: Nets, batch: Batch, draw: Draw) -> Mapping[str, Panel]:
        """Held-out images at rising noise, and what one evaluation makes of them."""
        times = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])
        count = min(4, len(batch.x))
        x, present = batch.x[:count], batch.present[:count]
        given = {name: value[:count] for name, value in batch.given.items()}
        ε = draw.normal("noise", *x.shape[1:])[:count]
        columns = []
        for t in times:
            level = self.process.at(self.process.sigma_at(t), count).to(x.device)
            x_t = level.alpha * x + level.sigma * ε
            out = nets["denoiser"](x_t, level.t, given, present).float()
            columns.append(torch.stack([x_t, self.estimate(x_t, out, level)], dim=1).flatten(0, 1))
        return {
            "one-step": Panel(
                torch.stack(columns, dim=1),
                rows=("noised", "estimate") * count,
                columns=tuple(f"t = {t:.1f}" for t in times.tolist()),
                caption="Held-out images at rising noise, and the one-step estimate of the image.",
            )
        }


def _process(config: DiffusionConfig) -> samplers.Flow | samplers.Ddpm:
    if config.process == "flow":
        share = 1.0 if config.times == "uniform" else config.uniform_share
        return samplers.Flow(share, config.logit_mean, config.logit_std, config.shift)
    if config.betas == "linear":
        return samplers.Ddpm(samplers.linear_betas(config.timesteps, *config.beta_range))
    return samplers.Ddpm(samplers.cosine_betas(config.timesteps))


class Guide(nn.Module):
    """A weaker denoiser with its method, which may have another process and predict something else."""

    def __init__(self, method: Diffusion, net: nn.Module) -> None:
        super().__init__()
        self.method, self.net = method, net

    def forward(self, x: Tensor, sigma: Tensor, given: Values, present: Tensor) -> Tensor:
        """Its estimate of the image, as `Diffusion.denoised`."""
        return self.method.denoised(self.net, x, sigma, given, present)


def autoguided(estimate: Tensor, weak: Tensor, guidance: float) -> Tensor:
    """Guidance by a weaker model (Karras et al. 2024, equation 5): w D1 + (1 - w) D0, both conditional."""
    return estimate + (guidance - 1) * (estimate - weak)


def guided(
    net: Denoiser,
    x_t: Tensor,
    t: Tensor,
    given: Values,
    present: Tensor,
    guidance: float,
) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022): out = none + guidance (conditional - none)."""
    if guidance == 1 or not present.any():
        return net(x_t, t, given, present)
    twice = {name: torch.cat([value, value]) for name, value in given.items()}
    once = torch.cat([present, torch.zeros_like(present)])
    conditional, none = net(torch.cat([x_t, x_t]), torch.cat([t, t]), twice, once).chunk(2)
    return none + guidance * (conditional - none)
