"""After a resume: is everything that trains what the checkpoint, the recipe and the journal say?

Two looks. Once the checkpoint is loaded: weights, moments and memory bit for bit, what can be trained, and
that each optimiser holds the parameters of its network. After the first step: the settings that every
optimiser group has used, against those in force. Neither changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safelight.engine.plan import Plan
from safelight.engine.schedule import Rate
from safelight.engine.state import State

NAMED = 3


@dataclass(frozen=True)
class Difference:
    """Something that is not as it should be. code: its page in docs/checks/."""

    code: str
    told: str


def trainable(nets: Mapping[str, nn.Module]) -> dict[str, int]:
    """How many numbers of each network can be trained."""
    return {name: sum(p.numel() for p in net.parameters() if p.requires_grad) for name, net in nets.items()}


def loaded(
    state: State, groups: Mapping[str, Mapping[str, Tensor]], was_trainable: Mapping[str, int]
) -> list[Difference]:
    """What of a loaded state differs from its checkpoint.

    was_trainable: `trainable` when the checkpoint was made; networks it does not name are not compared.
    """
    return [*_tensors(state, groups), *_trainable(state, was_trainable), *_parameters(state)]


def in_force(state: State, plan: Plan, used: Mapping[str, Rate]) -> list[Difference]:
    """What the optimisers used for a step that differs from what was in force.

    plan, used: in force at that step, the last one that was made.
    """
    differences = []
    for name, optimiser in state.optimisers.items():
        settings = plan.optim[name]
        expected = {
            "lr": used[name].lr,
            "betas": used[name].betas,
            "eps": settings.eps,
            "weight_decay": settings.weight_decay,
        }
        for number, group in enumerate(optimiser.groups):
            for key, value in expected.items():
                if group[key] != value:
                    differences.append(
                        Difference(
                            "resume-settings",
                            f"{name}, group {number}: {key} is {group[key]!r}, in force is {value!r}",
                        )
                    )
    return differences


def _tensors(state: State, groups: Mapping[str, Mapping[str, Tensor]]) -> Iterator[Difference]:
    for group, mine in state.groups().items():
        stored = groups.get(group, {})
        wrong = [name for name, tensor in mine.items() if not _same(tensor, stored.get(name))]
        if wrong:
            more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            code = "resume-optimiser" if group == "optimisers" else "resume-weights"
            yield Difference(code, f"{group}: {', '.join(wrong[:NAMED])}{more} are not the checkpoint's")


def _same(mine: Tensor, stored: Tensor | None) -> bool:
    """Equal bits, or both not-a-number."""
    if stored is None:
        return False
    stored = stored.to(mine.device, mine.dtype)
    return torch.equal(mine, stored) or bool(torch.allclose(mine, stored, rtol=0, atol=0, equal_nan=True))


def _trainable(state: State, was: Mapping[str, int]) -> Iterator[Difference]:
    now = trainable(state.nets)
    for name, count in was.items():
        if now.get(name, 0) != count:
            yield Difference(
                "resume-frozen",
                f"{name}: {now.get(name, 0):,} of its parameters can be trained, {count:,} could when the "
                "checkpoint was made",
            )


def _parameters(state: State) -> Iterator[Difference]:
    for name, optimiser in state.optimisers.items():
        held = {id(p) for group in optimiser.groups for p in group["params"]}
        if held != {id(p) for p in state.nets[name].parameters()}:
            yield Difference("resume-optimiser", f"{name}: its optimiser holds other tensors than its own")
