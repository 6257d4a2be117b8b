"""In a steady step the host never waits for the device: no blocking copy, no number read back."""

from __future__ import annotations

import pytest
import torch
from test_contract import job
from test_float64 import ready, recipe_of

from accelerator import DEVICE, Accelerator
from safelight import methods
from safelight.discovery import modules
from safelight.engine.loop import train
from safelight.engine.state import State

STEPS = 26
CASES = [
    *((name, {}) for name in modules(methods)),
    ("diffusion ddpm", {}),
    ("diffusion", {"data.flip": True}),
    ("gan", {"method.augment": "ada"}),
    ("textgan", {"method.mixing": 0.5, "method.path_every": 4, "method.penalty_every": 4}),
    ("vae", {"method.sigma": 0.1}),
    ("vae", {"loss.weights.mse": 100.0}),
]


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: bool((x > 1).any()),
        lambda x: x[x > 1],
        lambda x: x[torch.tensor([1])],
        lambda x: x + torch.tensor([1.0, 2, 3]).to(DEVICE),
        lambda x: x + torch.tensor([1.0, 2, 3], device=DEVICE),
        lambda x: x.copy_(torch.ones(3)),
        lambda x: (x > 1).nonzero(),
        lambda x: x.cpu(),
    ],
)
def test_every_kind_of_waiting_is_noted(wait):
    with Accelerator() as accelerator:
        x = torch.arange(3.0).to(DEVICE, non_blocking=True)
        y = x * 2.5 + torch.tensor(3.0)
        assert accelerator.waits == []
        wait(y)
        assert len(accelerator.waits) == 1


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_a_steady_step_waits_for_nothing(name, changes):
    """Of every family, with the parts that only some recipes use; constants are made in the first step."""
    recipe = recipe_of(name).with_changes({"train.batch_size": 8, **changes})
    with Accelerator() as accelerator:
        prepared = ready(recipe)
        made = job(recipe, STEPS)
        made.method, made.stream, made.device = prepared.method, prepared.stream, DEVICE
        made.state = State(prepared.method, prepared.stream.spec, made.plan_at(0), DEVICE, "contiguous")
        made.boundary = lambda signals: accelerator.waits.clear() if made.state.step == 1 else None
        train(made)
    assert accelerator.waits == []
