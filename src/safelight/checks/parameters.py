"""Whether every trained parameter gets a gradient and moves, and everything else stays.

What stands for absent conditions need not move where all images have theirs, nor a network whose learning
rate is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

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
        if still and subject.plan.optim[name].lr:
            reached = _on_other_rows(subject, name, still)
            still = [key for key in still if key not in reached]
        if still and subject.plan.optim[name].lr:
            total = sum(value.numel() for value in own.values())
            share = sum(own[key].numel() for key in still) / total
            small = share < FEW and all(own[key].ndim < 2 for key in still)
            yield STILL.found(
                f"{name}: {_some(still)} ({share:.2%} of its parameters) did not move in "
                f"{len(trial.records)} steps",
                "every parameter moves",
                severity="note" if small else None,
            )


def _on_other_rows(subject: Subject, network: str, keys: list[str]) -> set[str]:
    """Which parameters get a gradient from rows without conditions, or with them where images have some."""
    parameters = [subject.nets[network].get_parameter(key) for key in keys]
    batch, reached = subject.batch(subject.rows), set()
    for there in (False, True)[: 1 + bool(subject.pack.present.any())]:
        rows = replace(batch, present=torch.full_like(batch.present, there))
        for phase, trains in subject.phases():
            if network in trains:
                losses = subject.losses(subject.nets, phase, rows)
                total = torch.stack([values.float().sum() for values in losses.values()]).sum()
                if not total.requires_grad:
                    continue
                found = torch.autograd.grad(total, parameters, allow_unused=True)
                reached |= {
                    key for key, own in zip(keys, found, strict=True) if own is not None and own.any()
                }
    return reached


def _trainable(subject: Subject, network: str, key: str) -> bool:
    return f"{network}.{key}" in subject.trial.trainable


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
