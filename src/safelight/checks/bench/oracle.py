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

from safelight.checks.bench.clock import NotTold
from safelight.checks.bench.subject import Subject
from safelight.checks.bench.watching import Call, Stand, watching
from safelight.types import Batch, Phase, Values

STRAIGHT = 1e-3  # how far the third gradient may be from 0, as a share of the first


@dataclass(frozen=True)
class Asked:
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


def asked(subject: Subject) -> Iterator[Asked]:
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
                    yield Asked(phase, name, shape)


def answered(
    subject: Subject, one: Asked, batch: Batch, answer: Tensor, step: int = 0
) -> tuple[Values, Call]:
    """Components of a phase when the network answers so, and what it was asked."""
    stand = one.stand(answer)
    nets = {**subject.nets, one.network: stand}
    components = subject.losses(nets, one.phase, batch, step)
    return components, stand.calls[0]


def targets(subject: Subject, one: Asked, batch: Batch, step: int = 0) -> Targets:
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


def mean_loss(subject: Subject, one: Asked, batch: Batch, answer: Tensor, names: tuple[str, ...]) -> float:
    """The mean weighted loss of the components that depend on the answer, for a given answer."""
    with torch.no_grad():
        components, _ = answered(subject, one, batch, answer)
    return float(sum(subject.weights.get(name, 1.0) * components[name].float().mean() for name in names))
