"""Where a run is trained on: the learning rate does not jump there without being told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from safelight.config import UserError
from safelight.recipe import Recipe
from safelight.store.inbox import LENGTH

Join = Literal["constant", "restart", "extend"]
LOW = 1e-3  # of the peak: to go on at such a rate trains nothing
STATED = ("schedule", "start", "lr")  # keys of [optim] that choose the course themselves


def joined(
    recipe: Recipe, images: int, step: int, changes: Mapping[str, Any], join: str | None = None
) -> tuple[dict[str, Any], str]:
    """Changes with those that choose the learning rate from `step` on, and a line about it; "" for none.

    recipe: in force before. constant: the rate stays where it is; restart: warm-up and schedule begin again;
    extend: the rate is that of a run planned for the new length. Nothing is added where the length is not
    changed, or the schedule does not depend on it here. Raises UserError where none is chosen and the rate
    has fallen to nothing.
    """
    if join is not None and join not in get_args(Join):
        raise UserError(f"--schedule {join}: is not a valid choice; use {', '.join(get_args(Join))}")
    optim_keys = {key.rsplit(".", 1)[-1] for key in changes if key.startswith("optim.")}
    if not any(key in LENGTH for key in changes) or optim_keys & {*STATED}:
        return dict(changes), ""
    before, after = recipe.plan(images), recipe.with_changes(changes).plan(images)
    flat = "kind" in recipe.tree["optim"]
    added: dict[str, Any] = {}
    lines = []
    for name, optim in before.optim.items():
        last = min(step, before.steps - 1)
        rate = optim.lr_at(last, before.steps, before.epoch)
        longer, planned, used = (
            (optim.lr_at(at, plan.steps, plan.epoch), optim.betas_at(at, plan.steps))
            for at, plan in ((step, after), (step, before), (last, before))
        )
        if join != "restart" and longer in (planned, used):
            continue
        anew = optim.model_copy(update={"start": step})
        first = {"constant": rate, "extend": longer[0], "restart": anew.lr_at(step, after.steps, after.epoch)}
        if join is None and rate < LOW * optim.lr:
            raise UserError(
                f"train.steps: the learning rate fell to {rate:.3g} ({optim.schedule}); choose --schedule"
                f" extend (goes on at {first['extend']:.3g}), restart (at {first['restart']:.3g}) or constant"
            )
        chosen = join or "constant"
        others = ", ".join(f"{word} {first[word]:.3g}" for word in first if word != chosen)
        of = "" if flat else f" of {name}"
        peak = f", {rate / optim.lr:.2g} of its peak" if chosen == "constant" and optim.lr else ""
        lines.append(
            f"learning rate{of}: {rate:.3g} before step {step:,}, {first[chosen]:.3g} from there "
            f"(--schedule {chosen}{peak}; others: {others})"
        )
        keys: dict[str, Any] = {"schedule": optim.schedule}
        if chosen == "restart":
            keys["start"] = step
        elif chosen == "constant":
            keys = {"schedule": "constant", "lr": rate, "warmup": 0, "start": 0}
            if optim.cycle_beta1:
                keys |= {"cycle_beta1": None, "betas": list(optim.betas_at(last, before.steps))}
        added |= {f"optim.{key}" if flat else f"optim.{name}.{key}": value for key, value in keys.items()}
    return {**changes, **added}, "; ".join(lines)
