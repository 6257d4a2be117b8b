"""The equations of diffusion: targets, estimates, weights, and sampling with the ideal denoiser."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from safelight import samplers
from safelight.methods.diffusion import Diffusion, DiffusionConfig, DiffusionSampling, Guide, guided
from safelight.randomness import LEAST, MOST, RowDraw, interior
from safelight.types import Batch, Condition, DataSpec, Moment

SHAPE = (1, 4, 4)
SPEC = DataSpec(SHAPE, {"label": Condition("label", 2)})
KINDS = [(process, prediction) for process in ("flow", "ddpm") for prediction in ("v", "epsilon", "x0")]


class Gaussian(nn.Module):
    """The ideal network for images whose pixels are N(mean, std²), each class with a mean of its own."""

    def __init__(self, method: Diffusion, means=(-0.5, 0.5), std=0.3) -> None:
        super().__init__()
        self.method, self.means, self.std = method, torch.tensor([*means, sum(means) / 2]), std
        self.seen: list[torch.Tensor] = []

    def forward(self, x_t, t, given, present):
        self.seen.append(t)
        level = (
            self.method.process.discrete((t * 300 - 1).round().long())
            if self.method.config.process == "ddpm"
            else (self.method.process.at(t[0] / (1 - t[0]), len(t)))
        )
        mean = self.means[torch.where(present, given["label"], 2)][:, None, None, None]
        var = level.alpha**2 * self.std**2 + level.sigma**2
        x = mean + level.alpha * self.std**2 / var * (x_t - level.alpha * mean)
        noise = (x_t - level.alpha * x) / level.sigma
        a, s = self.method.target(level)
        return a * x + s * noise


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x_t, t, given, present):
        return torch.full_like(x_t, self.value)


class Build:
    """A network configuration that builds what it was given."""

    def __init__(self, net: nn.Module | None = None) -> None:
        self.net = net or Constant(0.0)

    def build(self, spec):
        return self.net


def method(**config) -> Diffusion:
    made = Diffusion(DiffusionConfig(timesteps=300, betas="linear", **config), {"denoiser": Build()})
    made.networks(SPEC)
    return made


def batch(count: int = 6) -> Batch:
    draw = RowDraw(1, 0, "data", range(count))
    x = draw.normal("x", *SHAPE).clamp(-1, 1)
    return Batch(
        x, {"label": draw.integers("y", 2)}, torch.ones(count, dtype=torch.bool), range(count), count
    )


@pytest.mark.parametrize(("process", "prediction"), KINDS)
def test_estimate_inverts_the_target(process, prediction):
    made = method(process=process, prediction=prediction)
    level = made.process.trained(torch.rand(8))
    x, noise = torch.randn(8, *SHAPE), torch.randn(8, *SHAPE)
    x_t = level.alpha * x + level.sigma * noise
    a, s = made.target(level)
    torch.testing.assert_close(made.estimate(x_t, a * x + s * noise, level), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("prediction", "formula"), [
    ("epsilon", lambda snr, g: min(snr, g) / snr),
    ("x0", min),
    ("v", lambda snr, g: min(snr, g) / (snr + 1)),
])  # fmt: skip
def test_min_snr_weights_are_those_of_the_paper(prediction, formula):
    """Hang 2023, section 3.4."""
    made = method(process="ddpm", prediction=prediction, min_snr=5.0)
    level = made.process.discrete(torch.tensor([0, 20, 100, 299]))
    snr = (level.alpha / level.sigma).square().flatten().tolist()
    expected = torch.tensor([formula(value, 5.0) for value in snr])
    torch.testing.assert_close(made.weight(level), expected, rtol=1e-4, atol=1e-6)


def test_loss_of_a_constant_network_is_the_second_moment_of_the_target():
    made = method(process="flow", prediction="v", condition_dropout=0.5)
    data = batch(64)
    moment = Moment(3, RowDraw(0, 3, "denoise", data.rows), {}, {"mse": 1.0}, lambda t: t, lambda: None)
    components, _ = made.loss({"denoiser": Constant(0.25)}, data, moment)
    noise = RowDraw(0, 3, "denoise", data.rows).normal("noise", *SHAPE)
    expected = (0.25 - (noise - data.x)).square().mean((1, 2, 3))
    torch.testing.assert_close(components["mse"], expected)


def test_times_are_stratified_and_conditions_are_dropped_at_their_rate():
    made = method(process="flow", times="uniform", condition_dropout=0.25)

    class Spy(Constant):
        def forward(self, x_t, t, given, present):
            self.t, self.present = t, present
            return super().forward(x_t, t, given, present)

    spy, data = Spy(0.0), batch(2000)
    made.loss(
        {"denoiser": spy}, data, Moment(0, RowDraw(0, 0, "d", data.rows), {}, {}, lambda t: t, lambda: None)
    )
    assert torch.equal((spy.t * 2000).long().sort().values, torch.arange(2000))  # one t in each stratum
    assert abs(float(spy.present.float().mean()) - 0.75) < 0.05


class Ends(RowDraw):
    """Draws whose uniforms are all the same number."""

    u = 0.0

    def uniform(self, name, *shape, host=False):
        return torch.full((len(self.rows), *shape), self.u)


@pytest.mark.parametrize("u", [0.0, 2.0**-24, MOST])
@pytest.mark.parametrize(("process", "prediction"), KINDS)
@pytest.mark.parametrize("times", ["logit-normal", "uniform"])
def test_half_open_times_are_trained_and_measured_at_the_ends_of_a_draw(process, prediction, times, u):
    """128 rows: the last stratum's largest number used to round to 1, an index past the table."""
    made = method(process=process, prediction=prediction, times=times, min_snr=5.0)
    data, draw = batch(128), Ends(0, 0, "d", range(128))
    object.__setattr__(draw, "u", u)
    moment = Moment(0, draw, {}, {}, lambda t: t, lambda: None)
    assert made.loss({"denoiser": Constant(0.0)}, data, moment)[0]["mse"].isfinite().all()
    for values in made.measure({"denoiser": Constant(0.0)}, data, draw).values():
        assert values.isfinite().all()


@pytest.mark.parametrize(("prediction", "expected"), [("epsilon", [0, 1]), ("x0", [5, 0]), ("v", [0, 0])])
def test_half_open_min_snr_weights_of_flow_have_their_limits_at_both_ends(prediction, expected):
    """min(SNR, 5) on the error of x: SNR is infinite at t = 0 and 0 at t = 1, where ε's is 0 x infinity."""
    made = method(process="flow", prediction=prediction, min_snr=5.0)
    for t in ([0.0, 1.0], [LEAST, MOST]):
        weights = made.weight(made.process.even(torch.tensor(t)))
        torch.testing.assert_close(weights, torch.tensor(expected).float(), rtol=1e-6, atol=1e-6)


def test_times_have_the_distribution_they_state():
    """A share of uniform t; the others' logit has the stated mean and spread; the shift multiplies σ / α."""
    u = interior((torch.arange(100_000) + 0.5) / 100_000)
    t = method(uniform_share=0.25, logit_mean=0.5, logit_std=0.7).process.trained(u).t
    uniform, logit = t[:25_000], t[25_000:].double().logit()
    torch.testing.assert_close(uniform, torch.linspace(0, 1, 25_000), rtol=0, atol=1e-4)
    assert float(logit.mean()) == pytest.approx(0.5, abs=1e-3)
    assert float(logit.std()) == pytest.approx(0.7, abs=1e-3)
    assert torch.equal(method(times="uniform").process.trained(u).t, u)
    assert torch.equal(method(uniform_share=1.0).process.trained(u[:-1]).t, u[:-1])
    shifted = (
        method(uniform_share=0.0, shift=3.0).process.trained(u).t.logit()
        - method(uniform_share=0.0).process.trained(u).t.logit()
    )
    torch.testing.assert_close(shifted, torch.full_like(u, 3.0).log(), rtol=0, atol=1e-3)


def test_the_shift_and_the_first_time_are_those_of_the_sampler_too():
    made = method(shift=3.0)
    t = 0.98 * torch.arange(4, -1, -1) / 4
    expected = (3 * t / (1 + 2 * t)).double()
    sigmas = made.process.sigmas(4, 0.98)
    torch.testing.assert_close(sigmas / (1 + sigmas), expected)
    with pytest.raises(ValidationError, match="shift = 3 needs process"):
        DiffusionConfig(process="ddpm", shift=3.0)


def test_strata_give_every_part_the_same_statistics():
    """The mean of x_t², what a batch norm sees, of four parts; contiguous strata of times had .4 to 1.9."""
    made = method(process="flow", times="uniform")

    class Power(Constant):
        def forward(self, x_t, t, given, present):
            self.power = float(x_t.square().mean())
            return super().forward(x_t, t, given, present)

    whole, powers = batch(256), []
    for first in range(0, 256, 64):
        rows = range(first, first + 64)
        part = Batch(0.1 * whole.x[first : first + 64], {}, whole.present[first : first + 64], rows, 256)
        spy = Power(0.0)
        made.loss(
            {"denoiser": spy}, part, Moment(0, RowDraw(0, 0, "d", rows), {}, {}, lambda t: t, lambda: None)
        )
        powers.append(spy.power)
    assert max(powers) < 1.3 * min(powers)


def test_guidance_is_linear_between_none_and_conditional():
    class ByCondition(nn.Module):
        def forward(self, x_t, t, given, present):
            return torch.where(present, given["label"] + 1.0, 0.5)[:, None, None, None].expand_as(x_t)

    x = torch.zeros(3, *SHAPE)
    present = torch.tensor([True, True, False])
    out = guided(ByCondition(), x, torch.zeros(3), {"label": torch.tensor([0, 1, 1])}, present, 3.0)
    assert out[:, 0, 0, 0].tolist() == [0.5 + 3 * 0.5, 0.5 + 3 * 1.5, 0.5]


@pytest.mark.parametrize(("process", "prediction"), KINDS)
@pytest.mark.parametrize("sampler", sorted(samplers.SAMPLERS))
def test_sampling_with_the_ideal_network_gives_the_data(process, prediction, sampler):
    """Whatever the process, the prediction and the sampler: the conditioned Gaussian comes out."""
    made = method(process=process, prediction=prediction)
    net = Gaussian(made)
    count = 400
    labels = torch.arange(count) % 2
    draw = RowDraw(0, 0, "sample", range(count))
    how = DiffusionSampling(sampler=sampler, steps=100, clip=False)
    present = torch.ones(count, dtype=torch.bool)
    images = made.sample({"denoiser": net}, made.latent(draw), {"label": labels}, present, draw, how)
    for label, mean in ((0, -0.5), (1, 0.5)):
        members = images[labels == label]
        assert float(members.mean()) == pytest.approx(mean, abs=0.04)
        assert float(members.std()) == pytest.approx(0.3, abs=0.04)
    assert float(net.seen[-1].max()) <= 0.04  # the last evaluation is near t = 0, and the end is the estimate


@pytest.mark.parametrize("process", ["flow", "ddpm"])
def test_held_out_bands_cover_all_times(process):
    made = method(process=process)
    net = Gaussian(made)
    values = made.measure({"denoiser": net}, batch(50), RowDraw(0, 0, "m", range(50)))
    assert list(values) == ["t 0.0-0.2", "t 0.2-0.4", "t 0.4-0.6", "t 0.6-0.8", "t 0.8-1.0"]
    for band, t in enumerate(net.seen):
        assert band / 5 <= float(t.min()) <= float(t.max()) <= (band + 1) / 5 + 1 / 300


def test_same_rows_same_noise_in_any_company():
    made = method(process="flow")
    losses = []
    for rows in (range(6), range(2, 4)):
        data = batch(6)
        part = slice(rows.start, rows.stop)
        cut = Batch(data.x[part], {"label": data.given["label"][part]}, data.present[part], rows, 6)
        moment = Moment(1, RowDraw(0, 1, "d", rows), {}, {}, lambda t: t, lambda: None)
        losses.append(made.loss({"denoiser": Constant(0.0)}, cut, moment)[0]["mse"])
    assert torch.equal(losses[0][2:4], losses[1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"eta": 0.5},
        {"steps": 0},
        {"sampler": "magic"},
        {"guidance_interval_sigma": (2, 1)},
        {"guidance_interval_sigma": (0, 1), "guidance_interval": (0, 1)},
    ],
)
def test_sampling_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ValidationError):
        DiffusionSampling(**wrong)


def test_guidance_is_used_within_its_interval_of_t_alone():
    """Within all of t it is guidance; within none of the visited times it is as guidance 1."""
    method, seen = Diffusion(DiffusionConfig(), {"denoiser": None}), []  # type: ignore[dict-item]

    def net(x, t, given, present):
        seen.append((round(float(t[0]), 3), len(x)))
        return torch.zeros_like(x)

    x, present = torch.zeros(2, 1, 4, 4), torch.ones(2, dtype=torch.bool)
    for interval in {"guidance_interval": (0.3, 0.65)}, {"guidance_interval_sigma": (0.3 / 0.7, 0.65 / 0.35)}:
        seen.clear()  # of a flow sigma is t / (1 - t)
        how = DiffusionSampling(sampler="euler", steps=4, guidance=3, t_max=0.8, **interval)
        method.sample({"denoiser": net}, x, {}, present, None, how)  # type: ignore[dict-item, arg-type]
        assert {t for t, rows in seen if rows == 4} == {t for t, _ in seen if 0.3 <= t <= 0.65}
        assert {rows for _, rows in seen} == {2, 4}


@pytest.mark.parametrize(("process", "prediction"), KINDS)
def test_autoguidance_leads_away_from_the_estimate_of_a_weaker_model(process, prediction):
    """One step to no noise is the estimate: D1 + (w - 1) (D1 - D0), whatever process the weaker one has."""
    strong, weak = (
        method(process=process, prediction=prediction),
        method(process="ddpm", prediction="epsilon"),
    )
    nets = {"denoiser": Gaussian(strong)}
    guide = Guide(weak, Gaussian(weak, means=(0.1, 0.3), std=0.6))
    draw, given = RowDraw(0, 0, "sample", range(4)), {"label": torch.tensor([0, 1, 0, 1])}
    rest = (strong.latent(draw), given, torch.ones(4, dtype=torch.bool), draw)

    def sample(made, nets, **how):
        settings = DiffusionSampling(sampler="euler", steps=1, clip=False, **how)
        return made.sample(nets, *rest, settings)

    plain = sample(strong, nets)
    sigma = strong.process.sigmas(1, 0.999)[0]
    x = rest[0] * strong.process.start(sigma)
    other = guide(x, sigma, given, rest[2])
    assert (other - plain).abs().mean() > 0.1
    assert torch.equal(sample(strong, {**nets, "guide": guide}, guide_by="w", guidance=1), plain)
    for w in (0.5, 3.0):
        guided_by = sample(strong, {**nets, "guide": guide}, guide_by="w", guidance=w)
        torch.testing.assert_close(guided_by, plain + (w - 1) * (plain - other))
    off = sample(strong, {**nets, "guide": guide}, guide_by="w", guidance=3, guidance_interval_sigma=(0, 0.1))
    assert torch.equal(off, plain)
