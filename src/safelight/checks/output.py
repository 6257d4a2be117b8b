"""Whether a network can answer what it is trained to answer, and what its loss is before it has learned.

The targets of a batch are found from outside (bench/oracle.py), and the network is pushed to see how far it
can go (bench/reach.py). Where the targets go further, the loss has a floor that no training gets under.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import DenoiserCall, asked, mean_loss, targets
from safelight.checks.bench.probes import Call, NotTold, first_rows, reach, watching
from safelight.checks.bench.subject import Subject
from safelight.types import Batch

SECONDS = 12.0
FAST = True
FLOOR = 0.02  # of the loss of the trivial predictor: what the ends of the range cost, above which it is told
TRIVIAL = 10.0  # times its loss
NEAR = 0.1  # of the data's range

OUT_OF_REACH = Code(
    "output-range",
    "error",
    "the last layer cannot give what the loss asks for: the loss ends at a floor, and samples are off "
    "wherever the target lies beyond",
    "end the network in a plain layer, or in an activation with the range of its target, such as tanh for "
    "images in [-1, 1]",
)
BAD_START = Code(
    "initial-loss",
    "warning",
    "a network that starts far worse than always answering the mean spends its first steps, and Adam's "
    "moments, on getting back to it",
    "scale the inputs to about 1, or let the last layer start at zero",
)


def check(subject: Subject) -> Iterator[Finding]:
    """The range and the first loss of every network that answers with an image."""
    for one in asked(subject):
        batch = subject.batch(subject.rows)
        try:
            found = targets(subject, one, batch)
        except NotTold:  # a generator, whose images another network judges
            yield from _generator(subject, one, batch)
            continue
        trivial = mean_loss(subject, one, batch, mean_answer(found.targets), found.components)
        yield from _first_loss(subject, one, trivial, found.components)
        call = first_rows(found.call)
        low, high = float(found.targets.min()), float(found.targets.max())
        least, most = reach(subject.nets[one.network], again(call), low, high, subject.clock)
        held = found.targets.clamp(least, most)
        floor = mean_loss(subject, one, batch, held, found.components)
        if floor > FLOOR * trivial:
            yield OUT_OF_REACH.found(
                f"{one.network} answers from {_end(least, low)} to {_end(most, high)}, its targets lie "
                f"between {low:.2f} and {high:.2f}: {_named(found.components)} cannot get below {floor:.3f}, "
                f"where always answering the mean gives {trivial:.3f}",
                "answers as far as the targets, and a floor near 0",
            )


def again(call: Call) -> Callable[[nn.Module], Tensor]:
    """The same question to any copy of the network."""

    def answer(net: nn.Module) -> Tensor:
        made: Tensor = net(*call.arguments)
        return made

    return answer


def mean_answer(targets: Tensor) -> Tensor:
    """The mean of the targets, a number a channel, for every row: the trivial predictor."""
    return targets.mean((0, *range(2, targets.ndim)), keepdim=True).expand_as(targets)


def _first_loss(
    subject: Subject, one: DenoiserCall, trivial: float, names: tuple[str, ...]
) -> Iterator[Finding]:
    first = subject.trial.records[0]
    own = sum(subject.weights.get(name, 1.0) * float(first.scalars[name]) for name in names)
    if trivial > 0 and not own <= TRIVIAL * trivial:
        yield BAD_START.found(
            f"{_named(names)} of {one.network} starts at {own:.3g}",
            f"about {trivial:.3g}, that of always answering the mean; at most {TRIVIAL:g} times it",
        )


def _generator(subject: Subject, one: DenoiserCall, batch: Batch) -> Iterator[Finding]:
    """A network whose images are judged by another: can it make the data's own range?"""
    with watching(subject.nets) as calls:
        subject.losses(subject.nets, one.phase, batch)
    call = first_rows(next(call for call in calls if call.network == one.network))
    low, high = float(batch.x.min()), float(batch.x.max())
    least, most = reach(subject.nets[one.network], again(call), low, high, subject.clock)
    room = NEAR * (high - low)
    if least > low + room or most < high - room:
        yield OUT_OF_REACH.found(
            f"{one.network} makes values from {_end(least, low)} to {_end(most, high)}",
            f"the data's, {low:.2f} to {high:.2f}",
        )


def _end(reached: float, wanted: float) -> str:
    """A limit that was found; beyond the targets nothing was looked for."""
    return f"{reached:.3f}" if abs(reached) < abs(wanted) else f"{wanted:.2f}"


def _named(components: tuple[str, ...]) -> str:
    return " + ".join(components)
