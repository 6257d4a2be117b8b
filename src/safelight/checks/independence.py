"""Whether a sample's loss depends on its own image and conditions alone.

Every row is changed in turn; no component of another row may move. Networks are in evaluation mode and are
called on each row alone, so that batch norm or a statistic over the minibatch is not taken for the loss.
Phases that declare `whole` may look at the batch, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.probes import Call, OutOfTime, RowByRow, watching
from safelight.checks.bench.subject import FEW, Subject, exchanged
from safelight.types import Batch, Phase

SECONDS = 8.0
FAST = True
MOVES = 1e-4  # relative; the arithmetic of a row does not depend on the others

LEAKS = Code(
    "sample-leak",
    "error",
    "One row of a batch of four is exchanged, and a loss component of another row changes. Networks are in "
    "evaluation mode and called row by row, so batch norm is not blamed. Phases with `whole=True` are "
    "skipped.",
    "the loss of one sample depends on others in its batch, so training depends on the batch size",
    "reduce over the features of a sample only, such as sum(1); put a loss over the batch in a phase with "
    "whole=True",
)
MIXES = Code(
    "network-mixes",
    "note",
    "in evaluation mode, a network gives other outputs for rows together than for each row alone",
    "a network that mixes rows even in evaluation mode gives an image that depends on its batch",
    "nothing, if it is intended, such as a minibatch statistic of a discriminator",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Change one row, watch the others."""
    count = min(FEW, subject.rows)
    if count < 2:
        return
    batch, other = subject.batch(count), subject.batch(count, 1)
    nets: dict[str, nn.Module] = {name: RowByRow(net) for name, net in subject.nets.items()}
    for phase in subject.phases:
        if phase.whole:
            continue
        try:
            subject.losses(nets, phase, batch)
        except OutOfTime:
            raise
        except Exception:  # the loss uses more of a network than rows: then as it is
            nets = dict(subject.nets)
        before = _values(subject, nets, phase, batch)
        for row in range(count):
            subject.clock.afford(0, f"rows from {row} on in phase {phase.name}")
            after = _values(subject, nets, phase, changed(batch, other, row))
            for name, values in before.items():
                if len(values) != count:
                    continue
                moved = (after[name] - values).abs()
                moved[row] = 0
                share = float(moved.max() / values.abs().max().clamp(min=1e-12))
                if share > MOVES:
                    yield LEAKS.finding(
                        f"{name} of row {int(moved.argmax())} in phase {phase.name} moves by {share:.2g} of "
                        f"its value when only row {row} of the batch is changed",
                        "no change",
                    )
                    return
    yield from _mixing(subject, batch)


def changed(batch: Batch, other: Batch, row: int) -> Batch:
    """A batch in which one row is that of another batch."""
    place = torch.arange(len(batch.x), device=batch.x.device) == row

    def choose(values: Tensor, theirs: Tensor) -> Tensor:
        return torch.where(place.view(-1, *[1] * (values.ndim - 1)), theirs, values)

    given = {name: choose(value, other.given[name]) for name, value in batch.given.items()}
    if all(torch.equal(value[row], batch.given[name][row]) for name, value in given.items()):
        rolled = exchanged(batch.given)
        given = {name: choose(value, rolled[name]) for name, value in batch.given.items()}
    return replace(batch, x=choose(batch.x, other.x), given=given)


def _values(subject: Subject, nets: Mapping[str, nn.Module], phase: Phase, batch: Batch) -> dict[str, Tensor]:
    return {name: values.detach().float() for name, values in subject.losses(nets, phase, batch).items()}


def _mixing(subject: Subject, batch: Batch) -> Iterator[Finding]:
    """Networks whose answer for a row depends on other rows."""
    first_calls: dict[str, Call] = {}
    for phase in subject.phases:
        with watching(subject.nets) as calls:
            subject.losses(subject.nets, phase, batch)
        for call in calls:
            first_calls.setdefault(call.network, call)
    for name, call in first_calls.items():
        net = subject.nets[name]
        with torch.no_grad():
            together, apart = net(*call.arguments), RowByRow(net)(*call.arguments)
        if isinstance(together, Tensor) and together.shape == apart.shape:
            share = float((together - apart).abs().max() / together.abs().max().clamp(min=1e-12))
            if share > 100 * MOVES:
                yield MIXES.finding(
                    f"{name}: outputs for rows together and for each row alone differ by {share:.2g}", "equal"
                )
