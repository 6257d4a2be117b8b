"""A world of one image x, in which everything about a denoiser is known exactly.

Every input is then x_t = α x + σ ε, and the target (see oracle.py) is y = a x_t + b x + c with numbers that
depend on the noise level alone: for flow a = 1/t and b = -1/t, for ε a = 1/σ and b = -α/σ. They are read
off row by row, without any network, and make the ideal denoiser of this world. Samples made with it must be
x itself: noise that is left, or another scale, is a fault of the sampler, of no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.checks.bench.clock import NotTold
from safelight.checks.bench.oracle import Asked, answered, asked, targets
from safelight.checks.bench.subject import Subject
from safelight.checks.bench.watching import Call, Stand
from safelight.types import Batch, Values

NUMBERS = 2**22  # of a batch at once
ROWS = 2048  # noise levels that are looked at, at most
ONE_LEVEL = 1.5  # σ is measured on the numbers of one image, so it scatters
AFFINE = 0.02  # residue of the fit, as a share of the target, above which it is no denoiser of this kind


@dataclass(frozen=True)
class World:
    """What is known of a method in a world of one image. Rows are sorted by their time."""

    asked: Asked
    image: Tensor  # (C, H, W) in model space
    given: Values  # conditions of the image, one row
    present: Tensor  # (1,)
    time: Tensor  # (n,) what the network is told
    alpha: Tensor  # (n,) float64
    sigma: Tensor  # (n,) float64
    answers: Tensor  # (n, 3) float64: a, b, c

    @property
    def levels(self) -> bool:
        """Whether there is more than one noise level."""
        return float(self.sigma.max()) > ONE_LEVEL * float(self.sigma.min())

    def denoiser(self) -> Stand:
        """The ideal denoiser of this world."""
        return Stand(self.asked.network, self._answer)

    def _answer(self, call: Call) -> Tensor:
        x_t = call.image
        assert x_t is not None
        at = call.time if call.time is not None else x_t.new_zeros(len(x_t))
        a, b, c = between(at.cpu().double(), self.time, self.answers).to(x_t).unbind(1)
        x = self.image.to(x_t)
        wide = (slice(None), *[None] * x.ndim)
        return a[wide] * x_t + b[wide] * x + c[wide]


def world(subject: Subject) -> World:
    """The world of the image with the most contrast among a few. Raises NotTold."""
    one = next((own for own in asked(subject) if _denoises(subject, own)), None)
    if one is None:
        raise NotTold("no network answers with an image from a noisy one")
    some = subject.real(16)
    best = int(some.x.flatten(1).std(1).argmax())
    image = some.x[best]
    rows = max(16, min(ROWS, NUMBERS // image.numel()))
    given = {name: value[best : best + 1] for name, value in some.given.items()}
    present = some.present[best : best + 1]
    times, levels, answers = [], [], []
    chunk = max(16, min(256, rows))
    for step in range(-(-rows // chunk)):
        batch = repeated(image, given, present, chunk)
        found = targets(subject, one, batch, step)
        dark = repeated(torch.zeros_like(image), given, present, chunk)
        with torch.no_grad():
            _, other = answered(subject, one, dark, torch.zeros_like(found.targets), step)
        time, x_t, noise = found.call.time, found.call.image, other.image
        assert x_t is not None
        assert noise is not None
        times.append(time.cpu().double() if time is not None else torch.zeros(chunk).double())
        levels.append(_levels(x_t, noise, image))
        answers.append(_fit(found.targets, noise, levels[-1][:, 0], image))
        subject.clock.afford(0, "noise levels")
    if len(times) > 1 and all(_levels_in(own) == 1 for own in times) and _levels_in(torch.cat(times)) > 1:
        raise NotTold("all rows of a batch have one noise level")
    time, level, answer = (torch.cat(own) for own in (times, levels, answers))
    order = time.argsort()
    known = torch.isfinite(answer[order]).all(1)
    order = order[known]
    if not len(order):
        raise NotTold("what the network is asked for is no mixture of image and noise")
    return World(one, image, given, present, time[order], level[order, 0], level[order, 1], answer[order])


def repeated(image: Tensor, given: Values, present: Tensor, count: int) -> Batch:
    """A batch of one image."""
    return Batch(
        image.expand(count, *image.shape).contiguous(),
        {name: value.expand(count, *value.shape[1:]) for name, value in given.items()},
        present.expand(count),
        range(count),
        count,
    )


def between(at: Tensor, time: Tensor, values: Tensor) -> Tensor:
    """Rows of a table (n, k) at some times, linear between the table's own."""
    last = len(time) - 1
    after = torch.searchsorted(time, at).clamp(min(1, last), last)
    before = (after - 1).clamp(min=0)
    width = time[after] - time[before]
    share = torch.where(width > 0, (at - time[before]) / width.clamp(min=1e-12), torch.zeros_like(at))
    share = share.clamp(0, 1)[:, None]
    return values[before] + share * (values[after] - values[before])


def _denoises(subject: Subject, one: Asked) -> bool:
    """Whether a network gets an image of the shape of its answer, and it is not the image itself."""
    batch = subject.batch(min(2, subject.rows))
    zero = torch.zeros(len(batch.rows), *one.shape, device=subject.device)
    with torch.no_grad():
        _, call = answered(subject, one, batch, zero)
    image = call.image
    return image is not None and image.shape == batch.x.shape and not torch.equal(image, batch.x)


def _levels_in(time: Tensor) -> int:
    return len(torch.unique(time))


def _levels(x_t: Tensor, noise: Tensor, image: Tensor) -> Tensor:
    """(n, 2): α, by which the image enters x_t, and σ, the spread of the rest."""
    x, x_t, noise = (own.cpu().double() for own in (image, x_t, noise))  # not every device has float64
    x, rest = x.flatten(), noise.flatten(1)
    return torch.stack([(x_t.flatten(1) - rest) @ x / (x @ x), rest.std(1)], 1)


def _fit(target: Tensor, noise: Tensor, alpha: Tensor, image: Tensor) -> Tensor:
    """(n, 3): a, b, c of target = a x_t + b x + c by least squares; not-a-number where it is not so.

    Solved in the noise σ ε of x_t = α x + σ ε, which at low noise is lost in the rounding of x_t.
    """
    y, noise = (own.flatten(1).cpu().double() for own in (target, noise))
    x = image.flatten().cpu().double().expand_as(noise)
    size = noise.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)
    columns = torch.stack([noise / size, x, torch.ones_like(x)], 2)  # (n, numbers, 3)
    moments = columns.transpose(1, 2) @ columns
    solved = torch.linalg.pinv(moments, hermitian=True) @ (columns.transpose(1, 2) @ y[..., None])
    left = (columns @ solved)[..., 0] - y
    poor = left.square().mean(1).sqrt() > AFFINE * y.square().mean(1).sqrt() + 1e-9
    a, b, c = solved[..., 0].unbind(1)
    a = a / size[:, 0]
    answers = torch.stack([a, b - a * alpha, c], 1)
    return torch.where(poor[:, None], torch.nan, answers)
