"""Whether the sampler ends at images, in the space they were trained in.

In a world of one image the ideal denoiser is known (bench/world.py). Sampling with it must return that image:
a slope or an offset against it is a chain of transformations that is not inverted, what is left is noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import OneImageWorld, between, repeated
from safelight.checks.bench.subject import Subject

SECONDS = 10.0
FAST = True
HALF_A_LEVEL = 1 / 255  # of 256 grey levels over [-1, 1]
SAME_SCALE = 0.02
NEAR_TIMES = 0.1  # of the range of times; the rarest are not among those looked at
START = 0.1  # relative difference of the spread of the first input

NOT_INVERTED = Code(
    "space-not-inverted",
    "error",
    "training maps images to another space and sampling does not map them back: every sample has wrong "
    "contrast or brightness, however long it trains",
    "undo in sample what the loss does to x, or do neither; [data] owns the way between pixels and x",
)
NOISE_LEFT = Code(
    "sampler-unfinished",
    "error",
    "the sampler ends before noise level 0: the noise of its last step stays in every sample",
    "let the last interval end in x itself, not at t = 1",
)
OTHER_TIMES = Code(
    "sampling-times",
    "error",
    "the sampler tells the network noise levels it never saw in training",
    "use one convention of t in loss and sample, both from 0 to 1",
)
OTHER_START = Code(
    "sampling-start",
    "warning",
    "sampling starts from inputs of another spread than training showed at that noise level",
    "scale the latent to the spread of x_t at the first noise level",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Samples of the ideal denoiser in a world of one image."""
    own = subject.world
    stand = own.denoiser()
    nets = {**subject.sampling_nets, own.asked.network: stand}
    count = 4
    batch = repeated(own.image, own.given, own.present, count)
    samples = subject.sample(nets, batch.given, batch.present)
    calls = [call for call in stand.calls if call.image is not None]
    if not calls:
        return
    first, last = (call.time for call in (calls[0], calls[-1]))
    yield from _times(own, [call.time for call in calls if call.time is not None])
    if first is not None and own.levels:
        yield from _start(own, calls[0].image, first)
    slope, offset, noise = against(samples, own.image)
    spread = float(own.image.std())
    if noise > HALF_A_LEVEL * max(1.0, spread):
        ended = f", the network asked last at t = {float(last[0]):.4g}" if last is not None else ""
        yield NOISE_LEFT.found(
            f"noise of standard deviation {noise:.4f} ({noise * 127.5:.1f} grey levels) in the samples"
            f" of an ideal denoiser{ended}",
            f"below {HALF_A_LEVEL:.4f}",
        )
    elif abs(slope - 1) > SAME_SCALE or abs(offset) > SAME_SCALE * max(spread, 0.1):
        yield NOT_INVERTED.found(f"a sample of the image x is {slope:.3f} x {offset:+.3f}", "1.000 x +0.000")


def against(samples: Tensor, image: Tensor) -> tuple[float, float, float]:
    """(slope, offset, spread of the rest) of samples against the image they should be."""
    y = samples.cpu().double().flatten()
    x = image.cpu().double().expand_as(samples).flatten()
    slope = float(((x - x.mean()) * (y - y.mean())).mean() / x.var(unbiased=False))
    offset = float(y.mean() - slope * x.mean())
    return slope, offset, float((y - slope * x - offset).square().mean().sqrt())


def _times(own: OneImageWorld, told: list[Tensor]) -> Iterator[Finding]:
    if not told:
        return
    asked = torch.cat(told).cpu().double()
    low, high = float(own.time[0]), float(own.time[-1])
    room = NEAR_TIMES * max(high - low, 1e-6) + 1e-6
    if float(asked.min()) < low - room or float(asked.max()) > high + room:
        yield OTHER_TIMES.found(
            f"samples ask at t from {float(asked.min()):.4g} to {float(asked.max()):.4g}",
            f"the times of training, {low:.4g} to {high:.4g}",
        )


def _start(own: OneImageWorld, image: Tensor | None, time: Tensor) -> Iterator[Finding]:
    assert image is not None
    level = between(time[:1].cpu().double(), own.time, torch.stack([own.alpha, own.sigma], 1))[0]
    expected = float((level[0] ** 2 * own.image.cpu().double().var() + level[1] ** 2).sqrt())
    found = float(image.cpu().double().std())
    if expected and abs(found / expected - 1) > START:
        yield OTHER_START.found(
            f"the first input of the sampler has standard deviation {found:.3f}",
            f"{expected:.3f}, as x_t in training at t = {float(time[0]):.3g}",
        )
