"""The equations of MeanFlow: targets of intervals, their limit, steps of any length with an ideal network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from safelight.config import UserError
from safelight.methods.meanflow import MeanFlow, MeanFlowConfig, MeanFlowSampling, over
from safelight.networks.unet import UNetConfig
from safelight.randomness import RowDraw
from safelight.types import Batch, Condition, DataSpec, Moment

SHAPE = (1, 4, 4)
STD = 0.5
SPEC = DataSpec(SHAPE, {"label": Condition("label", 2)})


class Ideal(nn.Module):
    """The average velocity of images N(0, STD²), whose paths are known: x_r = x_t √(var_r / var_t)."""

    def forward(self, x, times, given, present):
        t, length = times[:, :1, None, None], times[:, 1:, None, None]
        r = t - length
        exact = (1 - (variance(r) / variance(t)).sqrt()) / length.clamp(min=1e-9) * x
        slope = (t - (1 - t) * STD**2) / variance(t) * x  # d log √var / dt
        return torch.where(length < 1e-6, slope, exact)


def variance(t):
    return (1 - t) ** 2 * STD**2 + t**2


def method(**config) -> MeanFlow:
    made = MeanFlow(
        MeanFlowConfig(**config), {"denoiser": UNetConfig(width=8, multipliers=(1,), interval=True)}
    )
    made.shape = SHAPE
    return made


def batch(count: int, x: torch.Tensor | None = None) -> Batch:
    draw = RowDraw(3, 0, "data", range(count))
    x = STD * draw.normal("x", *SHAPE) if x is None else x
    return Batch(
        x, {"label": draw.integers("y", 2)}, torch.ones(count, dtype=torch.bool), range(count), count
    )


def moment(count: int, interval: float = 0.5) -> Moment:
    weights = {"velocity": 0.5, "interval": interval}
    return Moment(0, RowDraw(3, 0, "average", range(count)), {}, weights, lambda value: value, torch.no_grad)


def test_one_step_is_exact_with_the_true_average_velocity():
    ε = torch.randn(64, *SHAPE, dtype=torch.float64)
    none = {"label": torch.zeros(64, dtype=torch.long)}, torch.zeros(64, dtype=torch.bool)
    for steps in (1, 2, 5):
        x = method().sample({"denoiser": Ideal()}, ε, *none, None, MeanFlowSampling(steps=steps, clip=False))
        torch.testing.assert_close(x, STD * ε)


@pytest.mark.parametrize(("t", "r"), [(0.9, 0.1), (1.0, 0.0), (0.5, 0.3)])
def test_the_target_of_an_interval_is_its_average_velocity_in_the_mean(t, r):
    """Over images that lead to the same x_t, with an error that falls as `step` does."""
    count = 200_000
    draw = torch.Generator().manual_seed(1)
    x_t = torch.full((count, 1, 1, 1), 0.7)
    # p(x | x_t) of Gaussian images
    mean, var = (1 - t) * STD**2 / variance(torch.tensor(t)) * 0.7, STD**2 * t**2 / variance(torch.tensor(t))
    x = mean + var.sqrt() * torch.randn(count, 1, 1, 1, generator=draw)
    v = (x_t - x) / t
    ends = torch.full((count,), r), torch.full((count,), t)
    rows = torch.arange(count)
    exact = Ideal()(x_t[:1], torch.tensor([[t, t - r]]), {}, None).item()
    errors = []
    for step in (0.2, 0.02):
        target = method(step=step).target({"denoiser": Ideal()}, x_t, v, *ends, {}, rows >= 0, rows)
        errors.append(abs(target.mean().item() - exact))
    assert errors[1] < 0.3 * errors[0] + 0.004
    assert errors[1] < 0.02 * max(1, abs(exact))


def test_rows_are_shared_between_velocity_and_intervals():
    part = batch(64)
    values, _ = method(intervals=0.25, damping=0).loss({"denoiser": Ideal()}, part, moment(64))
    assert 8 <= (values["interval"] > 0).sum() == 64 - (values["velocity"] > 0).sum() <= 24
    assert not ((values["velocity"] > 0) & (values["interval"] > 0)).any()


def test_without_a_weight_of_intervals_every_row_trains_the_velocity():
    part = batch(64)
    values, _ = method(damping=0, condition_dropout=0).loss(
        {"denoiser": Ideal()}, part, moment(64, interval=0.0)
    )
    assert (values["velocity"] > 0).all()
    assert not values["interval"].any()


def test_the_mean_of_both_components_does_not_depend_on_the_share():
    part = batch(512)
    few, many = (
        method(intervals=share, damping=0)
        .loss({"denoiser": Ideal()}, part, moment(512))[0]["velocity"]
        .mean()
        for share in (0.25, 0.75)
    )
    torch.testing.assert_close(few, many, rtol=0.1, atol=0)


def test_damping_divides_by_the_error_and_is_no_part_of_the_gradient():
    scale = nn.Parameter(torch.tensor(0.5))
    net = lambda x, times, given, present: scale * x  # noqa: E731
    part = batch(16)
    plain, _ = method(damping=0).loss({"denoiser": net}, part, moment(16, 0.0))
    damped, _ = method(damping=1).loss({"denoiser": net}, part, moment(16, 0.0))
    torch.testing.assert_close(damped["velocity"], plain["velocity"] / (plain["velocity"] + 1e-3))
    (slope,) = torch.autograd.grad(plain["velocity"][0], scale, retain_graph=True)
    (less,) = torch.autograd.grad(damped["velocity"][0], scale)
    torch.testing.assert_close(less, slope / (plain["velocity"][0].detach() + 1e-3))


def test_guidance_moves_the_velocity_away_from_the_unconditional_one():
    part = batch(8)
    v, x_t = torch.ones(8, *SHAPE), torch.zeros(8, *SHAPE)
    net = lambda x, times, given, present: torch.full_like(x, 0.25)  # noqa: E731
    ends = torch.full((8,), 0.5), torch.full((8,), 0.5)
    present = torch.arange(8) < 4
    rows = torch.zeros(0, dtype=torch.long)
    target = method(guidance=2.0).target({"denoiser": net}, x_t, v, *ends, part.given, present, rows)
    assert target[:4].unique().tolist() == [1.75]  # .25 + 2 (1 - .25)
    assert target[4:].unique().tolist() == [1.0]


def test_a_network_without_the_length_of_a_step_is_refused():
    made = MeanFlow(MeanFlowConfig(), {"denoiser": UNetConfig(width=8)})
    with pytest.raises(UserError, match="interval = true"):
        made.networks(SPEC)


def test_the_network_sees_the_length_of_a_step():
    net = UNetConfig(width=8, multipliers=(1,), interval=True).build(SPEC)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, given = torch.randn(2, *SHAPE), {"label": torch.zeros(2, dtype=torch.long)}
    times = torch.tensor([[0.5, 0.0], [0.5, 0.4]])
    out = net(x[:1].expand(2, *SHAPE), times, given, torch.ones(2, dtype=torch.bool))
    assert over(times[:, 0]).shape == (2, 1, 1, 1)
    assert not torch.allclose(out[0], out[1])
