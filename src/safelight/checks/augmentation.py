"""Whether a mask is augmented like its image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.probes import NotApplicable
from safelight.checks.bench.subject import Subject

SECONDS = 5.0
FAST = True
ROWS = 16

APART = Code(
    "mask-not-moved",
    "error",
    "in 16 rows of the first batch, the turn or reflection that explains the image does not explain its mask",
    "masks that do not match their images teach the network to ignore them",
    "turn and mirror image and mask by the same draw",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Which turns and reflections a batch has against the items as stored: the same must fit the mask."""
    if "mask" not in subject.spec.conditions:
        return
    stream = subject.streams(ROWS)
    batch, stored = stream.batch(0, range(ROWS)), stream.pick(stream.items(0, range(ROWS)))
    explained = 0
    for row in range(ROWS):
        fits = _moves_between(stored.x[row], batch.x[row])
        explained += bool(fits)
        if fits and not fits & _moves_between(stored.given["mask"][row], batch.given["mask"][row]):
            yield APART.finding(
                f"image {row} of the first batch is {sorted(fits)[0]}, its mask is not",
                "the same turn for both",
            )
            return
    if not explained:
        raise NotApplicable("the augmentation is neither a turn nor a reflection")


def _moves_between(before: Tensor, after: Tensor) -> set[str]:
    """The turns and reflections by which one (C, H, W) becomes another."""
    moves = {
        f"{'mirrored' if mirrored else 'as it was'}, turned by {90 * turns} degrees": torch.rot90(
            before.flip(-1) if mirrored else before, turns, (-2, -1)
        )
        for mirrored in (False, True)
        for turns in range(4)
    }
    return {name for name, value in moves.items() if value.shape == after.shape and torch.equal(value, after)}
