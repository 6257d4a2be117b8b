"""What a network is trained to answer, found from outside: the answer at which the loss is least.

A network is replaced by a free tensor y. Where the loss is a weighted square of y, its gradient
g(y) = c (y - y*) is a straight line in every element; two gradients give the curvature c and the target y*, a
third proves the line. So nothing has to be known of the method: not its target, its noise, or its weighting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from safelight.checks.bench.probes import Call, NotTold, Stand, watching
from safelight.checks.bench.subject import Subject
from safelight.types import Batch, Phase, Values

STRAIGHT = 1e-3  # how far the third gradient may be from 0, as a share of the first


@dataclass(frozen=True)
class DenoiserCall:
    """A network that a phase asks once, with its answer's shape for one row."""

    phase: Phase
    network: str
    shape: tuple[int, ...]  # of the answer, without the rows

    def stand(self, answer: Tensor) -> Stand:
        """Stands in for the network, and answers with some rows."""
        return Stand(self.network, lambda call: answer)


@dataclass(frozen=True)
class Targets:
    """Targets of the rows of a batch."""

    call: Call  # the inputs
    targets: Tensor  # (b, ...)
    curvature: Tensor  # (b, ...) of the weighted loss of a row, 2 w / N for w times a mean of N squares
    components: tuple[str, ...]  # that depend on the answer


def asked(subject: Subject) -> Iterator[DenoiserCall]:
    """The trained networks that answer with something of an image's shape, once in a phase."""
    batch = subject.batch(min(2, subject.rows))
    for phase, trains in subject.phases():
        with watching(subject.nets, answers=True) as calls:
            subject.losses(subject.nets, phase, batch)
        for name in trains:
            own = [call for call in calls if call.network == name]
            if len(own) == 1 and isinstance(own[0].answer, Tensor):
                shape = tuple(own[0].answer.shape[1:])
                if shape == subject.spec.shape:
                    yield DenoiserCall(phase, name, shape)


def answered(
    subject: Subject, one: DenoiserCall, batch: Batch, answer: Tensor, step: int = 0
) -> tuple[Values, Call]:
    """Components of a phase when the network answers so, and what it was asked."""
    stand = one.stand(answer)
    nets = {**subject.nets, one.network: stand}
    components = subject.losses(nets, one.phase, batch, step)
    return components, stand.calls[0]


def targets(subject: Subject, one: DenoiserCall, batch: Batch, step: int = 0) -> Targets:
    """What the answers of a batch should have been. Raises NotTold where the loss is no square."""
    names: list[str] = []

    def gradient(answer: Tensor) -> tuple[Tensor, Call]:
        answer = answer.detach().requires_grad_()
        components, call = answered(subject, one, batch, answer, step)
        total, names[:] = torch.zeros_like(answer), []
        for name, values in components.items():
            weight = subject.weights.get(name, 1.0)
            if not (values.requires_grad and weight):
                continue
            own = weight * values.float().sum()
            (found,) = torch.autograd.grad(own, answer, retain_graph=True, allow_unused=True)
            if found is not None:
                total = total + found
                names.append(name)
        if not names:
            raise NotTold(f"the loss does not depend on what {one.network} answers")
        return total, call

    zero = torch.zeros(len(batch.rows), *one.shape, device=subject.device)
    at_zero, call = gradient(zero)
    curvature = gradient(zero + 1)[0] - at_zero
    if not bool((curvature > 0).all()):
        raise NotTold(f"the loss is no square of what {one.network} answers")
    found = -at_zero / curvature
    left = gradient(found)[0].abs().max()
    if not bool(left <= STRAIGHT * at_zero.abs().max()):
        raise NotTold(f"the loss is no square of what {one.network} answers")
    return Targets(call, found, curvature, tuple(names))


def mean_loss(
    subject: Subject, one: DenoiserCall, batch: Batch, answer: Tensor, names: tuple[str, ...]
) -> float:
    """The mean weighted loss of the components that depend on the answer, for a given answer."""
    with torch.no_grad():
        components, _ = answered(subject, one, batch, answer)
    return float(sum(subject.weights.get(name, 1.0) * components[name].float().mean() for name in names))


# --- A world of one image x, in which everything about a denoiser is known exactly ---
# Every input is then x_t = α x + σ ε, and the target (see oracle.py) is y = a x_t + b x + c with numbers that
# depend on the noise level alone: for flow a = 1/t and b = -1/t, for ε a = 1/σ and b = -α/σ. They are read
# off row by row, without any network, and make the ideal denoiser of this world. Samples made with it must be
# x itself: noise that is left, or another scale, is a fault of the sampler, of no network.

NUMBERS = 2**22  # of a batch at once


ROWS = 2048  # noise levels that are looked at, at most


ONE_LEVEL = 1.5  # σ is measured on the numbers of one image, so it scatters


AFFINE = 0.02  # residue of the fit, as a share of the target, above which it is no denoiser of this kind


@dataclass(frozen=True)
class OneImageWorld:
    """What is known of a method in a world of one image. Rows are sorted by their time."""

    asked: DenoiserCall
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


def world(subject: Subject) -> OneImageWorld:
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
    return OneImageWorld(
        one, image, given, present, time[order], level[order, 0], level[order, 1], answer[order]
    )


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


def _denoises(subject: Subject, one: DenoiserCall) -> bool:
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
