"""Whether training draws the times that the sampler uses.

At a time that training practically never draws a network guesses, and the rest of the sample follows from its
guesses at the first times. The sampler's times are those of the ideal denoiser in a world of one image
(bench/oracle.py), those of training are drawn as the loss draws them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import OneImageWorld, losses_of_answer, repeated, world
from safelight.checks.bench.probes import NotApplicable
from safelight.checks.bench.subject import Subject

SECONDS = 5.0
FAST = True
NEAR = 0.02  # of the range of times, about a time
LEAST = 0.05  # of an even share of the times of training
DRAWN = 8192  # times of training
EXPECTED = 5  # times of training near a time, at LEAST; with fewer expected, none says nothing
NUMBERS = 2**22  # of a batch at once

UNTRAINED = Code(
    "times-untrained",
    "warning",
    "Near a time of the sampler (within a fiftieth of the range) lie less than a twentieth of an even share"
    " of 8,192 times of training. Of a logit-normal t, 1 in 20,000 exceeds 0.98, where a rectified flow "
    "sampler begins.",
    "the sampler uses noise levels that training practically never draws: the network guesses there, and the "
    "rest of the sample follows from its first guesses",
    "draw a share of the times evenly (method.uniform_share), widen their distribution, or let the sampler "
    "begin later (sample.t_max)",
)


def check(subject: Subject) -> Iterator[Finding]:
    """The times of one sample among the times of many training images."""
    known = world(subject)
    if not known.has_levels:
        return
    denoiser = known.denoiser()
    subject.sample({**subject.sampling_nets, known.network.name: denoiser}, known.given, known.present)
    used = [call.time[0] for call in denoiser.calls if call.time is not None]
    if used:
        yield from gap(torch.stack(used).cpu().double(), drawn(subject, known))


def drawn(subject: Subject, known: OneImageWorld) -> Tensor:
    """Times of training (n,) float64, sorted. Raises NotApplicable where there is no time to draw enough."""
    chunk = max(16, min(256, NUMBERS // known.image.numel()))
    batch = repeated(known.image, known.given, known.present, chunk)
    zero = torch.zeros(chunk, *known.network.shape, device=subject.device)
    times: list[Tensor] = []
    with torch.no_grad():
        while len(times) * chunk < DRAWN and subject.clock.left > 0:
            _, call = losses_of_answer(subject, known.network, batch, zero, len(times))
            assert call.time is not None
            times.append(call.time.cpu().double())
    if len(times) * chunk * NEAR * LEAST < EXPECTED:
        raise NotApplicable(f"{len(times) * chunk} times of training were drawn, too few to judge")
    return torch.cat(times).sort().values


def gap(used: Tensor, drawn: Tensor) -> Iterator[Finding]:
    """The sampler's time, of (n,), with the fewest of training (m,), sorted, near it, where too few."""
    low, high = min(used.min(), drawn[0]), max(used.max(), drawn[-1])
    width = NEAR * (high - low)
    begin = torch.minimum((used - width / 2).clamp(min=low), high - width)  # within the range
    near = torch.searchsorted(drawn, begin + width, right=True) - torch.searchsorted(drawn, begin)
    rarest = int(near.argmin())
    if near[rarest] < LEAST * NEAR * len(drawn):
        start = float(begin[rarest])
        yield UNTRAINED.finding(
            f"samples use t = {float(used[rarest]):.4g}; of {len(drawn):,} times of training "
            f"{int(near[rarest])} lie between {start:.4g} and {start + float(width):.4g}",
            f"at least {LEAST * NEAR * len(drawn):.0f}, a twentieth of an even share",
        )
