"""The kernel distance against sums over pairs written out, and what being unbiased means."""

from __future__ import annotations

import itertools

import pytest
import torch

from safelight.evaluate.distances import kid, unbiased_mmd2


def k(x, y) -> float:
    return (sum(float(p) * float(q) for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3


def test_agrees_with_the_sums_over_pairs():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, generator=generator).double()
    y = torch.randn(9, 5, generator=generator).double() + 0.5
    within = [
        sum(k(a, b) for a, b in itertools.permutations(side, 2)) / (len(side) * (len(side) - 1))
        for side in (x, y)
    ]
    between = sum(k(a, b) for a in x for b in y) / (len(x) * len(y))
    assert float(unbiased_mmd2(x, y)) == pytest.approx(sum(within) - 2 * between, rel=1e-12)


def test_is_unbiased_where_the_biased_one_is_not():
    """Over many small samples of one distribution the estimates average to 0, with both signs among them."""
    generator = torch.Generator().manual_seed(0)
    estimates = torch.stack([unbiased_mmd2(*torch.randn(2, 10, 4, generator=generator)) for _ in range(2000)])
    error = float(estimates.std()) / len(estimates) ** 0.5
    assert abs(float(estimates.mean())) < 3 * error
    assert 0.2 < float((estimates < 0).double().mean()) < 0.8


def test_of_two_distributions_is_their_distance():
    """Of N(0, 1) and N(m, 1) in one dimension, from E (xy + 1)³ with E x = 0, E x² = 1, E x³ = 0."""
    m = 2.0
    second, third = 1 + m**2, 3 * m + m**3
    same = 1 + 3 * 1  # E (xx' + 1)³ of N(0, 1): E x³x'³ + 3 E x²x'² + 3 E xx' + 1
    other = third**2 + 3 * second**2 + 3 * m**2 + 1
    cross = 0 * third + 3 * second + 0 + 1
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(20_000, 1, generator=generator)
    b = torch.randn(20_000, 1, generator=generator) + m
    value, spread = kid(a, b, subsets=20)
    assert value == pytest.approx(same + other - 2 * cross, abs=3 * spread / 20**0.5 + 1)


def test_is_the_mean_and_spread_over_keyed_subsets():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(60, 3, generator=generator), torch.randn(50, 3, generator=generator)
    assert kid(a, b, subsets=5, size=20) == kid(a, b, subsets=5, size=20)
    value, spread = kid(a, b, subsets=5)  # halves: of 25
    assert spread > 0
    assert value != kid(a, b, subsets=5, size=20)[0]
    with pytest.raises(ValueError, match="four features"):
        kid(a[:3], b)
