"""What the engine is asked to do: the sections it reads from a recipe, and the values in force at a step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from safelight.config import Section

LARGE = 0.05  # learning rate of Adam: no recipe has one near it


class Ramp(Section):
    """A value that goes from `begin` to `end`, such as the weight of a loss component."""

    begin: float = 0.0
    """Value before the ramp."""
    end: float = 1.0
    """Value after the ramp."""
    after: int = Field(0, ge=0)
    """Step at which the ramp starts."""
    over: int = Field(1000, ge=1)
    """Length of the ramp in steps."""
    shape: Literal["linear", "cosine"] = "linear"
    """Course between the two values."""

    def at(self, step: int) -> float:
        """The value in force at a step."""
        progress = min(max((step - self.after) / self.over, 0.0), 1.0)
        if self.shape == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.begin + (self.end - self.begin) * progress


Weight = float | Ramp


def weight_at(weight: Weight, step: int) -> float:
    """A weight, constant or ramped, at a step."""
    return weight.at(step) if isinstance(weight, Ramp) else weight


class Rate(NamedTuple):
    """What an optimiser uses at a step."""

    lr: float
    betas: tuple[float, float]


class Optim(Section):
    """[optim]: how networks are optimised. Every key but `kind` can be changed while a run trains."""

    kind: Literal["adamw", "adam", "muon", "adafactor", "schedule-free", "soap", "adamw-8bit"] = "adamw"
    """Optimiser; muon = Muon on matrices and flattened convolutions at AdamW's size of updates, AdamW on the
    rest; adafactor takes lr relative to the size of a parameter; schedule-free = AdamW whose average replaces
    that of train.ema; soap = Adam in Shampoo's eigenbasis; adamw-8bit = moments in 8 bits, on CUDA. The last
    three need the extra optimisers."""
    lr: float = Field(1e-3, ge=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of Adam's averages of the gradient and of its square."""
    eps: float = Field(1e-8, gt=0)
    """Term added to Adam's denominator."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay."""
    clip: float = Field(0.0, ge=0)
    """Largest gradient norm; larger gradients are scaled down. 0 = no clipping."""
    warmup: int = Field(0, ge=0)
    """Steps of linear warm-up; one-cycle has its own."""
    schedule: Literal["constant", "linear", "cosine", "wsd", "exponential", "step", "one-cycle"] = "constant"
    """Course of the learning rate after the warm-up; wsd = warm-up, stable, decay."""
    start: int = Field(0, ge=0)
    """Step at which the warm-up and the schedule begin; set by `resume --schedule restart`."""
    unit: Literal["step", "epoch"] = "step"
    """Change the learning rate every step or every epoch; hold and interval count these."""
    hold: int = Field(0, ge=0)
    """Steps or epochs before the decay begins."""
    final: float = Field(0.0, ge=0)
    """Learning rate at the last step as a fraction of lr; for linear, cosine, wsd and exponential."""
    decay: float = Field(0.2, gt=0, le=1)
    """Share of the steps over which the learning rate falls; for wsd."""
    interval: int = Field(1, ge=1)
    """Steps or epochs between two drops; for step."""
    factor: float = Field(0.99, gt=0)
    """Factor of each drop; for step."""

    cycle_beta1: tuple[float, float] | None = None
    """Lowest and highest beta1 of one-cycle; the lowest at the peak of lr. Default: constant, as in
    betas."""

    @model_validator(mode="after")
    def _checked(self) -> Optim:
        if self.schedule == "exponential" and self.final == 0:
            raise ValueError('schedule = "exponential" needs final above 0, for example final = 0.1')
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {list(self.betas)} must lie in [0, 1)")
        if self.kind == "schedule-free" and (self.schedule != "constant" or not self.betas[0]):
            raise ValueError(
                'kind = "schedule-free" needs schedule = "constant" and betas[0] above 0, such as 0.9'
            )
        if self.cycle_beta1:
            if self.schedule != "one-cycle":
                raise ValueError('cycle_beta1 needs schedule = "one-cycle"; remove the key')
            if not 0 <= self.cycle_beta1[0] <= self.cycle_beta1[1] < 1:
                raise ValueError(f"cycle_beta1 {list(self.cycle_beta1)} must rise within [0, 1)")
        return self

    def betas_at(self, step: int, steps: int) -> tuple[float, float]:
        """Adam's betas in force at a step; with cycle_beta1 the first goes against the learning rate."""
        if self.cycle_beta1 is None:
            return self.betas
        low, high = self.cycle_beta1
        progress = (max(step - self.start, 0) + 1) / max(steps - self.start, 1)
        return _one_cycle(progress, high, low, high), self.betas[1]

    def lr_at(self, step: int, steps: float, epoch: Fraction = Fraction(1)) -> float:
        """Learning rate in force at a step of a run of `steps` steps. epoch: steps of one.

        wsd falls as 1 - sqrt(p) over its last steps (Hägele 2024).
        """
        step, steps = max(step - self.start, 0), max(steps - self.start, 1)
        if self.schedule == "one-cycle":
            return self.lr * _one_cycle((step + 1) / steps)
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        epoch = epoch if self.unit == "epoch" else Fraction(1)
        begin = max(float(self.warmup / epoch), self.hold)
        step, steps = step // epoch, float(steps / epoch)
        progress = min(max((step - begin) / max(steps - begin, 1), 0.0), 1.0)
        match self.schedule:
            case "linear":
                return self.lr * (1 - (1 - self.final) * progress)
            case "cosine":
                return self.lr * (self.final + (1 - self.final) * (1 + math.cos(math.pi * progress)) / 2)
            case "wsd":
                fall = max(begin, steps * (1 - self.decay))
                progress = min(max((step - fall) / max(steps - fall, 1), 0.0), 1.0)
                return self.lr * (self.final + (1 - self.final) * (1 - math.sqrt(progress)))
            case "exponential":
                return float(self.lr * self.final**progress)
            case "step":
                return float(self.lr * self.factor ** (max(step - begin, 0) // self.interval))
            case _:
                return self.lr


def too_large(optims: Mapping[str, Optim]) -> list[str]:
    """A line for each learning rate far above what Adam takes; a slip, such as 2 for 2e-3."""
    rates = {optim.lr for optim in optims.values() if optim.lr > LARGE}
    return [
        f"optim.lr: {lr:g} is far above what Adam takes, 1e-5 to 1e-2; is {lr / 1000:g} meant?"
        for lr in sorted(rates)
    ]


def _one_cycle(
    progress: float, start: float = 1 / 25, peak: float = 1.0, end: float = 1e-4 / 25, rise: float = 0.3
) -> float:
    """From `start` to `peak` in 30 % of the run (Smith and Topin 2018), then to `end`, along cosines."""

    def between(a: float, b: float, p: float) -> float:
        return b + (a - b) * (1 + math.cos(math.pi * min(p, 1.0))) / 2

    if progress < rise:
        return between(start, peak, progress / rise)
    return between(peak, end, (progress - rise) / (1 - rise))


class Train(Section):
    """[train]: length, batch size, seed, arithmetic and averaged weights."""

    steps: int | None = Field(None, ge=1, le=10**12)
    """Optimiser steps. State either steps or epochs."""
    epochs: float | None = Field(None, gt=0, le=10**9)
    """Passes over the training images. State either steps or epochs."""
    batch_size: int = Field(128, ge=1)
    """Images a step, over all processes and parts."""
    accumulate: int = Field(1, ge=1, le=2**20)
    """Parts into which each process cuts its share of a batch, to save memory."""
    seed: int = Field(0, ge=0)
    """Random seed of the training."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic; auto takes what a short measurement finds faster. fp16 scales losses; for GPUs without
    bf16."""
    tf32: bool = False
    """Let CUDA round the inputs of fp32 products to 10 bits: faster, and rough for gradient penalties."""
    deterministic: bool = True
    """Let CUDA use only algorithms that repeat their bits, where there are any. With false replay is not
    exact."""
    compile: bool | Literal["auto", "inductor", "aot_eager"] = "auto"
    """Compile the networks with torch.compile; true = inductor. auto: on CUDA, where a measurement finds
    that it pays within the run; elsewhere not."""
    recompute: bool = False
    """Compute blocks of U-Nets, transformers and GANs again in backward passes in place of keeping their
    activations: less memory, more time, the same gradients."""
    shard: bool = False
    """Cut parameters, averages and moments over the processes (FSDP2), for networks larger than a GPU."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Memory layout of images; auto takes what a short measurement finds faster."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1 or mps."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the averaged weights that samples use; 0 = no averaging."""
    ema_lengths: tuple[float, ...] = (0.05, 0.10)
    """Relative lengths of the power-function averages to keep; other lengths are made from them. [] =
    none."""

    freeze: tuple[str, ...] | None = None
    """Patterns of parameters that are not trained, such as ["denoiser.down.*"]. Default: none."""
    lora: int | None = Field(None, ge=1, le=1024)
    """Rank of low-rank adapters on linear layers and 1x1 convolutions; only they are trained. Default:
    none."""
    lora_alpha: float | None = Field(None, gt=0)
    """Adapters are scaled by alpha / rank. Default: the rank."""
    lora_layers: tuple[str, ...] | None = None
    """Patterns of the layers that get adapters. Default: all."""
    lora_train: tuple[str, ...] | None = None
    """Patterns of parameters that are trained beside the adapters. Default: none."""

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("state either steps or epochs, for example steps = 2000")
        if any(not 0 < length < 0.28 for length in self.ema_lengths):
            raise ValueError(f"ema_lengths {list(self.ema_lengths)} must lie between 0 and 0.28")
        return self

    def steps_for(self, images: int) -> int:
        """Planned steps on a training set of `images` images."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * images / self.batch_size))


@dataclass(frozen=True)
class Plan:
    """A resolved recipe as the engine sees it; an intervention makes a new one."""

    steps: int
    train: Train
    optim: Mapping[str, Optim]  # by network
    weights: Mapping[str, Weight]  # by loss component
    epoch: Fraction = Fraction(1)  # steps of one

    def weights_at(self, step: int) -> dict[str, float]:
        """The weight of every loss component at a step."""
        return {name: weight_at(weight, step) for name, weight in self.weights.items()}
