"""The audit of a resumed session: what it found is journalled, and a difference ends the run at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from torch import Tensor

from safelight.config import UserError
from safelight.engine import audit
from safelight.engine.audit import Difference
from safelight.engine.optim import rates
from safelight.engine.plan import Plan
from safelight.engine.state import State
from safelight.store.journal import JournalWriter
from safelight.types import Phase


class Audit:
    """Looks twice: at what was loaded, and at what the first step after it used."""

    def __init__(
        self, state: State, groups: Mapping[str, Mapping[str, Tensor]], trainable: Mapping[str, int]
    ) -> None:
        """trainable: as the checkpoint records it. Raises UserError where the state is another."""
        self.step = state.step
        self.due = True
        _refuse(self.step, audit.loaded(state, groups, trainable), None)

    def after_first_step(
        self, state: State, plan: Plan, phases: Sequence[Phase], writer: JournalWriter | None
    ) -> None:
        """Settings that the optimisers used against those in force. Raises UserError where they differ."""
        self.due = False
        used = rates(plan, phases, self.step)
        _refuse(self.step, audit.in_force(state, plan, used), writer)
        if writer:
            facts = {
                "trainable": audit.trainable(state.nets),
                "lr": {name: rate.lr for name, rate in used.items()},
            }
            writer.append("audit", {"step": self.step, "differences": [], **facts})


def _refuse(step: int, differences: Sequence[Difference], writer: JournalWriter | None) -> None:
    if not differences:
        return
    if writer:
        plain = [asdict(one) for one in differences]
        writer.append("audit", {"step": step, "differences": plain})
    told = "; ".join(f"{one.code}: {one.told}" for one in differences)
    raise UserError(
        f"resumed at step {step}, and not as it was ({told}); nothing is trained on it. Look for code that "
        "builds or loads networks and optimisers otherwise than the run began, then resume again"
    )
