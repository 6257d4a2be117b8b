"""Plans, budgets and noise levels in checks, and the oracle that they ask."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from safelight.checks import noise, times
from safelight.checks.bench.oracle import between, image_networks, targets, world
from safelight.checks.bench.probes import Clock, OutOfTime, reach
from safelight.checks.bench.subject import FEW, STEPS
from safelight.engine.plan import Ramp
from subjects import codes, subject


def test_the_faultless_method_has_no_fault():
    assert codes(subject()) == set()


def test_targets_and_noise_levels_are_those_of_the_equations():
    """Of x_t = (1 - t) x + t ε towards ε - x: α = 1 - t, σ = t, y = x_t / t - x / t."""
    checked = subject()
    (network,) = image_networks(checked)
    batch = checked.batch(8)
    linear = targets(checked, network, batch)
    time = linear.call.time
    ε = (linear.call.image - (1 - time)[:, None, None, None] * batch.x) / time[:, None, None, None]
    torch.testing.assert_close(linear.targets, ε - batch.x, rtol=1e-2, atol=1e-2)
    known = world(checked)
    middle = (known.time > 0.1) & (known.time < 0.9)
    torch.testing.assert_close(known.alpha[middle], 1 - known.time[middle], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(known.sigma[middle], known.time[middle], rtol=0.12, atol=0)
    expected = torch.stack([1 / known.time, -1 / known.time, torch.zeros_like(known.time)], 1)
    torch.testing.assert_close(known.answers[middle], expected[middle], rtol=1e-3, atol=1e-3)


def test_a_table_is_read_between_its_rows():
    time, values = torch.tensor([0.0, 1.0, 3.0]).double(), torch.tensor([[0.0], [10.0], [30.0]]).double()
    at = torch.tensor([-1.0, 0.5, 2.0, 9.0]).double()
    assert between(at, time, values)[:, 0].tolist() == [0, 5, 20, 30]


@pytest.mark.parametrize(
    ("end", "ends"),
    [(nn.ReLU(), (0, 3)), (nn.Sigmoid(), (0, 1)), (nn.Tanh(), (-1, 1)), (nn.Identity(), (-3, 3))],
)
def test_the_ends_of_an_activation_are_found(end, ends):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), end)
    x = torch.randn(2, 4)
    least, most = reach(network, lambda net: net(x), -3.0, 3.0, Clock())
    for end, true in ((least, ends[0]), (most, ends[1])):
        assert end == pytest.approx(true, abs=0.1) or (abs(true) == 3 and abs(end) > 2.8)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": 20, "ema": 0.0}, "data-not-seen"),
        ({"batch_size": 5000, "steps": 3, "ema": 0.0}, "batch-larger-than-data"),
        ({"ema": 0.999, "steps": 1000}, "average-too-long"),
        ({"optim": {"warmup": 5000}}, "schedule-unfinished"),
        ({"optim": {"schedule": "cosine", "hold": 5000}}, "decay-never-begins"),
        ({"weights": {"velocity": Ramp(end=2.0, over=5000)}}, "ramp-unfinished"),
    ],
)
def test_a_plan_that_does_not_fit(settings, expected):
    checked = subject(**settings)
    assert codes(checked, "budget", "schedule") == {expected}


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle"])
def test_a_schedule_as_long_as_the_run_is_complete(schedule):
    assert codes(subject(optim={"schedule": schedule, "warmup": 50}), "schedule") == set()


def test_what_is_left_out_for_time_is_told():
    clock = Clock()
    clock.begin(1.0)
    with pytest.raises(OutOfTime, match="further rows: would take 50 s, 1 s are left"):
        clock.afford(50, "further rows")


def test_fewer_images_are_looked_at_where_steps_take_too_long(monkeypatch):
    monkeypatch.setattr("safelight.checks.bench.subject.PATIENCE", 600.0)
    whole = subject()
    assert (whole.rows, len(whole.batch(whole.rows).x), whole.trial.plan.train.batch_size) == (16, 16, 16)
    assert len(whole.trial.records) == STEPS
    before, again = whole.trial.before, subject().trial.before  # judging the time leaves the networks alone
    assert all(torch.equal(before[name], again[name]) for name in before)
    monkeypatch.setattr("safelight.checks.bench.subject.PATIENCE", 1e-9)
    hurried = subject()
    assert (hurried.rows, hurried.trial.plan.train.batch_size) == (FEW, FEW)
    assert len(hurried.trial.records) >= 1
    assert subject(batch_size=2).rows == 2


def test_few_noise_levels_are_not_said_to_end_too_early_but_those_that_do_are():
    """341 levels, as of 64x64x3 images: α / σ = (1 - t) / t of a logit-normal t is e^-z, which goes to 0."""
    dice = torch.Generator().manual_seed(0)
    reported = short = missed = 0
    for _ in range(400):
        tail = (-torch.randn(341, generator=dice, dtype=torch.float64)).exp()
        reported += noise.end(tail) > noise.MOST
        short += float(tail.min()) > noise.MOST
        t = 0.8 * torch.rand(341, generator=dice, dtype=torch.float64)  # ends at α / σ = 1 / 4
        missed += not noise.end((1 - t) / t) > noise.MOST
    assert short > 200  # which is most of them: the smallest draw says nothing by itself
    assert reported <= 2 * noise.DOUBT * 400
    assert missed <= 2 * noise.DOUBT * 400
    few = torch.linspace(0.2, 3.0, 50, dtype=torch.float64).repeat(7)  # a schedule of 50 steps
    assert noise.end(few * (1 + 0.003 * torch.randn(350, generator=dice))) > noise.MOST


def test_a_time_of_the_sampler_that_training_practically_never_draws_is_told():
    """Logit-normal t: 1 in 20,000 above .98, the sampler's first; a tenth of even ones is enough."""
    z = torch.randn(8192, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normal, even = z.sigmoid().sort().values, (torch.arange(8192).double() + 0.5) / 8192
    sampled = 0.999 * torch.arange(10, 0, -1).double() / 10
    (finding,) = times.gap(sampled, normal)
    assert (
        finding.measured == "samples use t = 0.999; of 8,192 times of training 0 lie between 0.9794 and 0.999"
    )
    assert finding.expected == "at least 8, a twentieth of an even share"
    assert not [*times.gap(sampled, even), *times.gap(0.95 * sampled, normal)]
    assert not [*times.gap(sampled, torch.cat([even[::10], normal[::10].repeat(9)]).sort().values)]
    backwards = 1000 * (1 - sampled)  # whatever the convention
    assert [*times.gap(backwards, 1000 * (1 - normal.flip(0)))]
    assert not [*times.gap(backwards, 1000 * (1 - even.flip(0)))]
