"""The audit of a resumed session: does all that trains agree with checkpoint, recipe and journal?

Two looks. Once the checkpoint is loaded: weights, moments and memory bit for bit, what can be trained, and
that each optimiser holds the parameters of its network. After the first step: the settings that every
optimiser group has used, against those in force. A difference is journalled and ends the run at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from safelight.config import UserError
from safelight.engine.adapters import held
from safelight.engine.optim import rates
from safelight.engine.plan import Plan, Rate
from safelight.engine.sharded import ShardedState
from safelight.engine.state import State
from safelight.store.journal_writer import JournalWriter
from safelight.types import Phase

NAMED = 3


@dataclass(frozen=True)
class TensorDifference:
    """Something that is not as it should be. code: its section in docs/checks.md."""

    code: str
    text: str


def trainable(nets: Mapping[str, nn.Module]) -> dict[str, int]:
    """How many numbers of each network can be trained."""
    return {name: sum(p.numel() for p in net.parameters() if p.requires_grad) for name, net in nets.items()}


def loaded(
    state: State, groups: Mapping[str, Mapping[str, Tensor]], was_trainable: Mapping[str, int]
) -> list[TensorDifference]:
    """What of a loaded state differs from its checkpoint.

    was_trainable: `trainable` when the checkpoint was made; networks it does not name are not compared.
    """
    return [*_tensors(state, groups), *_trainable(state, was_trainable), *_parameters(state)]


def in_force(state: State | ShardedState, plan: Plan, used: Mapping[str, Rate]) -> list[TensorDifference]:
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
                if key in group["follows"] and group[key] != value:
                    differences.append(
                        TensorDifference(
                            "resume-settings",
                            f"{name}, group {number}: {key} is {group[key]!r}, in force is {value!r}",
                        )
                    )
    return differences


def _tensors(state: State, groups: Mapping[str, Mapping[str, Tensor]]) -> Iterator[TensorDifference]:
    for group, mine in state.groups().items():
        stored = groups.get(group, {})
        wrong = [name for name, tensor in mine.items() if not _same(tensor, stored.get(name))]
        if wrong:
            more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            code = "resume-optimiser" if group == "optimisers" else "resume-weights"
            yield TensorDifference(
                code, f"{group}: {', '.join(wrong[:NAMED])}{more} are not the checkpoint's"
            )


def _same(mine: Tensor, stored: Tensor | None) -> bool:
    """Equal bits, or both not-a-number."""
    if stored is None:
        return False
    stored = stored.to(mine.device, mine.dtype)
    return torch.equal(mine, stored) or bool(torch.allclose(mine, stored, rtol=0, atol=0, equal_nan=True))


def _trainable(state: State, was: Mapping[str, int]) -> Iterator[TensorDifference]:
    now = trainable(state.nets)
    for name, count in was.items():
        if now.get(name, 0) != count:
            yield TensorDifference(
                "resume-frozen",
                f"{name}: {now.get(name, 0):,} of its parameters can be trained, {count:,} could when the "
                "checkpoint was made",
            )


def _parameters(state: State) -> Iterator[TensorDifference]:
    for name, optimiser in state.optimisers.items():
        if optimiser.held != {id(p) for p in state.nets[name].parameters() if not held(p)}:
            yield TensorDifference(
                "resume-optimiser", f"{name}: its optimiser holds other tensors than its own"
            )


class Audit:
    """Looks twice: at what was loaded, and at what the first step after it used."""

    def __init__(
        self, state: State, groups: Mapping[str, Mapping[str, Tensor]], trainable: Mapping[str, int]
    ) -> None:
        """trainable: as the checkpoint records it. Raises UserError where the state is another."""
        self.step = state.step
        self.due = True
        _refuse(self.step, loaded(state, groups, trainable), None)

    def after_first_step(
        self, state: State | ShardedState, plan: Plan, phases: Sequence[Phase], writer: JournalWriter | None
    ) -> None:
        """Settings that the optimisers used against those in force. Raises UserError where they differ."""
        self.due = False
        used = rates(plan, phases, self.step)
        _refuse(self.step, in_force(state, plan, used), writer)
        if writer:
            facts = {"trainable": trainable(state.nets), "lr": {name: rate.lr for name, rate in used.items()}}
            writer.append("audit", {"step": self.step, "differences": [], **facts})


def _refuse(step: int, differences: Sequence[TensorDifference], writer: JournalWriter | None) -> None:
    if not differences:
        return
    if writer:
        entries = [{"code": difference.code, "told": difference.text} for difference in differences]
        writer.append("audit", {"step": step, "differences": entries})
    text = "; ".join(f"{difference.code}: {difference.text}" for difference in differences)
    raise UserError(
        f"resumed at step {step}, and not as it was ({text}); nothing is trained on it. Look for code that "
        "builds or loads networks and optimisers otherwise than the run began, then resume again"
    )
