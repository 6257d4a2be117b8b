"""The bound's numbers against closed forms, integrals and the linear VAE whose optimum is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from safelight.functional import elbo


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_kl_is_that_of_gaussians():
    mean, logvar = draws(7, 5), draws(7, 5, seed=1)
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(elbo.kl(mean, logvar), expected)
    assert float(elbo.kl(torch.zeros(1), torch.zeros(1))) == 0


def test_a_tanh_head_caps_the_kl():
    """Fault 4: mean and log-variance in [-1, 1]."""
    corners = torch.cartesian_prod(torch.tensor([-1.0, 0.0, 1.0]), torch.linspace(-1, 1, 201))
    assert float(elbo.kl(*corners.T).max()) == pytest.approx(math.e / 2 - 0.5)  # .859 nats


def test_nll_is_that_of_a_gaussian():
    x, decoded = draws(4, 12), draws(4, 12, seed=1)
    mse = (x - decoded).square().mean(1)
    expected = -Normal(decoded, 0.3).log_prob(x).sum(1)
    torch.testing.assert_close(elbo.gaussian_nll(mse, 0.09, 12), expected)


def test_bits_are_the_bound_at_its_best_sigma():
    """A search over σ finds nothing below σ² = mse, and there the bound is bpd*."""
    mse, nats, values = torch.tensor(0.0123), 17.0, 784
    variances = torch.logspace(-4, 0, 4001)
    bound = (elbo.gaussian_nll(mse, variances, values) + nats) / (values * math.log(2))
    assert float(variances[bound.argmin()]) == pytest.approx(0.0123, rel=2e-3)
    assert float(bound.min()) == pytest.approx(float(elbo.bits_per_value(mse, nats, values)), abs=1e-6)


def test_bits_of_what_was_measured_on_digits():
    """The numbers of a sweep over w on 8x8 digits: mse, KL, bpd*."""
    for mse, nats, bits in ((0.0413, 0.0, -0.252), (0.0106, 15.5, -0.881), (0.0099, 30.5, -0.594)):
        assert float(elbo.bits_per_value(mse, nats, 64)) == pytest.approx(bits, abs=4e-3)


@pytest.mark.parametrize("kl_weight", [1.0, 0.25])
def test_sigma_and_weight_are_one_number(kl_weight):
    """Both ways, and with the gradient of the bound: d/dmse of v (nll at σ) is w."""
    for sigma in (0.02, 0.3, 4.0):
        weight = elbo.implied_weight(sigma, 300, kl_weight)
        assert elbo.implied_sigma(weight, 300, kl_weight) == pytest.approx(sigma)
        mse = torch.tensor(0.05, requires_grad=True)
        (kl_weight * elbo.gaussian_nll(mse, sigma**2, 300)).backward()
        assert float(mse.grad) == pytest.approx(weight, rel=1e-5)
    assert elbo.implied_sigma(0.0, 300) == math.inf


def test_active_units_vary_from_image_to_image():
    means = torch.zeros(500, 2, 2)
    means[:, 0, 1] = draws(500) * 0.5  # variance .25
    means[:, 1, 0] = draws(500, seed=1) * 0.05 + 3  # constant but for .0025
    assert int(elbo.active_units(means)) == 1


@pytest.mark.parametrize("count", [40, 400])
def test_eigenvalues_are_those_of_the_covariance(count):
    """Whether there are more images or more pixels."""
    x = draws(count, 60).double() @ torch.diag(torch.linspace(0.1, 2, 60).double())
    eigenvalues = elbo.covariance_eigenvalues(x)
    expected = torch.linalg.eigvalsh(torch.cov(x.T)).flip(0)
    torch.testing.assert_close(eigenvalues[:39], expected[:39])


def test_what_the_conditions_tell_needs_no_latent():
    """Within classes only the spread is left, however far apart the classes are."""
    label = torch.arange(600) % 3
    x = torch.nn.functional.one_hot(label, 3).double() @ (10 * draws(3, 20).double())
    x = x + 0.1 * draws(600, 20, seed=1).double()
    within = elbo.covariance_eigenvalues(x, torch.nn.functional.one_hot(label, 3))
    assert float(elbo.covariance_eigenvalues(x)[0]) > 100
    torch.testing.assert_close(within.mean(), torch.tensor(0.01, dtype=torch.float64), rtol=0.1, atol=0)


def test_the_linear_vae_collapses_where_it_is_predicted_to():
    """Trained by gradient, from the bound alone: latents in use = eigenvalues above σ² (Lucas 2019)."""
    torch.manual_seed(0)
    scales = torch.tensor([2.0, 1.0, 0.5, 0.1, 0.1, 0.1])
    x = draws(2000, 6) * scales
    eigenvalues = elbo.covariance_eigenvalues(x)
    for sigma, expected in ((0.3, 3), (0.7, 2), (1.5, 1), (3.0, 0)):
        assert elbo.predicted_active(eigenvalues, sigma) == expected
        encode, decode = torch.nn.Linear(6, 8), torch.nn.Linear(4, 6)
        optimiser = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=2e-2)
        for step in range(700):
            mean, logvar = encode(x).chunk(2, 1)
            z = mean + (logvar / 2).exp() * draws(2000, 4, seed=step)
            mse = (decode(z) - x).square().mean(1)
            loss = elbo.gaussian_nll(mse, sigma**2, 6) + elbo.kl(mean, logvar).sum(1)
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
        assert int(elbo.active_units(mean.detach())) == expected
