"""Whether every trained parameter gets a gradient and moves, and everything else stays.

The vector for absent conditions need not move where all images have theirs, nor a network of learning rate 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject
from safelight.engine.adapters import held

SECONDS = 5.0
FAST = True
NAMED = 3
FEW = 0.001  # of a network's parameters: below this, vectors that stay are no fault

STILL = Code(
    "parameter-unmoved",
    "error",
    "Parameters are the same before and after six steps, and get no gradient with or without conditions. A "
    "few small vectors are a note. Networks of learning rate 0 are skipped.",
    "part of a network gets no gradient, and stays random",
    "let forward use it, detach less, or remove it",
)
NOTHING = Code(
    "nothing-to-train",
    "error",
    "no parameter of a network that a phase trains has requires_grad",
    "a phase that trains a network without trainable parameters does nothing",
    "do not freeze it in build, or name another network in the phase's trains",
)
FROZEN_MOVES = Code(
    "frozen-moves",
    "error",
    "weights or buffers of a frozen network change within six training steps",
    "frozen networks are not in checkpoints: a resumed run would start from other weights",
    "keep it in evaluation mode and out of every phase's trains",
)
FROZEN_INSIDE = Code(
    "frozen-inside",
    "note",
    "A network that a phase trains has parameters with requires_grad = False",
    "parameters with requires_grad = False in a trained network are not trained",
    "nothing, if they are meant to stay frozen",
)


def check(subject: Subject) -> Iterator[Finding]:
    """The weights after the trial against those before it."""
    trial, method = subject.trial, subject.method
    trained = {name for phase in method.phases for name in phase.trains}
    for name, net in trial.state.nets.items():
        parameters = dict(net.named_parameters())
        frozen = [key for key in parameters if f"{name}.{key}" not in trial.trainable]
        if name in trained and len(frozen) == len(parameters):
            yield NOTHING.finding(f"{name}: none of its {len(parameters)} parameters can be trained", "some")
            continue
        moved = {key for key, value in net.state_dict().items()
                 if not torch.equal(value, trial.before[f"{name}.{key}"])}  # fmt: skip
        if name in method.frozen or name not in trained:
            if moved:
                yield FROZEN_MOVES.finding(
                    f"{name}: {_listed(sorted(moved))} changed in training", "no change"
                )
            continue
        if inside := [key for key in frozen if not held(parameters[key])]:
            yield FROZEN_INSIDE.finding(
                f"{name}: {_listed(inside)}", "every parameter of a trained network can be trained"
            )
        still = [key for key in parameters if key not in moved and key not in frozen]
        if still and subject.plan.optim[name].lr:
            reached = _on_other_rows(subject, name, still)
            still = [key for key in still if key not in reached]
        if still and subject.plan.optim[name].lr:
            total = sum(value.numel() for value in parameters.values())
            share = sum(parameters[key].numel() for key in still) / total
            small = share < FEW and all(parameters[key].ndim < 2 for key in still)
            yield STILL.finding(
                f"{name}: {_listed(still)} ({share:.2%} of its parameters) did not move in "
                f"{len(trial.records)} steps",
                "every parameter moves",
                "note" if small else None,
            )


def _on_other_rows(subject: Subject, network: str, keys: list[str]) -> set[str]:
    """Which parameters get a gradient from rows without conditions, or with them where images have some."""
    parameters = [subject.nets[network].get_parameter(key) for key in keys]
    batch, reached = subject.batch(subject.rows), set()
    for conditioned in (False, True)[: 1 + bool(subject.pack.present.any())]:
        rows = replace(batch, present=torch.full_like(batch.present, conditioned))
        for phase in subject.phases:
            if network not in phase.trains:
                continue
            losses = subject.losses(subject.nets, phase, rows)
            total = torch.stack([values.float().sum() for values in losses.values()]).sum()
            if total.requires_grad:
                gradients = torch.autograd.grad(total, parameters, allow_unused=True)
                reached |= {
                    key
                    for key, gradient in zip(keys, gradients, strict=True)
                    if gradient is not None and gradient.any()
                }
    return reached


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
