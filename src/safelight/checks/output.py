"""Whether a network can answer what it is trained to answer, and what its loss is before it has learned.

The targets of a batch are measured (bench/oracle.py), and the network is pushed to see how far it can go
(bench/probes.py). Where the targets go further, the loss has a floor that no training gets under.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import ImageNetwork, Targets, image_networks, mean_loss, targets
from safelight.checks.bench.probes import Call, NotApplicable, first_rows, reach, watching
from safelight.checks.bench.subject import Subject
from safelight.types import Batch

SECONDS = 12.0
FAST = True
FLOOR = 0.02  # of the loss of the trivial predictor: a floor above this is an error
TRIVIAL = 10.0  # times its loss
NEAR = 0.1  # of the data's range

OUT_OF_REACH = Code(
    "output-range",
    "error",
    "Two gradients of the loss give the target of every output. A copy of the network is trained to answer "
    "as low and as high as it can. It is an error where the best answers within reach still cost 2 % of the"
    " loss of always predicting the mean. A generator has no target, and is pushed to the data's range.",
    "the last layer cannot reach the targets, so the loss has a floor and samples are wrong beyond its range",
    "end the network in a plain layer, or in an activation with the range of its target, such as tanh for "
    "images in [-1, 1]",
)
BAD_START = Code(
    "initial-loss",
    "warning",
    "the first loss is more than ten times that of always predicting the mean of the targets",
    "a network that starts far worse than the mean image wastes its first steps, and Adam's moments",
    "scale the inputs to about 1, or let the last layer start at zero",
)


def check(subject: Subject) -> Iterator[Finding]:
    """The range and the first loss of every network that answers with an image."""
    for network in image_networks(subject):
        batch = subject.batch(subject.rows)
        try:
            goal = targets(subject, network, batch)
        except NotApplicable:  # a generator, whose images another network judges
            yield from _generator(subject, network, batch)
            continue
        trivial = mean_loss(subject, network, batch, mean_answer(goal.targets), goal.components)
        yield from _first_loss(subject, network, trivial, goal)
        low, high = float(goal.targets.min()), float(goal.targets.max())
        answer = repeating(first_rows(goal.call))
        least, most = reach(subject.nets[network.name], answer, low, high, subject.clock)
        floor = mean_loss(subject, network, batch, goal.targets.clamp(least, most), goal.components)
        if floor > FLOOR * trivial:
            yield OUT_OF_REACH.finding(
                f"{network.name} can output {_end(least, low)} to {_end(most, high)}, its targets are "
                f"{low:.2f} to {high:.2f}: {' + '.join(goal.components)} cannot get below "
                f"{floor:.3f}, where always predicting the mean gives {trivial:.3f}",
                "outputs that reach the targets, and a floor near 0",
            )


def repeating(call: Call) -> Callable[[nn.Module], Tensor]:
    """The same call of any copy of the network."""

    def answer(net: nn.Module) -> Tensor:
        output: Tensor = net(*call.arguments)
        return output

    return answer


def mean_answer(targets: Tensor) -> Tensor:
    """The mean of the targets, a number a channel, for every row: the trivial predictor."""
    return targets.mean((0, *range(2, targets.ndim)), keepdim=True).expand_as(targets)


def _first_loss(subject: Subject, network: ImageNetwork, trivial: float, goal: Targets) -> Iterator[Finding]:
    scalars = subject.trial.records[0].scalars
    first = sum(subject.weights.get(name, 1.0) * float(scalars[name]) for name in goal.components)
    if trivial > 0 and not first <= TRIVIAL * trivial:
        yield BAD_START.finding(
            f"{' + '.join(goal.components)} of {network.name} starts at {first:.3g}",
            f"about {trivial:.3g}, that of always predicting the mean; at most {TRIVIAL:g} times it",
        )


def _generator(subject: Subject, network: ImageNetwork, batch: Batch) -> Iterator[Finding]:
    """A network whose images are judged by another: can it reach the data's range?"""
    with watching(subject.nets) as calls:
        subject.losses(subject.nets, network.phase, batch)
    call = first_rows(next(call for call in calls if call.network == network.name))
    low, high = float(batch.x.min()), float(batch.x.max())
    least, most = reach(subject.nets[network.name], repeating(call), low, high, subject.clock)
    room = NEAR * (high - low)
    if least > low + room or most < high - room:
        yield OUT_OF_REACH.finding(
            f"{network.name} makes values from {_end(least, low)} to {_end(most, high)}",
            f"the data's, {low:.2f} to {high:.2f}",
        )


def _end(reached: float, limit: float) -> str:
    """Where a network's range ends; it is not pushed beyond the limit."""
    return f"{reached:.3f}" if abs(reached) < abs(limit) else f"{limit:.2f}"
