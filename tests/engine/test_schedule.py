"""Schedules against their formulas."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from pydantic import ValidationError

from safelight.engine.plan import Optim, Ramp, weight_at


def test_warmup_then_cosine():
    optim = Optim(lr=2.0, warmup=4, schedule="cosine", final=0.1)
    assert [optim.lr_at(step, 104) for step in range(4)] == [0.5, 1.0, 1.5, 2.0]
    for step in (4, 30, 104):
        progress = (step - 4) / 100
        assert optim.lr_at(step, 104) == pytest.approx(
            2 * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)
        )
    assert optim.lr_at(500, 104) == pytest.approx(0.2)  # beyond the plan it stays


def test_exponential_reaches_a_tenth_at_the_end():
    optim = Optim(lr=1e-3, schedule="exponential", final=0.1)
    assert optim.lr_at(0, 100) == 1e-3
    assert optim.lr_at(50, 100) == pytest.approx(1e-3 / math.sqrt(10))
    assert optim.lr_at(100, 100) == pytest.approx(1e-4)


def test_step_holds_then_drops_every_interval():
    optim = Optim(lr=1.0, schedule="step", hold=4, interval=2, factor=0.5)
    assert [optim.lr_at(step, 99) for step in range(9)] == [1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.25]


def test_decay_by_the_epoch_agrees_with_torch():
    """A tenth over 20 epochs of 12.5 steps; and constant for 4 epochs, then x 0.99 an epoch."""
    epoch = Fraction(1600, 128)
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.ExponentialLR(adam, 0.1 ** (1 / 20))
    exponential = Optim(lr=1.0, schedule="exponential", final=0.1, unit="epoch")
    held = Optim(lr=1.0, schedule="step", hold=4, interval=1, factor=0.99, unit="epoch")
    for number in range(20):
        for step in range(math.ceil(number * epoch), math.ceil((number + 1) * epoch)):
            assert exponential.lr_at(step, 250, epoch) == pytest.approx(adam.param_groups[0]["lr"])
            assert held.lr_at(step, 250, epoch) == pytest.approx(0.99 ** max(number - 4, 0))
        adam.step()
        reference.step()


def test_linear_and_constant():
    assert Optim(lr=1.0, schedule="linear", final=0.5).lr_at(50, 100) == 0.75
    assert Optim(lr=1.0).lr_at(99, 100) == 1.0


def test_one_cycle_agrees_with_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    adam = torch.optim.Adam([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(adam, 1.0, total_steps=1000)
    optim = Optim(lr=1.0, schedule="one-cycle", betas=(0.5, 0.999), cycle_beta1=(0.85, 0.95))
    assert Optim(schedule="one-cycle", betas=(0.8, 0.9)).betas_at(300, 1000) == (0.8, 0.9)
    for step in range(1000):
        assert optim.lr_at(step, 1000) == pytest.approx(adam.param_groups[0]["lr"], abs=6e-3)
        assert optim.betas_at(step, 1000) == pytest.approx(adam.param_groups[0]["betas"], abs=6e-4)
        adam.step()
        reference.step() if step < 999 else None


def test_ramps():
    ramp = Ramp(begin=1.0, end=3.0, after=10, over=20)
    assert [weight_at(ramp, step) for step in (0, 10, 20, 30, 99)] == [1, 1, 2, 3, 3]
    assert Ramp(after=0, over=4, shape="cosine").at(1) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    assert weight_at(0.5, 7) == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedule": "exponential"},
        {"betas": [0.9, 1.0]},
        {"lr": -1.0},
        {"cycle_beta1": [0.85, 0.95]},
        {"schedule": "one-cycle", "cycle_beta1": [0.95, 0.85]},
    ],
)
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ValidationError):
        Optim(**wrong)


def test_wsd_is_constant_then_falls_as_one_minus_a_root():
    optim = Optim(lr=2.0, warmup=10, schedule="wsd", decay=0.2, final=0.1)
    assert optim.lr_at(4, 100) == 1.0
    assert {optim.lr_at(step, 100) for step in range(10, 81)} == {2.0}
    assert optim.lr_at(85, 100) == pytest.approx(2 * (0.1 + 0.9 * 0.5))  # 1 - sqrt(5 / 20)
    assert optim.lr_at(100, 100) == pytest.approx(0.2)
    assert optim.lr_at(80, 200) == 2.0  # does not depend on the length before it falls


def test_a_schedule_that_begins_later_is_shifted():
    optim = Optim(lr=1.0, warmup=4, schedule="cosine", final=0.1)
    later = optim.model_copy(update={"start": 50})
    assert [later.lr_at(50 + step, 150) for step in range(100)] == [optim.lr_at(s, 100) for s in range(100)]
