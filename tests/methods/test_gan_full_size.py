"""System 3 at its full size: one step at 1024x1024."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from safelight.data.space import Space
from safelight.data.synthetic.skylines import draw
from safelight.engine.loop import Job, StepRecord, train
from safelight.engine.state import State
from safelight.recipe import load
from safelight.types import Batch, DataSpec

SPEC = DataSpec((3, 1024, 1024))
BELOW = 0.1  # how far the losses of two networks that know nothing yet may be from log 2


class OneSkyline:
    """The same drawn skyline at every step."""

    def parts(self, step: int, accumulate: int, rank: int, world: int) -> list[Batch]:
        pixels = torch.from_numpy(np.asarray(draw(4, 1024, 1024).finished()).copy())[None]
        return [Batch(Space().from_pixels(pixels), {}, torch.zeros(1, dtype=torch.bool), range(1), 1)]


@pytest.mark.slow
def test_one_step_at_1024_pixels():
    """Of batch 1: about 10 GB of memory. All that system 3 logs is logged, and both networks move."""
    recipe = load("skylines", {"train.batch_size": 1})
    plan = replace(recipe.plan(261), steps=1)
    method = recipe.method()
    state = State(method, SPEC, plan, torch.device("cpu"), "contiguous")
    before = {name: next(net.parameters()).detach().clone() for name, net in state.nets.items()}
    records: list[StepRecord] = []
    train(Job(method, state, OneSkyline(), lambda step: plan, records.append, lambda signals: None))
    scalars = {name: float(value) for name, value in records[0].scalars.items()}
    assert scalars.keys() >= {"d1", "d2", "g", "seen/accuracy_real", "seen/accuracy_fake",
                              "grad_norm/generator", "grad_norm/discriminator"}  # fmt: skip
    for name in ("d1", "d2", "g"):
        assert scalars[name] == pytest.approx(np.log(2), abs=BELOW)
    assert scalars["grad_norm/generator"] > 0
    assert scalars["grad_norm/discriminator"] > 0
    for name, net in state.nets.items():
        moved = (next(net.parameters()).detach() - before[name]).abs()
        assert 0 < float(moved.max()) <= 2.1 * 5e-5  # Adam's steps of lr: two of them for the discriminator
