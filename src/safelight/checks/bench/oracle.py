"""What a network is trained to answer, measured from outside: the answer at which the loss is least.

A network is replaced by a free tensor y. Where the loss is a weighted square of y, its gradient
g(y) = c (y - y*) is a straight line in every element; two gradients give the curvature c and the target y*, a
third proves the line. So nothing has to be known of the method: not its target, its noise, or its weighting.

In a world of one image x everything about a denoiser follows: every input is x_t = α x + σ ε, and the target
y = a x_t + b x + c with numbers that depend on the noise level alone (flow: a = 1/t, b = -1/t; ε: a = 1/σ,
b = -α/σ). They are measured row by row, without any network, and make the ideal denoiser of this world.
Samples made with it must be x itself: leftover noise, or another scale, is a fault of the sampler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from safelight.checks.bench.probes import Call, NotApplicable, StandIn, watching
from safelight.checks.bench.subject import Subject
from safelight.types import Batch, Phase, Values

STRAIGHT = 1e-3  # how far the third gradient may be from 0, as a share of the first
NUMBERS = 2**22  # of a batch at once
ROWS = 2048  # noise levels that are measured, at most
ONE_LEVEL = 1.5  # σ is measured on the numbers of one image, so it scatters
AFFINE = 0.02  # residue of the fit, as a share of the target, above which it is no denoiser of this kind


@dataclass(frozen=True)
class ImageNetwork:
    """A trained network that a phase calls once, and that answers in the shape of an image."""

    phase: Phase
    name: str
    shape: tuple[int, ...]  # of the answer, without the rows

    def stand_in(self, answer: Tensor) -> StandIn:
        """Stands in for the network, and answers with fixed rows."""
        return StandIn(self.name, lambda call: answer)


@dataclass(frozen=True)
class Targets:
    """Targets of the rows of a batch."""

    call: Call  # the inputs
    targets: Tensor  # (b, ...)
    curvature: Tensor  # (b, ...) of the weighted loss of a row, 2 w / N for w times a mean of N squares
    components: tuple[str, ...]  # that depend on the answer


def image_networks(subject: Subject) -> Iterator[ImageNetwork]:
    """The trained networks that a phase calls once, and that answer in the shape of an image."""
    batch = subject.batch(min(2, subject.rows))
    for phase in subject.phases:
        with watching(subject.nets, answers=True) as calls:
            subject.losses(subject.nets, phase, batch)
        for name in phase.trains:
            answers = [call.answer for call in calls if call.network == name]
            if len(answers) == 1 and isinstance(answers[0], Tensor):
                shape = tuple(answers[0].shape[1:])
                if shape == subject.spec.shape:
                    yield ImageNetwork(phase, name, shape)


def losses_of_answer(
    subject: Subject, network: ImageNetwork, batch: Batch, answer: Tensor, step: int = 0
) -> tuple[Values, Call]:
    """Components of a phase for a given answer of the network, and the call it answers."""
    stand_in = network.stand_in(answer)
    components = subject.losses({**subject.nets, network.name: stand_in}, network.phase, batch, step)
    return components, stand_in.calls[0]


def targets(subject: Subject, network: ImageNetwork, batch: Batch, step: int = 0) -> Targets:
    """The best answers for a batch. Raises NotApplicable where the loss is no square of the answer."""
    names: list[str] = []

    def gradient(answer: Tensor) -> tuple[Tensor, Call]:
        answer = answer.detach().requires_grad_()
        components, call = losses_of_answer(subject, network, batch, answer, step)
        total, names[:] = torch.zeros_like(answer), []
        for name, values in components.items():
            weight = subject.weights.get(name, 1.0)
            if not (values.requires_grad and weight):
                continue
            loss = weight * values.float().sum()
            (part,) = torch.autograd.grad(loss, answer, retain_graph=True, allow_unused=True)
            if part is not None:
                total = total + part
                names.append(name)
        if not names:
            raise NotApplicable(f"the loss does not depend on the output of {network.name}")
        return total, call

    zero = torch.zeros(len(batch.rows), *network.shape, device=subject.device)
    at_zero, call = gradient(zero)
    curvature = gradient(zero + 1)[0] - at_zero
    best = -at_zero / curvature
    square = bool((curvature > 0).all()) and bool(
        gradient(best)[0].abs().max() <= STRAIGHT * at_zero.abs().max()
    )
    if not square:
        raise NotApplicable(f"the loss is not a squared error of the output of {network.name}")
    return Targets(call, best, curvature, tuple(names))


def mean_loss(
    subject: Subject, network: ImageNetwork, batch: Batch, answer: Tensor, names: tuple[str, ...]
) -> float:
    """The mean weighted loss of the components that depend on the answer, for a given answer."""
    with torch.no_grad():
        components, _ = losses_of_answer(subject, network, batch, answer)
    return float(sum(subject.weights.get(name, 1.0) * components[name].float().mean() for name in names))


@dataclass(frozen=True)
class OneImageWorld:
    """What is known of a method in a world of one image. Rows are sorted by their time."""

    network: ImageNetwork  # the denoiser
    image: Tensor  # (C, H, W) in model space
    given: Values  # conditions of the image, one row
    present: Tensor  # (1,)
    time: Tensor  # (n,) the network's input
    alpha: Tensor  # (n,) float64
    sigma: Tensor  # (n,) float64
    answers: Tensor  # (n, 3) float64: a, b, c

    @property
    def has_levels(self) -> bool:
        """Whether there is more than one noise level."""
        return float(self.sigma.max()) > ONE_LEVEL * float(self.sigma.min())

    def denoiser(self) -> StandIn:
        """The ideal denoiser of this world."""
        return StandIn(self.network.name, self._answer)

    def _answer(self, call: Call) -> Tensor:
        x_t = call.image
        assert x_t is not None
        at = call.time if call.time is not None else x_t.new_zeros(len(x_t))
        a, b, c = between(at.cpu().double(), self.time, self.answers).to(x_t).unbind(1)
        x = self.image.to(x_t)
        wide = (slice(None), *[None] * x.ndim)
        return a[wide] * x_t + b[wide] * x + c[wide]


_WORLDS: WeakKeyDictionary[Subject, OneImageWorld] = WeakKeyDictionary()


def world(subject: Subject) -> OneImageWorld:
    """The world of the image with the most contrast among a few, measured once. Raises NotApplicable."""
    if subject not in _WORLDS:
        _WORLDS[subject] = _world(subject)
    return _WORLDS[subject]


def _world(subject: Subject) -> OneImageWorld:
    network = next((each for each in image_networks(subject) if _denoises(subject, each)), None)
    if network is None:
        raise NotApplicable("no network turns a noisy image into an image")
    real = subject.real(16)
    best = int(real.x.flatten(1).std(1).argmax())
    image = real.x[best]
    rows = max(16, min(ROWS, NUMBERS // image.numel()))
    given = {name: value[best : best + 1] for name, value in real.given.items()}
    present = real.present[best : best + 1]
    times, levels, answers = [], [], []
    chunk = max(16, min(256, rows))
    for step in range(-(-rows // chunk)):
        goal = targets(subject, network, repeated(image, given, present, chunk), step)
        dark = repeated(torch.zeros_like(image), given, present, chunk)
        with torch.no_grad():
            _, other = losses_of_answer(subject, network, dark, torch.zeros_like(goal.targets), step)
        time, x_t, noise = goal.call.time, goal.call.image, other.image
        assert x_t is not None
        assert noise is not None
        times.append(time.cpu().double() if time is not None else torch.zeros(chunk).double())
        levels.append(_levels(x_t, noise, image))
        answers.append(_fit(goal.targets, noise, levels[-1][:, 0], image))
        subject.clock.afford(0, "noise levels")
    time, level, answer = torch.cat(times), torch.cat(levels), torch.cat(answers)
    if len(times) > 1 and all(len(torch.unique(part)) == 1 for part in times) and len(torch.unique(time)) > 1:
        raise NotApplicable("all rows of a batch have one noise level")
    order = time.argsort()
    order = order[torch.isfinite(answer[order]).all(1)]
    if not len(order):
        raise NotApplicable("the target is no mixture of image and noise")
    return OneImageWorld(
        network, image, given, present, time[order], level[order, 0], level[order, 1], answer[order]
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
    """Rows of a table (n, k) at some times, linear between the table's rows."""
    last = len(time) - 1
    after = torch.searchsorted(time, at).clamp(min(1, last), last)
    before = (after - 1).clamp(min=0)
    width = time[after] - time[before]
    share = torch.where(width > 0, (at - time[before]) / width.clamp(min=1e-12), torch.zeros_like(at))
    share = share.clamp(0, 1)[:, None]
    return values[before] + share * (values[after] - values[before])


def _denoises(subject: Subject, network: ImageNetwork) -> bool:
    """Whether a network gets an image of the shape of its answer, and it is not the image itself."""
    batch = subject.batch(min(2, subject.rows))
    zero = torch.zeros(len(batch.rows), *network.shape, device=subject.device)
    with torch.no_grad():
        image = losses_of_answer(subject, network, batch, zero)[1].image
    return image is not None and image.shape == batch.x.shape and not torch.equal(image, batch.x)


def _levels(x_t: Tensor, noise: Tensor, image: Tensor) -> Tensor:
    """(n, 2): α, by which the image enters x_t, and σ, the spread of the rest."""
    x, x_t, noise = (value.cpu().double() for value in (image, x_t, noise))  # not every device has float64
    x, rest = x.flatten(), noise.flatten(1)
    return torch.stack([(x_t.flatten(1) - rest) @ x / (x @ x), rest.std(1)], 1)


def _fit(target: Tensor, noise: Tensor, alpha: Tensor, image: Tensor) -> Tensor:
    """(n, 3): a, b, c of target = a x_t + b x + c by least squares; not-a-number where it is not so.

    Solved in the noise σ ε of x_t = α x + σ ε, which at low noise is lost in the rounding of x_t.
    """
    y, noise = (value.flatten(1).cpu().double() for value in (target, noise))
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
