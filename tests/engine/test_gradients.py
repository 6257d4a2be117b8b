"""Gradient tracing where it is exact mathematics: closed forms of linear models."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from safelight.config import UserError
from safelight.engine.gradients import SampleGradients, tracin, whitened
from safelight.types import Batch, Moment, Phase
from toys import ToyContrast, ToyGan


class Linear:
    """|w x - c|² / 2 of images of one row: its gradient is (w x - c) x^T."""

    components: ClassVar = {"error": 1.0, "decay": 0.0}

    def __init__(self) -> None:
        self.phases = (Phase("fit", ("net",), self.loss),)

    def loss(self, nets, batch, moment: Moment):
        out = nets["net"](batch.x.flatten(1))
        error = (out - batch.given["target"]).square().sum(1) / 2
        return {"error": error, "decay": error * 0}, {}


class Noisy(Linear):
    """The same with noise on the image: gradients are means over draws."""

    def loss(self, nets, batch, moment: Moment):
        x = batch.x + moment.draw.normal("noise", *batch.x.shape[1:])
        return super().loss(nets, Batch(x, batch.given, batch.present, batch.rows, batch.total), moment)


N, D, K = 40, 5, 2


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(N, D, 1, 1, generator=generator), torch.randn(N, K, generator=generator)
    return Batch(x, {"target": target}, torch.ones(N, dtype=torch.bool), range(N), N)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Linear(D, K, bias=False)


def gradients(method, net, draws=1, size=10_000, seed=0) -> SampleGradients:
    return SampleGradients(method, {"net": net}, method.components, {}, seed, draws, size)


def test_traces_of_a_linear_model_are_those_on_paper(data, net):
    """<g_a, g_b> = (r_a · r_b) (x_a · x_b) with residuals r = w x - c."""
    rows = gradients(Linear(), net).of(data)
    x = data.x.flatten(1)
    r = (x @ net.weight.T - data.given["target"]).detach()
    torch.testing.assert_close(tracin(rows[3], rows), (r @ r[3]) * (x @ x[3]), rtol=1e-4, atol=1e-5)


def test_a_gradient_is_the_mean_over_draws_and_all_samples_share_them(data, net):
    rows = gradients(Noisy(), net, draws=64).of(data)
    one = Batch(data.x[7:8], {"target": data.given["target"][7:8]}, data.present[7:8], range(1), 1)
    torch.testing.assert_close(gradients(Noisy(), net, draws=64).of(one)[0], rows[7])
    # E (w (x + n) - c) (x + n)^T = r x^T + w
    x, r = data.x[7].flatten(), net.weight @ data.x[7].flatten() - data.given["target"][7]
    many = gradients(Noisy(), net, draws=20_000).of(one)[0].view(K, D)
    torch.testing.assert_close(many, torch.outer(r, x) + net.weight, rtol=0.05, atol=0.06)


def test_a_descent_along_one_image_lowers_the_loss_of_another_by_its_trace(data, net):
    """The definition of TracIn: l(z; w - η g_i) = l(z; w) - η <g_z, g_i>, to first order."""
    rows = gradients(Linear(), net).of(data).double()
    weight, η = net.weight.detach().double(), 1e-6
    x, target = data.x.flatten(1).double(), data.given["target"].double()

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return (x[3] @ weight.T - target[3]).square().sum() / 2

    lowered = torch.stack([(loss(weight) - loss(weight - η * rows[i].view(K, D))) / η for i in range(N)])
    torch.testing.assert_close(lowered, tracin(rows[3], rows), rtol=1e-3, atol=1e-4)


def test_whitened_traces_are_the_formula_in_either_dimension(data, net):
    rows = gradients(Linear(), net).of(data).double()
    for items in (rows, rows[:6]):  # more items than parameters, and fewer
        gram = items.T @ items
        λ = 0.1 * gram.trace() / min(items.shape)
        expected = items @ torch.linalg.inv(gram + λ * torch.eye(len(gram))) @ rows[30]
        torch.testing.assert_close(whitened(rows[30], items, 0.1).double(), expected, rtol=1e-4, atol=1e-6)


def test_whitening_is_leaving_one_out_of_a_least_squares_fit(data):
    """Without damping: the change of a prediction when item i is left out, up to its leverage (Cook 1977)."""
    x, y = data.x.flatten(1).double(), data.given["target"][:, 0].double()
    fitted = torch.linalg.lstsq(x, y).solution
    z = torch.ones(D, dtype=torch.float64)
    hat = x @ torch.linalg.inv(x.T @ x)
    for i in (0, 11):
        others = torch.arange(N) != i
        change = z @ fitted - z @ torch.linalg.lstsq(x[others], y[others]).solution
        leverage = hat[i] @ x[i]
        # gradients of predictions: x for the fit, z for the sample
        score = whitened(z, x, 1e-12)[i].double() * (y[i] - x[i] @ fitted)
        assert float(score / (1 - leverage)) == pytest.approx(float(change), rel=1e-4)


def test_a_sketch_keeps_inner_products_within_its_variance(data):
    torch.manual_seed(0)
    net = nn.Linear(D, 400, bias=False)
    wide = Batch(data.x, {"target": torch.randn(N, 400)}, data.present, range(N), N)
    exact = gradients(Linear(), net).of(wide)
    true = tracin(exact[3], exact)
    errors = []
    for seed in range(30):
        rows = gradients(Linear(), net, size=256, seed=seed).of(wide)
        assert rows.shape == (N, 256)
        errors.append(
            ((tracin(rows[3], rows) - true) / (exact[3].norm() * exact.norm(dim=1)))[torch.arange(N) != 3]
        )
    errors = torch.stack(errors)
    assert float(errors.square().mean()) < 2 / 256
    assert float(errors.mean(0).abs().max()) < 4 * np.sqrt(2 / 256 / 30)


@pytest.mark.parametrize("method", [ToyGan, ToyContrast])
def test_adversaries_and_losses_of_a_whole_batch_are_refused(method):
    made = method()
    if method is ToyGan:
        made.equilibria = {"d": 1.0}
    with pytest.raises(UserError, match="influence: needs a loss that is a sum over images"):
        SampleGradients(made, {}, {}, {}, 0, 1, 16)
