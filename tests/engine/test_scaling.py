"""Loss scaling of fp16: the arithmetic of torch's GradScaler, state that a checkpoint keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_loop import CPU, assert_equal, bits, job

import toys
from safelight.engine import scaling
from safelight.engine.loop import Signals, Stop, train
from safelight.engine.precision import Execution, autocast, candidates
from safelight.engine.scaling import LossScale


def test_the_scale_follows_gradscaler(monkeypatch):
    """Over good and bad steps, from torch.amp.GradScaler on the same gradients."""
    monkeypatch.setattr(scaling, "INTERVAL", 3)
    theirs = torch.amp.GradScaler("cpu", init_scale=scaling.FIRST, growth_interval=3)
    parameter = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.SGD([parameter], lr=0.0)
    scale, seen = LossScale(CPU), []
    for bad in (False, False, False, True, False, True, True, False, False, False, False, False, False):
        factor = torch.inf if bad else 0.5
        theirs.scale((parameter * factor).sum()).backward()
        gradient = parameter.grad.clone()
        theirs.step(optimiser)
        theirs.update()
        optimiser.zero_grad()
        scale.unscale([gradient])
        assert bad or gradient.tolist() == [0.5, 0.5]
        scale.update([gradient.norm(), torch.tensor(1.0)])
        seen.append(float(scale.scale))
        assert seen[-1] == theirs.get_scale()
    assert len(set(seen)) > 3


@pytest.mark.parametrize("make", [toys.ToyGan, toys.ToyContrast])
def test_a_run_in_fp16_is_resumed_to_the_bit_with_its_scales(monkeypatch, make):
    monkeypatch.setattr(scaling, "FIRST", 2.0**40)  # so large that the first steps are bad
    monkeypatch.setattr(scaling, "INTERVAL", 2)
    plan = toys.plan(make(), steps=24)
    whole, _ = job(make(), plan, "fp16")
    train(whole)

    def stop_at_eleven(signals: Signals) -> None:
        if first.state.step == 11:
            raise Stop

    first, _ = job(make(), plan, "fp16", stop_at_eleven)
    with pytest.raises(Stop):
        train(first)
    saved = {group: {name: t.clone() for name, t in tensors.items()}
             for group, tensors in first.state.groups().items()}  # fmt: skip
    second, _ = job(make(), plan, "fp16")
    second.state.load(saved, 11)
    train(second)
    assert_equal(second.state, whole.state)
    scales = whole.state.groups()["scales"]
    assert scales.keys() == {f"{phase.name}.{key}" for phase in make().phases for key in ("scale", "good")}
    assert min(float(value) for key, value in scales.items() if key.endswith("scale")) < 2.0**40


def test_a_bad_step_changes_no_weight(monkeypatch):
    monkeypatch.setattr(scaling, "FIRST", 2.0**100)
    made, records = job(toys.ToyContrast(), toys.plan(toys.ToyContrast(), steps=1), "fp16")
    before = bits(made.state)
    train(made)
    assert not math.isfinite(float(records[0].scalars["grad_norm/encoder"]))
    after = bits(made.state)
    assert [
        name for name in before if name.startswith("networks") and not torch.equal(before[name], after[name])
    ] == []
    assert float(after["scales.encode.scale"]) == 2.0**99


def test_gradients_below_the_range_of_fp16_are_kept():
    """Weights of 1e-7 on the loss would leave none in fp16: its smallest number is 6e-8."""

    def norm(precision: str) -> float:
        plan = replace(toys.plan(toys.ToyContrast(), steps=1), weights={"contrast": 1e-7, "scale": 0.0})
        made, records = job(toys.ToyContrast(), plan, precision)
        train(made)
        return float(records[0].scalars["grad_norm/encoder"])

    assert norm("fp16") == pytest.approx(norm("fp32"), rel=0.02)


def test_a_run_goes_on_in_another_precision():
    """From fp16 the scales are left behind; to fp16 they begin anew."""
    plan = toys.plan(toys.ToyGan())
    made, _ = job(toys.ToyGan(), replace(plan, steps=3), "fp16")
    train(made)
    other, _ = job(toys.ToyGan(), plan)
    other.state.load(made.state.groups(), 3)
    train(other)
    again, _ = job(toys.ToyGan(), replace(plan, steps=14), "fp16")
    again.state.load({name: group for name, group in other.state.groups().items() if name != "scales"}, 12)
    train(again)
    assert float(again.state.scales["generate"].scale) == scaling.FIRST


def test_autocast_to_fp16():
    with autocast(CPU, "fp16")():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float16
    with autocast(CPU, "fp32")():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(("bf16", "half"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_without_bf16_is_tried_in_fp16(monkeypatch, bf16, half):
    monkeypatch.setattr("safelight.engine.precision._has_bf16", lambda device: bf16)
    cuda = torch.device("cuda")
    options = candidates(cuda, "auto", "auto")
    assert [option.precision for option in options] == ["fp32", half, half, "fp32"]
    assert candidates(cuda, "fp16", "channels_last") == [Execution("fp16", "channels_last")]
    assert all(option.precision != "fp16" for option in candidates(CPU, "auto", "auto"))
