"""The losses of a GAN on networks whose logits are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from safelight.methods.gan import Gan, GanConfig
from safelight.randomness import RowDraw
from safelight.types import Batch, DataSpec, Moment

SPEC = DataSpec((1, 2, 2))


class Linear(nn.Module):
    """D(x) = w . x"""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5, 3.0]))

    def forward(self, x, given, present):
        return x.flatten(1) @ self.w.to(x.dtype)


class Reshape(nn.Module):
    """G(z) = z as a picture."""

    def forward(self, z, given, present):
        return z.view(-1, 1, 2, 2)


class Build:
    latent = 4

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def build(self, spec):
        return self.net


def setup(**config):
    method = Gan(GanConfig(**config), {"generator": Build(Reshape()), "discriminator": Build(Linear())})
    x = RowDraw(1, 0, "x", range(5)).normal("x", 1, 2, 2)
    batch = Batch(x, {}, torch.zeros(5, dtype=torch.bool), range(5), 5)
    return method, method.networks(SPEC), batch


def moment(phase: str, r: float = 0.0) -> Moment:
    draw = RowDraw(0, 3, phase, range(5))
    weights = {"r1": r, "r2": r}
    return Moment(3, draw, {}, weights, lambda t: t, lambda: torch.autocast("cpu", enabled=False))


def fake(phase: str) -> torch.Tensor:
    return RowDraw(0, 3, phase, range(5)).normal("z", 4).view(-1, 1, 2, 2)


def test_classic_losses_are_binary_cross_entropies():
    method, nets, batch = setup(loss="non-saturating", separate=True)
    judge = nets["discriminator"]
    assert [phase.name for phase in method.phases] == ["real", "fake", "penalise", "generate"]

    def bce(x, target):
        logits = judge(x, {}, None)
        return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none")

    d1, seen = method.real(nets, batch, moment("real"))
    torch.testing.assert_close(d1["d1"], bce(batch.x, 1.0))
    assert torch.equal(seen["accuracy_real"], (judge(batch.x, {}, None) > 0).float())
    d2, seen = method.fake(nets, batch, moment("fake"))
    torch.testing.assert_close(d2["d2"], bce(fake("fake"), 0.0))
    assert torch.equal(seen["accuracy_fake"], (judge(fake("fake"), {}, None) < 0).float())
    g, _ = method.generator(nets, batch, moment("generate"))
    torch.testing.assert_close(g["g"], bce(fake("generate"), 1.0))


def test_relativistic_losses_pair_real_with_fake():
    method, nets, batch = setup()
    judge = nets["discriminator"]
    d, _ = method.discriminator(nets, batch, moment("discriminate"))
    gap = judge(batch.x, {}, None) - judge(fake("discriminate"), {}, None)
    torch.testing.assert_close(d["d"], (1 + (-gap).exp()).log())
    g, _ = method.generator(nets, batch, moment("generate"))
    gap = judge(batch.x, {}, None) - judge(fake("generate"), {}, None)
    torch.testing.assert_close(g["g"], (1 + gap.exp()).log())


def test_at_equilibrium_every_loss_is_log_2():
    for config in ({}, {"loss": "non-saturating"}):
        method, nets, batch = setup(**config)
        nn.init.zeros_(nets["discriminator"].w)
        losses, _ = method.discriminator(nets, batch, moment("d"))
        losses |= method.generator(nets, batch, moment("g"))[0]
        for values in losses.values():
            torch.testing.assert_close(values, torch.full((5,), math.log(2)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_penalties_are_squared_gradient_norms_in_fp32(precision):
    """|grad D|^2 of a linear D is |w|^2, whatever the image; weights of 0 cost nothing."""
    method, nets, batch = setup(penalty_every=16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        values, _ = method.penalty(nets, batch, moment("penalise", r=1.0))
    expected = nets["discriminator"].w.detach().square().sum().expand(5)
    torch.testing.assert_close(values["r1"].detach(), expected)
    torch.testing.assert_close(values["r2"].detach(), expected)
    assert method.penalty(nets, batch, moment("penalise"))[0] == {}
    penalise = next(phase for phase in method.phases if phase.name == "penalise")
    assert penalise.every == 16


def test_ada_raises_p_while_the_discriminator_is_too_sure():
    method, _, _ = setup(augment="ada", ada_kimg=1.0)
    memory = method.memory()
    sure, unsure = {"sign": torch.ones(100)}, {"sign": torch.tensor([1.0, -1.0] * 50)}
    for _ in range(3):
        memory |= method.remember("discriminate", memory, sure)
    assert float(memory["p"]) == pytest.approx(0.3)
    memory |= method.remember("discriminate", memory, unsure)
    assert float(memory["p"]) == pytest.approx(0.2)
    assert method.remember("generate", memory, {}) == {}


def test_truncation_scales_the_latent():
    method, nets, _ = setup()
    z = RowDraw(0, 0, "s", range(5)).normal("latent", 4)
    how = method.Sampling(truncation=0.5)
    images = method.sample(nets, z, {}, torch.zeros(5, dtype=torch.bool), RowDraw(0, 0, "s", range(5)), how)
    torch.testing.assert_close(images.flatten(1), 0.5 * z)


def test_system_3_has_its_parameters():
    from safelight.networks import dcgan

    spec = DataSpec((3, 1024, 1024))
    with torch.device("meta"):
        generator, discriminator = (
            config().build(spec) for config in (dcgan.DCGeneratorConfig, dcgan.DCDiscriminatorConfig)
        )
    assert sum(p.numel() for p in generator.parameters()) == 117_515_843
    assert sum(p.numel() for p in discriminator.parameters()) == 3_915_393
    with torch.no_grad():
        small = DataSpec((3, 64, 64))
        z = torch.randn(2, 100)
        images = dcgan.DCGeneratorConfig(stem=8, stages=(8, 8)).build(small)(z, {}, torch.zeros(2))
        assert images.shape == (2, 3, 64, 64)
        assert images.abs().max() <= 1
        logits = dcgan.DCDiscriminatorConfig(stages=(8, 8)).build(small)(images, {}, torch.zeros(2))
        assert logits.shape == (2,)
