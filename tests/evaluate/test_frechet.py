"""The Fréchet distance against closed forms and SciPy's root of a general matrix."""

from __future__ import annotations

import math

import pytest
import torch

from safelight.evaluate.distances import Moments, fitted, floor, frechet, moments


def gaussian(mean, covariance, count=1000) -> Moments:
    return Moments(count, torch.tensor(mean).double(), torch.tensor(covariance).double())


def features(count: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=generator)
    return torch.randn(count, size, generator=generator) @ mixing + 3.0


def test_of_diagonal_gaussians_is_the_closed_form():
    # sum over dimensions of (μ₁ - μ₂)² + (σ₁ - σ₂)²
    a = gaussian([0.0, 1.0, -2.0], [[4.0, 0, 0], [0, 9.0, 0], [0, 0, 0.25]])
    b = gaussian([1.0, 1.0, 0.0], [[1.0, 0, 0], [0, 16.0, 0], [0, 0, 0.0]])
    assert frechet(a, b) == pytest.approx(1 + 0 + 4 + 1 + 1 + 0.25)


def test_of_commuting_covariances_is_the_closed_form():
    angle = 0.7
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    a = Moments(9, torch.zeros(2).double(), turn @ torch.diag(torch.tensor([4.0, 1.0]).double()) @ turn.T)
    b = Moments(9, torch.zeros(2).double(), turn @ torch.diag(torch.tensor([1.0, 9.0]).double()) @ turn.T)
    assert frechet(a, b) == pytest.approx((2 - 1) ** 2 + (1 - 3) ** 2)


def test_agrees_with_the_root_of_a_general_matrix():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = moments([features(200, 12, 0)]), moments([features(150, 12, 1)])
    root = linalg.sqrtm((a.covariance @ b.covariance).numpy()).real
    expected = (
        (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * root.trace()
    )
    assert frechet(a, b) == pytest.approx(float(expected), rel=1e-9)
    assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-9)


def test_of_a_set_with_itself_is_nothing():
    same = moments([features(300, 20, 0)])
    assert frechet(same, same) <= 1e-6 * float(same.covariance.trace())
    few = moments([features(8, 20, 0)])  # a singular covariance
    assert frechet(few, few) <= 1e-6 * float(few.covariance.trace())


def test_of_samples_of_one_gaussian_falls_with_their_number():
    few, many = (
        frechet(moments([torch.randn(n, 8, generator=torch.Generator().manual_seed(1))]),
                moments([torch.randn(n, 8, generator=torch.Generator().manual_seed(2))]))
        for n in (100, 10_000)
    )  # fmt: skip
    assert 0 < many < few / 20


def test_moments_of_chunks_are_those_of_the_whole():
    whole = features(1000, 7, 3)
    expected = moments([whole])
    for sizes in ([1000], [1, 999], [300, 1, 1, 698], [100] * 10):
        estimate = moments(whole.split(sizes))
        assert estimate.count == 1000
        torch.testing.assert_close(estimate.mean, whole.double().mean(0))
        torch.testing.assert_close(estimate.covariance, torch.cov(whole.double().T))
        torch.testing.assert_close(estimate.covariance, expected.covariance)


def test_moments_keep_their_digits_far_from_zero():
    near = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    far = near.double() + 1e6
    torch.testing.assert_close(
        moments(far.split(100)).covariance, torch.cov(near.double().T), rtol=1e-6, atol=1e-6
    )


def test_moments_need_two_features():
    with pytest.raises(ValueError, match="two features, not 1"):
        moments([torch.zeros(1, 3)])
    with pytest.raises(ValueError, match="two features, not 0"):
        moments([])


@pytest.mark.parametrize(
    ("size", "real", "n", "m"),
    [(24, 1617, 1000, 1617), (24, 1617, 100, 1617), (100, 250, 200, 250)],  # few features, few samples, many
)
def test_the_floor_is_what_a_perfect_generator_gets_from_as_many_images(size, real, n, m):
    """Simulated: everything is drawn from one Gaussian, the generator's samples too."""
    random = torch.Generator().manual_seed(3)
    mixing = torch.randn(size, size, generator=random) / torch.arange(1.0, size + 1).sqrt()

    def drawn(count: int) -> torch.Tensor:
        return torch.randn(count, size, generator=random) @ mixing

    perfect = [frechet(fitted(drawn(n)), fitted(drawn(m))) for _ in range(30)]
    expected = sum(perfect) / len(perfect)
    floors = [floor(drawn(real), n, m) for _ in range(6)]
    assert sum(floors) / len(floors) == pytest.approx(expected, rel=0.06)
    data = drawn(real)
    assert floor(data, n, m) == floor(data, n, m)


def test_the_floor_of_images_that_are_all_alike_is_nothing():
    assert floor(torch.ones(40, 3), 30, 40) == 0
