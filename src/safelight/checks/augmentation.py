"""Whether what is done to an image is done to its mask alike."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.probes import NotTold
from safelight.checks.bench.subject import Subject

SECONDS = 5.0
FAST = True
ROWS = 16

APART = Code(
    "mask-not-moved",
    "error",
    "masks that point elsewhere than their images teach the network to ignore them",
    "turn and mirror image and mask by the same draw",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Which turns and reflections a batch has against the items as they are: the same must fit the mask."""
    if "mask" not in subject.spec.conditions:
        return
    stream = subject.streams(ROWS)
    batch, still = stream.batch(0, range(ROWS)), stream.pick(stream.items(0, range(ROWS)))
    told = 0
    for row in range(ROWS):
        fits = _fitting(still.x[row], batch.x[row])
        if not fits:
            continue
        told += 1
        if not fits & _fitting(still.given["mask"][row], batch.given["mask"][row]):
            yield APART.found(
                f"image {row} of the first batch is {sorted(fits)[0]}, its mask is not", "the same for both"
            )
            return
    if not told:
        raise NotTold("what was done to the images is no turn or reflection that could be found")


def _fitting(before: Tensor, after: Tensor) -> set[str]:
    """The turns and reflections by which one (C, H, W) becomes another."""
    moves = {
        f"{'mirrored' if mirrored else 'as it was'}, turned by {90 * turns} degrees": torch.rot90(
            before.flip(-1) if mirrored else before, turns, (-2, -1)
        )
        for mirrored in (False, True)
        for turns in range(4)
    }
    return {name for name, value in moves.items() if value.shape == after.shape and torch.equal(value, after)}
