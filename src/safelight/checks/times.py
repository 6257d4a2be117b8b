"""Whether training ever draws the times at which the sampler asks.

A network answers where it was trained; at a time that training practically never draws it guesses, and what
it guesses at the first times all of the sample follows from. The sampler's times are those of the ideal
denoiser in a world of one image (bench/world.py), those of training are drawn as the loss draws them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import OneImageWorld, answered, repeated
from safelight.checks.bench.probes import NotTold
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
    "the sampler asks at noise levels that training practically never draws: what the network answers there "
    "is a guess, and at the first levels all of the sample follows from it",
    "train a share of the times evenly (method.uniform_share), move or widen their distribution, or let the "
    "sampler begin where it has any (sample.t_max)",
)


def check(subject: Subject) -> Iterator[Finding]:
    """The times of one sample among the times of many training images."""
    own = subject.world
    if not own.levels:
        return  # a denoiser of one level
    stand = own.denoiser()
    subject.sample({**subject.sampling_nets, own.asked.network: stand}, own.given, own.present)
    asked = [call.time[0] for call in stand.calls if call.time is not None]
    if not asked:
        return
    yield from gap(torch.stack(asked).cpu().double(), drawn(subject, own))


def drawn(subject: Subject, own: OneImageWorld) -> Tensor:
    """Times of training (n,) float64, sorted. Raises NotTold where there is no time to draw enough."""
    chunk = max(16, min(256, NUMBERS // own.image.numel()))
    batch = repeated(own.image, own.given, own.present, chunk)
    zero = torch.zeros(chunk, *own.asked.shape, device=subject.device)
    times: list[Tensor] = []
    with torch.no_grad():
        while len(times) * chunk < DRAWN and subject.clock.left > 0:
            _, call = answered(subject, own.asked, batch, zero, len(times))
            assert call.time is not None
            times.append(call.time.cpu().double())
    if len(times) * chunk * NEAR * LEAST < EXPECTED:
        raise NotTold(f"{len(times) * chunk} times of training were drawn, too few to miss any")
    return torch.cat(times).sort().values


def gap(asked: Tensor, drawn: Tensor) -> Iterator[Finding]:
    """The one of the sampler's times (n,) that has too few of training (m,), sorted, about it: the rarest."""
    low, high = min(asked.min(), drawn[0]), max(asked.max(), drawn[-1])
    width = NEAR * (high - low)
    begin = torch.minimum((asked - width / 2).clamp(min=low), high - width)  # within the range
    near = torch.searchsorted(drawn, begin + width, right=True) - torch.searchsorted(drawn, begin)
    rarest = int(near.argmin())
    if near[rarest] < LEAST * NEAR * len(drawn):
        start = float(begin[rarest])
        yield UNTRAINED.found(
            f"samples ask at t = {float(asked[rarest]):.4g}; of {len(drawn):,} times of training "
            f"{int(near[rarest])} lie between {start:.4g} and {start + float(width):.4g}",
            f"at least {LEAST * NEAR * len(drawn):.0f}, a twentieth of an even share",
        )
