"""Averages against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from safelight.engine.ema import Averages, exponent, fitted, power_weight, profile_product, reconstruct


def walk(steps: int, decay: float, lengths: tuple[float, ...]):
    """Weights that move, their averages, and every set of weights on the way."""
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    nn.init.zeros_(net[0].weight)
    averages = Averages({"n": net}, ["n"], decay, lengths)
    history = []
    for step in range(steps):
        with torch.no_grad():
            net[0].weight.fill_(float(step) ** 1.5)
            net[1].running_mean.fill_(step)
        averages.update(step)
        history.append(float(step) ** 1.5)
    return averages, np.array(history)


def test_exponential_average_with_its_ramp():
    averages, history = walk(40, 0.9, ())
    expected = 0.0
    for step, value in enumerate(history):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(averages.networks["n"][0].weight[0, 0]) == pytest.approx(expected, rel=1e-5)
    assert float(averages.networks["n"][1].running_mean[0]) == 39  # buffers are copied


@pytest.mark.parametrize("length", [0.05, 0.10, 0.2])
def test_exponent_solves_the_relative_standard_deviation(length):
    gamma = exponent(length)
    assert (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5 == pytest.approx(length)


def test_power_average_has_the_power_function_profile():
    """The weight of the parameters of step i in the average after n steps is near ∝ i^γ."""
    n, length = 400, 0.1
    profile = np.zeros(n)
    for step in range(n):
        newest = power_weight(length, step + 1)
        profile *= 1 - newest
        profile[step] = newest
    assert profile.sum() == pytest.approx(1)
    ideal = np.arange(1, n + 1) ** exponent(length)
    ideal /= ideal.sum()
    assert np.abs(np.cumsum(profile) - np.cumsum(ideal)).max() < 0.02
    times = np.arange(1, n + 1) / n
    mean = (profile * times).sum()
    assert np.sqrt((profile * (times - mean) ** 2).sum()) == pytest.approx(length, rel=0.05)


def test_profile_product_is_the_integral():
    t = np.linspace(0, 1, 200_001)
    a = 3 * t**2  # time 1, gamma 2
    b = np.where(t <= 0.5, 2 * t / 0.25, 0)  # time 0.5, gamma 1
    integral = np.trapezoid(a * b, t)
    product = profile_product(np.array(1.0), np.array(2.0), np.array(0.5), np.array(1.0))
    assert float(product) == pytest.approx(integral, rel=1e-4)


def test_reconstruction_of_another_length():
    """From snapshots of two tracks, the average of a third length, as if it had been kept."""
    snapshots = []
    net = nn.Linear(1, 1, bias=False)
    averages = Averages({"n": net}, ["n"], 0.9, (0.05, 0.10, 0.07))
    for step in range(800):
        with torch.no_grad():
            net.weight.fill_(np.sin(step / 150) + step / 400)
        averages.update(step)
        if (step + 1) % 50 == 0:
            state = averages.tensors()
            snapshots += [(step + 1, length, {"w": state[f"track{length}.n.weight"].clone()})
                          for length in (0.05, 0.10)]  # fmt: skip
    kept = float(averages.tensors()["track0.07.n.weight"])
    made = float(reconstruct(snapshots, 0.07, 800)["w"])
    either = [float(snapshots[-2][2]["w"]), float(snapshots[-1][2]["w"])]
    assert made == pytest.approx(kept, abs=2e-3)
    assert min(abs(value - kept) for value in either) > 5e-3  # neither track alone would do
    with pytest.raises(ValueError, match="no snapshot"):
        reconstruct(snapshots, 0.07, 10)


@pytest.mark.parametrize(("length", "kept"), [(0.03, 3), (0.15, 3), (0.07, 16), (0.2, 16)])
def test_the_error_is_what_the_profile_is_off_by(length, kept):
    """Against the integral of the profiles themselves."""
    t = np.linspace(0, 1, 100_001)[1:]

    def profile(relative: float, end: float) -> np.ndarray:
        gamma = exponent(relative)
        return np.where(t <= end, (gamma + 1) * t**gamma / end ** (gamma + 1), 0)

    snapshots = [(1600 - 100 * back, relative) for back in range(kept) for relative in (0.05, 0.10)]
    factors, error = fitted(snapshots, length, 1600)
    made = sum(factor * profile(relative, step / 1600)
               for factor, (step, relative) in zip(factors, snapshots, strict=True))  # fmt: skip
    missed = np.sqrt(((made - profile(length, 1)) ** 2).mean() / (profile(length, 1) ** 2).mean())
    assert error == pytest.approx(missed, rel=0.02)
    assert fitted(snapshots, 0.1, 1600)[1] < 1e-6
