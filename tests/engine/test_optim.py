"""The optimiser is torch's, told its settings anew at every step."""

from __future__ import annotations

import sys
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

import safelight as sl
from safelight.config import UserError
from safelight.engine.ema import Averages
from safelight.engine.further_optimisers import PACKAGES
from safelight.engine.optim import NetworkOptimiser, lazy_correction, rates
from safelight.engine.plan import Optim, Plan, Ramp, Rate, Train
from safelight.types import Phase


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.SiLU(), nn.Linear(8, 3))


def gradients(net: nn.Module, step: int, scale: float = 1.0) -> None:
    torch.manual_seed(100 + step)
    for parameter in net.parameters():
        parameter.grad = scale * torch.randn_like(parameter)


def rate(step: int, settings: Optim) -> Rate:
    return Rate(0.01 * (1 + step % 3), settings.betas)


def values(net: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in net.parameters()]


@pytest.mark.parametrize(("kind", "theirs"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
@pytest.mark.parametrize("clip", [0.0, 0.5, 1e3])
def test_equal_to_torch_bit_for_bit_at_every_step(kind, theirs, clip):
    """With a rate that changes from step to step, decayed weights and clipped gradients."""
    settings = Optim(kind=kind, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, clip=clip)
    net, reference = network(), network()
    optimiser = NetworkOptimiser(net, kind)
    other = theirs(reference.parameters(), lr=0.0, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, fused=True)
    for step in range(8):
        gradients(net, step)
        gradients(reference, step)
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in reference.parameters()])
        if clip:
            torch.nn.utils.clip_grad_norm_(reference.parameters(), clip)
        other.param_groups[0]["lr"] = rate(step, settings).lr
        other.step()
        assert float(optimiser.step(settings, rate(step, settings))) == float(norm)
        assert optimiser.lr == rate(step, settings).lr
        assert all(map(torch.equal, values(net), values(reference)))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_clipped_gradient_has_the_norm_it_is_clipped_to():
    """Adam hides the size of a gradient; its first moment after one step is (1 - beta1) times it."""
    net = network()
    optimiser = NetworkOptimiser(net, "adam")
    gradients(net, 0, scale=50.0)
    norm = optimiser.step(Optim(kind="adam", clip=0.25), Rate(0.0, (0.9, 0.99)))
    assert float(norm) > 100
    moments = [value for name, value in optimiser.tensors().items() if name.endswith("exp_avg")]
    clipped = torch.nn.utils.get_total_norm(moments) / (1 - 0.9)
    assert float(clipped) == pytest.approx(0.25, rel=1e-4)


def phase(name: str, every: int = 1, *trains: str) -> Phase:
    return Phase(name, trains or ("d",), lambda nets, batch, moment: ({}, {}), every)


@pytest.mark.parametrize(
    ("phases", "factor"),
    [
        ([phase("d"), phase("r1", 16)], 16 / 17),
        ([phase("d1"), phase("d2"), phase("r1", 16)], 32 / 33),
        ([phase("d"), phase("r1", 16), phase("path", 4)], 16 / 21),
        ([phase("d"), phase("g", 1, "g"), phase("r1", 16)], 16 / 17),
        ([phase("d")], 1.0),
        ([phase("r1", 16)], 1.0),  # lazy alone: nothing to share the steps with
        ([phase("g", 1, "g"), phase("penalise g", 8, "g")], 1.0),
    ],
)
def test_lazy_correction(phases, factor):
    assert lazy_correction("d", phases, {}) == pytest.approx(factor, rel=1e-12)


def test_lazy_correction_is_on_the_rate_and_in_the_exponent_of_the_betas():
    """Karras 2020, appendix B: lr' = c lr, beta' = beta^c."""
    c = 16 / 17
    settings = Optim(kind="adam", lr=0.0025, betas=(0.5, 0.99))
    phases = [phase("d"), phase("r1", 16)]
    plan = Plan(9, Train(steps=9), {"d": settings}, {})
    net, reference = network(), network()
    optimiser = NetworkOptimiser(net, "adam")
    other = torch.optim.Adam(reference.parameters(), lr=c * 0.0025, betas=(0.5**c, 0.99**c), fused=True)
    for step in range(4):
        gradients(net, step)
        gradients(reference, step)
        optimiser.step(settings, rates(plan, phases, step)["d"])
        other.step()
    assert optimiser.lr == c * 0.0025
    assert all(map(torch.equal, values(net), values(reference)))


def test_a_penalty_counts_while_its_weight_is_not_0():
    """Two phases of every step and one of every 16: 32/33 from step 5 on, where a ramp begins to weigh."""
    lazy = Phase("penalise", ("d",), phase("").losses, 16, components=("r1", "r2"))
    optim = {"d": Optim(lr=5e-5, betas=(0.5, 0.999)), "g": Optim(lr=1e-4)}
    weights = {"r1": 0.0, "r2": Ramp(begin=0.0, end=1.0, after=4, over=10)}
    plan = Plan(20, Train(steps=20), optim, weights)
    phases = [phase("d1"), phase("d2"), lazy, phase("g", 1, "g")]
    assert rates(plan, phases, 4) == {"d": (5e-5, (0.5, 0.999)), "g": (1e-4, (0.9, 0.99))}
    c = 32 / 33
    assert rates(plan, phases, 5)["d"] == (pytest.approx(5e-5 * c), pytest.approx((0.5**c, 0.999**c)))
    assert rates(plan, phases, 5)["g"] == (1e-4, (0.9, 0.99))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("kind", get_args(Optim.model_fields["kind"].annotation))
def test_a_step_that_is_not_finite_changes_nothing(bad, clip, kind):
    net = network()
    optimiser = NetworkOptimiser(net, kind)
    settings = Optim(kind=kind, clip=clip, weight_decay=0.1)
    gradients(net, 0)
    optimiser.step(settings, Rate(0.01, settings.betas))
    before = [*values(net), *(value.clone() for value in optimiser.tensors().values())]
    gradients(net, 1)
    net[0].weight.grad[2, 3] = bad
    assert not torch.isfinite(optimiser.step(settings, Rate(0.01, settings.betas)))
    assert all(map(torch.equal, before, [*values(net), *optimiser.tensors().values()]))
    gradients(net, 2)
    optimiser.step(settings, Rate(0.01, settings.betas))  # and the next one is taken
    assert not torch.equal(net[0].weight, before[0])


KINDS = get_args(Optim.model_fields["kind"].annotation)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def convolutions(layout: torch.memory_format = torch.contiguous_format) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(5, 4), nn.Conv2d(4, 6, 3), nn.Linear(6, 3))
    return net.to(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_muon_is_torchs_on_flattened_convolutions_and_adamw_on_the_rest(layout):
    settings = Optim(kind="muon", weight_decay=0.1)
    net, reference = convolutions(layout), convolutions()
    optimiser = NetworkOptimiser(net, "muon")
    table, kernel, bias, matrix, last = reference.parameters()
    flat = nn.Parameter(kernel.detach().flatten(1).clone())
    muon = torch.optim.Muon([flat, matrix], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW([table, bias, last], lr=0.01, betas=settings.betas, weight_decay=0.1, fused=True)
    for step in range(3):
        gradients(net, step)
        gradients(reference, step)
        for mine, theirs in zip(net.parameters(), reference.parameters(), strict=True):
            mine.grad.copy_(theirs.grad)
        flat.grad = kernel.grad.flatten(1)
        optimiser.step(settings, Rate(0.01, settings.betas))
        muon.step()
        adam.step()
    expected = [table, flat.view_as(kernel), bias, matrix, last]
    assert optimiser.held == {id(parameter) for parameter in net.parameters()}
    for mine, theirs in zip(values(net), expected, strict=True):
        # columns in another order are summed in another order, and Muon orthogonalises in bfloat16
        torch.testing.assert_close(mine, theirs.detach(), rtol=0, atol=0 if layout == LAYOUTS[0] else 2e-3)


def test_adafactor_keeps_a_row_and_a_column_of_a_convolution():
    tensors = NetworkOptimiser(convolutions(), "adafactor").tensors()
    assert tensors["1.row_var"].shape == (6, 1)
    assert tensors["1.col_var"].shape == (1, 36)
    assert tensors["2.variance"].shape == (6,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_state_is_there_from_the_start_and_keeps_its_names_and_shapes(kind, layout):
    net = convolutions(layout)
    optimiser = NetworkOptimiser(net, kind)
    before = {name: (value.shape, value.dtype) for name, value in optimiser.tensors().items()}
    gradients(net, 0)
    optimiser.step(Optim(kind=kind), Rate(0.01, (0.9, 0.99)))
    assert {name: (value.shape, value.dtype) for name, value in optimiser.tensors().items()} == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", [network, convolutions])
def test_copied_state_goes_on_as_if_never_left(kind, network):
    settings = Optim(kind=kind, clip=1.0)
    net, other = network(), network()
    trained, fresh = NetworkOptimiser(net, kind), NetworkOptimiser(other, kind)
    for step in range(3):
        gradients(net, step)
        trained.step(settings, Rate(0.01, settings.betas))
    with torch.no_grad():
        for mine, theirs in zip(other.parameters(), net.parameters(), strict=True):
            mine.copy_(theirs)
        for name, tensor in fresh.tensors().items():
            tensor.copy_(trained.tensors()[name])
    for module, optimiser in ((net, trained), (other, fresh)):
        gradients(module, 3)
        optimiser.step(settings, Rate(0.02, settings.betas))
    assert all(map(torch.equal, values(net), values(other)))


def pair(kind, make=convolutions):
    """A network with its optimiser, and an equal network."""
    net, reference = make(), make()
    return net, NetworkOptimiser(net, kind), reference


def follow(net, optimiser, reference, theirs, settings, steps):
    """Both make the same steps, and are equal to the bit after each."""
    for step in range(steps):
        gradients(net, step)
        gradients(reference, step)
        optimiser.step(settings, rate(step, settings))
        for group in theirs.param_groups:
            group["lr"] = rate(step, settings).lr
        theirs.step()
        assert all(map(torch.equal, values(net), values(reference))), step


@pytest.mark.parametrize("layout", LAYOUTS)
def test_soap_is_the_packages_and_goes_on_to_the_bit_across_new_bases(layout):
    """The basis is renewed after 10 and 20 steps; the package's then has other strides and roundings."""
    from pytorch_optimizer import SOAP

    settings = Optim(kind="soap", weight_decay=0.1, eps=1e-6)
    resumed, whole, reference = convolutions(layout), convolutions(layout), convolutions(layout)
    resuming, other = NetworkOptimiser(resumed, "soap"), NetworkOptimiser(whole, "soap")
    theirs = SOAP(reference.parameters(), lr=0.01, betas=settings.betas, weight_decay=0.1, eps=1e-6)
    for step in range(23):
        for net in (resumed, whole, reference):
            gradients(net, step)
        fresh = NetworkOptimiser(resumed, "soap")
        for name, tensor in fresh.tensors().items():
            tensor.copy_(resuming.tensors()[name])
        resuming = fresh
        for optimiser in (resuming, other):
            optimiser.step(settings, Rate(0.01, settings.betas))
        theirs.step()
        assert all(map(torch.equal, values(resumed), values(whole))), step
        torch.testing.assert_close(values(whole), values(reference), rtol=0, atol=1e-5)
    assert {"1.Q.0", "1.Q.3", "3.GG.1", "step"} <= resuming.tensors().keys()
    assert "2.Q.0" not in resuming.tensors()  # of a vector


def test_schedule_free_is_the_packages_and_evaluates_its_average():
    from schedulefree import AdamWScheduleFree

    settings = Optim(kind="schedule-free", weight_decay=0.1, eps=1e-6)
    net, optimiser, reference = pair("schedule-free")
    theirs = AdamWScheduleFree(reference.parameters(), betas=settings.betas, weight_decay=0.1, eps=1e-6)
    theirs.train()
    assert all(torch.equal(optimiser.average()[id(p)], p) for p in net.parameters())
    follow(net, optimiser, reference, theirs, settings, 6)
    theirs.eval()
    for mine, x in zip(net.parameters(), reference.parameters(), strict=True):
        assert torch.equal(optimiser.average()[id(mine)], x)


def test_schedule_free_keeps_its_average_where_beta1_changes():
    """y = β1 x + (1 - β1) z moves to the new β1; with a rate of 0 nothing else does."""
    net, optimiser, _ = pair("schedule-free")
    for step in range(4):
        gradients(net, step)
        optimiser.step(Optim(kind="schedule-free"), Rate(0.01, (0.9, 0.99)))
    z, x = optimiser.tensors()["1.z"].clone(), optimiser.average()[id(net[1].weight)]
    gradients(net, 4)
    optimiser.step(Optim(kind="schedule-free", betas=(0.5, 0.99)), Rate(0.0, (0.5, 0.99)))
    weight = optimiser.tensors()["lr_max"] ** 2 / optimiser.tensors()["weight_sum"]  # with which z enters x
    moved = torch.lerp(x, z, float(weight))
    torch.testing.assert_close(optimiser.average()[id(net[1].weight)], moved)
    torch.testing.assert_close(net[1].weight.detach(), (moved + z) / 2)


def test_averages_are_those_of_a_schedule_free_optimiser():
    net, optimiser, _ = pair("schedule-free")
    averages = Averages({"n": net}, ["n"], 0.99, (0.1,), [optimiser.average])
    gradients(net, 0)
    optimiser.step(Optim(kind="schedule-free"), Rate(0.1, (0.9, 0.99)))
    averages.update(0)
    gradients(net, 1)
    optimiser.step(Optim(kind="schedule-free"), Rate(0.1, (0.9, 0.99)))
    averages.update(1)
    for live, average in zip(net.parameters(), averages.networks["n"].parameters(), strict=True):
        assert torch.equal(average, optimiser.average()[id(live)])
        assert not torch.equal(average, live)


@pytest.mark.parametrize("changed", [{"schedule": "cosine"}, {"betas": (0.0, 0.99)}])
def test_schedule_free_has_no_schedule_and_a_first_beta(changed):
    with pytest.raises(ValueError, match=r'needs schedule = "constant" and betas\[0\] above 0'):
        Optim(kind="schedule-free", **changed)


def test_8_bits_are_those_of_bitsandbytes():
    from bitsandbytes.optim import AdamW8bit

    settings = Optim(kind="adamw-8bit", weight_decay=0.1)
    net, optimiser, reference = pair(
        "adamw-8bit", lambda: nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 3))
    )
    with torch.no_grad():
        for mine, theirs in zip(net.parameters(), reference.parameters(), strict=True):
            theirs.copy_(mine)
    theirs = AdamW8bit(reference.parameters(), betas=settings.betas, weight_decay=0.1)
    follow(net, optimiser, reference, theirs, settings, 4)
    assert optimiser.tensors()["0.state1"].dtype == torch.uint8
    assert optimiser.tensors()["2.state1"].dtype == torch.float32  # 384 values


def test_8_bits_are_refused_without_cuda(tmp_path):
    """In one line, before anything is written."""
    with pytest.raises(UserError, match=r'^optim.kind = "adamw-8bit" needs a CUDA device, not cpu'):
        sl.train("digits", {"optim.kind": "adamw-8bit", "train.device": "cpu"}, runs=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "package"), PACKAGES.items())
def test_a_package_that_is_not_installed_is_named(kind, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf'^optim.kind = "{kind}" is an extra: .* -m pip install'):
        NetworkOptimiser(network(), kind)
