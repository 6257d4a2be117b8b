"""The digits U-Net against hand arithmetic and plain functional operations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safelight.config import UserError
from safelight.networks.digits_unet import DigitsUNetConfig
from safelight.types import Condition, DataSpec

DIGITS = DataSpec(shape=(1, 28, 28), conditions={"label": Condition("label", 10)})


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def by_hand(c: int, d: int) -> int:
    """Parameters of the unconditional network: weights + biases, and scale + shift of batch norm."""

    def conv(inputs: int, outputs: int, side: int) -> int:
        return inputs * outputs * side * side + outputs

    norm = 2  # values a channel
    return (
        conv(c, d, 3) + conv(d, d, 3) + norm * 2 * d  # 28x28
        + conv(d, d, 3) + 2 * conv(d, d, 3) + norm * 3 * d  # 14x14
        + conv(d, 2 * d, 3) + 2 * conv(2 * d, 2 * d, 3) + norm * 6 * d  # 7x7
        + conv(2 * d, 2 * d, 7) + norm * 2 * d  # unflatten
        + conv(4 * d, d, 4) + 2 * conv(d, d, 3) + norm * 3 * d  # 14x14
        + conv(2 * d, d, 4) + 2 * conv(d, d, 3) + norm * 3 * d  # 28x28
        + conv(2 * d, d, 3) + conv(d, d, 3) + norm * 2 * d
        + conv(d, c, 3)
    )  # fmt: skip


@pytest.mark.parametrize("d", [2, 64, 128])
def test_parameters_by_hand(d: int) -> None:
    plain = DigitsUNetConfig(width=d, time=False).build(DIGITS)
    timed = DigitsUNetConfig(width=d, time=True).build(DIGITS)
    classed = DigitsUNetConfig(width=d, time=True, classes=True).build(DIGITS)
    times = (1 * 2 * d + 2 * d) + (2 * d * 2 * d + 2 * d) + (1 * d + d) + (d * d + d)
    gates = (10 * 2 * d + 2 * d) + (2 * d * 2 * d + 2 * d) + (10 * d + d) + (d * d + d)
    assert count(plain) == by_hand(1, d)
    assert count(timed) == by_hand(1, d) + times
    assert count(classed) == by_hand(1, d) + times + gates


def functional(network: nn.Module, x: Tensor, t: Tensor, hot: Tensor) -> Tensor:
    """The class-conditioned network in evaluation mode, from its weights in order of use."""
    w = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}

    def norm_gelu(y: Tensor, at: str) -> Tensor:
        mean, var = w[at + ".1.running_mean"], w[at + ".1.running_var"]
        y = (y - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
        y = y * w[at + ".1.weight"][:, None, None] + w[at + ".1.bias"][:, None, None]
        return y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))

    def conv(y: Tensor, at: str, stride: int = 1) -> Tensor:
        return norm_gelu(F.conv2d(y, w[at + ".0.weight"], w[at + ".0.bias"], stride, 1), at)

    def block(y: Tensor, at: str) -> Tensor:
        return conv(conv(y, at + ".0"), at + ".1")

    def up(y: Tensor, at: str) -> Tensor:
        return norm_gelu(F.conv_transpose2d(y, w[at + ".0.weight"], w[at + ".0.bias"], 2, 1), at)

    def fc(y: Tensor, at: str) -> Tensor:
        y = F.gelu(y @ w[at + ".0.weight"].T + w[at + ".0.bias"]) @ w[at + ".2.weight"].T
        return (y + w[at + ".2.bias"])[:, :, None, None]

    skip1 = block(x, "enter")
    skip2 = block(conv(skip1, "down1.0", 2), "down1.1")
    skip3 = block(conv(skip2, "down2.0", 2), "down2.1")
    flat = F.gelu(skip3.mean((2, 3)))
    spread = torch.einsum("bi,iohw->bohw", flat, w["unflatten.0.weight"])
    middle = norm_gelu(spread + w["unflatten.0.bias"][:, None, None], "unflatten")
    middle = fc(hot, "gates.0") * middle + fc(t[:, None], "time.0")
    y = block(up(torch.cat([middle, skip3], 1), "up1.0"), "up1.1")
    y = fc(hot, "gates.1") * y + fc(t[:, None], "time.1")
    y = block(up(torch.cat([y, skip2], 1), "up2.0"), "up2.1")
    y = block(torch.cat([y, skip1], 1), "leave")
    return F.conv2d(y, w["out.weight"], w["out.bias"], 1, 1)


def test_output_equals_plain_operations() -> None:
    torch.manual_seed(0)
    network = DigitsUNetConfig(width=3, classes=True).build(DIGITS)
    x, t = torch.randn(4, 1, 28, 28), torch.rand(4)
    given = {"label": torch.tensor([0, 3, 9, 0])}
    present = torch.tensor([True, True, True, False])
    network(x, t, given, present)  # gives batch norm some statistics
    network.eval()
    hot = torch.zeros(4, 10)
    hot[0, 0] = hot[1, 3] = hot[2, 9] = 1  # the fourth is dropped: no class, not class 0
    with torch.no_grad():
        torch.testing.assert_close(network(x, t, given, present), functional(network, x, t, hot))


def test_sees_exactly_what_it_is_told_to() -> None:
    torch.manual_seed(0)
    x, none = torch.randn(2, 1, 28, 28), torch.zeros(2, dtype=torch.bool)
    early, late = torch.zeros(2), torch.ones(2)
    given = {"label": torch.tensor([1, 1])}
    with torch.no_grad():
        plain = DigitsUNetConfig(width=2, time=False).build(DIGITS)
        assert torch.equal(plain(x, early, given, none), plain(x, late, given, ~none))
        timed = DigitsUNetConfig(width=2).build(DIGITS)
        assert not torch.allclose(timed(x, early, given, none), timed(x, late, given, none))
        assert torch.equal(timed(x, early, given, none), timed(x, early, given, ~none))
        classed = DigitsUNetConfig(width=2, classes=True).build(DIGITS)
        assert not torch.allclose(classed(x, early, given, none), classed(x, early, given, ~none))


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(UserError, match=r"network\.classes: the data has no labels"):
        DigitsUNetConfig(classes=True).build(DataSpec(shape=(1, 28, 28)))
    with pytest.raises(UserError, match=r"30x28.*multiples of 4"):
        DigitsUNetConfig().build(DataSpec(shape=(1, 30, 28)))


def gelu_floor() -> float:
    """Least E (eps - y)^2 over y >= m, the minimum of GELU, for eps ~ N(0, 1).

    The best y is max(eps, m), so the floor is E max(m - eps, 0)^2 = (m^2 + 1) Phi(m) + m phi(m).
    """
    low, high = -2.0, 0.0  # bisect d GELU / dx = Phi(x) + x phi(x) for the place of the minimum
    for _ in range(60):
        middle = (low + high) / 2
        slope = 0.5 * (1 + math.erf(middle / math.sqrt(2))) + middle * phi(middle)
        low, high = (middle, high) if slope < 0 else (low, middle)
    m = low * 0.5 * (1 + math.erf(low / math.sqrt(2)))
    return (m * m + 1) * 0.5 * (1 + math.erf(m / math.sqrt(2))) + m * phi(m)


def phi(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def test_a_last_gelu_cannot_reach_an_epsilon_target() -> None:
    """Why the last layer is plain: even free pre-activations stop at the floor, without GELU at 0."""
    probability = (torch.arange(2_000, dtype=torch.float64) + 0.5) / 2_000
    eps = math.sqrt(2) * torch.erfinv(2 * probability - 1)  # quantiles: quadrature, not a sample
    reached = {}
    for name, last in {"gelu": F.gelu, "plain": nn.Identity()}.items():
        before = torch.zeros_like(eps, requires_grad=True)
        optimiser = torch.optim.Adam([before], lr=0.05)
        for _ in range(400):
            optimiser.zero_grad()
            (eps - last(before)).square().sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        reached[name] = float((eps - last(before.detach())).square().mean())
    assert gelu_floor() == pytest.approx(0.3782, abs=1e-4)
    assert reached["gelu"] == pytest.approx(gelu_floor(), abs=1e-3)
    assert reached["plain"] < 1e-3
