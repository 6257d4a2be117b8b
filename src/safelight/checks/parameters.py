"""Whether every trained parameter gets a gradient and moves, and everything else stays."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject

SECONDS = 5.0
FAST = True
NAMED = 3
FEW = 0.001  # of a network's parameters: below this, vectors that stay are no fault

STILL = Code(
    "parameter-unmoved",
    "error",
    "a part of a network that no loss reaches stays as it was drawn at random",
    "let forward use it, detach less, or take it out",
)
NOTHING = Code(
    "nothing-to-train",
    "error",
    "a phase that trains a network without trainable parameters does nothing for hours",
    "do not freeze it in build, or name another network in the phase's trains",
)
FROZEN_MOVES = Code(
    "frozen-moves",
    "error",
    "what is frozen is the ground the rest is built on, and is not in checkpoints: a resumed run would start "
    "from another",
    "keep it in evaluation mode and out of every phase's trains",
)
FROZEN_INSIDE = Code(
    "frozen-inside",
    "note",
    "parameters with requires_grad = False in a trained network are not trained",
    "nothing, where they are meant to stay",
)


def check(subject: Subject) -> Iterator[Finding]:
    """The weights after the trial against those before it."""
    trial, method = subject.trial, subject.method
    trained = {name for phase in method.phases for name in phase.trains}
    for name, net in trial.state.nets.items():
        own = dict(net.named_parameters())
        if name in trained and (not own or not any(_trainable(subject, name, key) for key in own)):
            yield NOTHING.found(f"{name}: none of its {len(own)} parameters can be trained", "some")
            continue
        fixed = name in method.frozen or name not in trained
        moved = {key for key, value in net.state_dict().items()
                 if not torch.equal(value, trial.before[f"{name}.{key}"])}  # fmt: skip
        if fixed and moved:
            yield FROZEN_MOVES.found(f"{name}: {_some(sorted(moved))} changed in training", "no change")
        if fixed:
            continue
        kept = [key for key in own if not _trainable(subject, name, key)]
        if kept:
            yield FROZEN_INSIDE.found(f"{name}: {_some(kept)}", "all of a trained network is trained")
        still = [key for key in own if key not in moved and key not in kept]
        if still:
            total = sum(value.numel() for value in own.values())
            share = sum(own[key].numel() for key in still) / total
            small = share < FEW and all(own[key].ndim < 2 for key in still)
            yield STILL.found(
                f"{name}: {_some(still)} ({share:.2%} of its parameters) did not move in "
                f"{len(trial.records)} steps",
                "every parameter moves",
                severity="note" if small else None,
            )


def _trainable(subject: Subject, network: str, key: str) -> bool:
    return f"{network}.{key}" in subject.trial.trainable


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
