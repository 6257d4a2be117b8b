"""Whether the sampler ends at images, in the space they were trained in.

In a world of one image the ideal denoiser is known (bench/oracle.py). Sampling with it must return that
image: a slope or an offset is a transformation that is not inverted, the rest is noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import OneImageWorld, between, repeated, world
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
    "For a single image x the ideal denoiser is known exactly, without a network. Its samples must be x; "
    "they have another slope or offset.",
    "training maps images to another space and sampling does not map them back: every sample has wrong "
    "contrast or brightness",
    "undo in sample what the loss does to x, or do neither; [data] maps pixels to x",
)
NOISE_LEFT = Code(
    "sampler-unfinished",
    "error",
    "samples of the ideal denoiser of a single image keep noise of more than half a grey level",
    "the sampler ends before noise level 0, and the rest of the noise stays in every sample",
    "let the last interval end in x, not at t = 1",
)
OTHER_TIMES = Code(
    "sampling-times",
    "error",
    "the noise levels in sampling lie outside the range of those in training",
    "sampling uses noise levels the network never saw in training",
    "use one convention of t in loss and sample",
)
OTHER_START = Code(
    "sampling-start",
    "warning",
    "the sampler's first input has another standard deviation, by a tenth, than x_t in training at that "
    "noise level",
    "sampling starts from inputs of another spread than in training at that noise level",
    "scale the latent to the spread of x_t at the first noise level",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Samples of the ideal denoiser in a world of one image."""
    known = world(subject)
    denoiser = known.denoiser()
    nets = {**subject.sampling_nets, known.network.name: denoiser}
    batch = repeated(known.image, known.given, known.present, 4)
    samples = subject.sample(nets, batch.given, batch.present)
    calls = [call for call in denoiser.calls if call.image is not None]
    if not calls:
        return
    first, last = calls[0].time, calls[-1].time
    yield from _times(known, [call.time for call in calls if call.time is not None])
    if first is not None and known.has_levels:
        yield from _start(known, calls[0].image, first)
    slope, offset, noise = against(samples, known.image)
    spread = float(known.image.std())
    if noise > HALF_A_LEVEL * max(1.0, spread):
        ended = f", its last input at t = {float(last[0]):.4g}" if last is not None else ""
        yield NOISE_LEFT.finding(
            f"noise of standard deviation {noise:.4f} ({noise * 127.5:.1f} grey levels) in the samples"
            f" of an ideal denoiser{ended}",
            f"below {HALF_A_LEVEL:.4f}",
        )
    elif abs(slope - 1) > SAME_SCALE or abs(offset) > SAME_SCALE * max(spread, 0.1):
        yield NOT_INVERTED.finding(
            f"a sample of the image x is {slope:.3f} x {offset:+.3f}", "1.000 x +0.000"
        )


def against(samples: Tensor, image: Tensor) -> tuple[float, float, float]:
    """(slope, offset, spread of the rest) of samples against the image they should be."""
    y = samples.cpu().double().flatten()
    x = image.cpu().double().expand_as(samples).flatten()
    slope = float(((x - x.mean()) * (y - y.mean())).mean() / x.var(unbiased=False))
    offset = float(y.mean() - slope * x.mean())
    return slope, offset, float((y - slope * x - offset).square().mean().sqrt())


def _times(known: OneImageWorld, parts: list[Tensor]) -> Iterator[Finding]:
    if not parts:
        return
    times = torch.cat(parts).cpu().double()
    low, high = float(known.time[0]), float(known.time[-1])
    room = NEAR_TIMES * max(high - low, 1e-6) + 1e-6
    if float(times.min()) < low - room or float(times.max()) > high + room:
        yield OTHER_TIMES.finding(
            f"samples use t from {float(times.min()):.4g} to {float(times.max()):.4g}",
            f"the times of training, {low:.4g} to {high:.4g}",
        )


def _start(known: OneImageWorld, image: Tensor | None, time: Tensor) -> Iterator[Finding]:
    assert image is not None
    level = between(time[:1].cpu().double(), known.time, torch.stack([known.alpha, known.sigma], 1))[0]
    expected = float((level[0] ** 2 * known.image.cpu().double().var() + level[1] ** 2).sqrt())
    measured = float(image.cpu().double().std())
    if expected and abs(measured / expected - 1) > START:
        yield OTHER_START.finding(
            f"the first input of the sampler has standard deviation {measured:.3f}",
            f"{expected:.3f}, as x_t in training at t = {float(time[0]):.3g}",
        )
