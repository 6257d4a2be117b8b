"""The VAE's losses on networks whose answer is known, and what it remembers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from safelight.functional import elbo
from safelight.functional.contrast import distance
from safelight.methods.vae import FIRST, Vae, VaeConfig, VaeSampling
from safelight.networks import conv_vae, residual_vae
from safelight.randomness import RowDraw
from safelight.types import Batch, Condition, DataSpec, Encodes, Moment

SPEC = DataSpec((1, 4, 4))
WEIGHTS = {"nll": 1.0, "mse": 0.0, "kl": 1.0}
FACES = DataSpec((3, 24, 40), {"attributes": Condition("attributes", 5), "label": Condition("label", 2)})


class Fixed(nn.Module):
    """An encoder that answers (0.5, log .25) for both of its latents, a decoder that paints z[0]."""

    def __init__(self, decodes: bool) -> None:
        super().__init__()
        self.decodes = decodes

    def forward(self, x, given, present):
        if self.decodes:
            return x[:, :1, None, None].expand(-1, 1, 4, 4)
        return torch.full((len(x), 2), 0.5), torch.full((len(x), 2), math.log(0.25))


class Encoder:
    def latent_shape(self, spec):
        return (2,)

    def build(self, spec):
        return Fixed(decodes=False)


class Decoder:
    def build(self, spec, latent):
        assert latent == (2,)
        return Fixed(decodes=True)


def vae(**config: object) -> Vae:
    return Vae(VaeConfig(**config), {"encoder": Encoder(), "decoder": Decoder()})


def batch(spec: DataSpec = SPEC, rows: range = range(6)) -> Batch:
    draw = RowDraw(3, 0, "data", rows)
    given = {}
    if spec.conditions:
        given = {"attributes": draw.uniform("a", 5), "label": draw.integers("y", 2)}
    return Batch(draw.normal("x", *spec.shape).tanh(), given, draw.uniform("p") < 0.7, rows, len(rows))


def moment(memory=None, weights=None) -> Moment:
    return Moment(
        0,
        RowDraw(0, 0, "autoencode", range(6)),
        memory or {},
        weights or WEIGHTS,
        lambda t: t,
        lambda: None,
    )


def error_and_kl(data: Batch) -> tuple[torch.Tensor, float]:
    """By hand: z = .5 + .5 ε; the error in units of the image's range, so halved."""
    z = 0.5 + 0.5 * RowDraw(0, 0, "autoencode", range(6)).normal("z", 2)
    mse = ((z[:, :1, None, None] - data.x) / 2).square().mean((1, 2, 3))
    return mse, 2 * 0.5 * (0.25 + 0.25 - 1 - math.log(0.25))


def test_weight_states_mse_and_kl():
    method = vae()
    nets = method.networks(SPEC)
    weights = {"nll": 1.0, "mse": 50.0, "kl": 0.5}
    losses, seen = method.loss(nets, batch(), moment(method.memory(), weights))
    mse, nats = error_and_kl(batch())
    assert set(losses) == {"mse", "kl"}
    torch.testing.assert_close(losses["mse"], mse)
    torch.testing.assert_close(losses["kl"], torch.full((6,), nats))
    torch.testing.assert_close(seen["sigma"], torch.full((6,), 0.5 * 16 / (2 * 50)).sqrt())


def test_sigma_states_the_likelihood():
    method = vae(sigma=0.3)
    losses, seen = method.loss(method.networks(SPEC), batch(), moment())
    mse, _ = error_and_kl(batch())
    torch.testing.assert_close(losses["nll"], elbo.gaussian_nll(mse, 0.09, 16))
    torch.testing.assert_close(seen["mse"], mse)
    torch.testing.assert_close(seen["sigma"], torch.full((6,), 0.3))
    assert method.memory() == {}


def test_a_calibrated_sigma_follows_the_error():
    """From the variance of nothing known to the error itself, at which no σ is better."""
    method = vae()
    memory = method.memory()
    assert float(memory["mse"]) == pytest.approx(FIRST)
    for _ in range(200):
        memory |= method.remember("autoencode", memory, {"mse": torch.tensor([0.01, 0.03])})
    assert float(memory["mse"]) == pytest.approx(0.02)
    losses, _ = method.loss(method.networks(SPEC), batch(), moment(memory))
    mse, _ = error_and_kl(batch())
    torch.testing.assert_close(losses["nll"], elbo.gaussian_nll(mse, 0.02, 16))
    assert float(method.variance({"mse": torch.zeros(())}, mse)) == pytest.approx(elbo.FINEST)


def test_free_bits_cost_nothing_below_their_number():
    """Both latents cost .443 nats: above .4 as they are, below .6 as .6, without a gradient."""
    _, nats = error_and_kl(batch())
    for free, expected in ((0.4, nats), (0.6, 1.2)):
        method = vae(free_bits=free)
        losses, _ = method.loss(method.networks(SPEC), batch(), moment(method.memory()))
        torch.testing.assert_close(losses["kl"], torch.full((6,), expected))


def test_held_out_numbers_are_those_of_the_bound():
    method = vae()
    nets = method.networks(SPEC)
    measured = method.measure(nets, batch(), RowDraw(0, 0, "autoencode", range(6)))
    mse, nats = error_and_kl(batch())
    torch.testing.assert_close(measured["mse"], mse)
    assert float(measured["kl"].mean()) == pytest.approx(nats)
    assert int(measured["active units"]) == 0  # the same mean for every image
    assert float(measured["bpd*"]) == pytest.approx(
        float(elbo.bits_per_value(mse.mean(), nats, 16)), abs=1e-6
    )


PAIRS = {
    "conv": (
        conv_vae.ConvEncoderConfig(latent=7, widths=(8, 12, 6)),
        conv_vae.ConvDecoderConfig(widths=(6, 12, 8)),
    ),
    "residual": (
        residual_vae.ResidualEncoderConfig(latent=7, widths=(8, 16)),
        residual_vae.ResidualDecoderConfig(widths=(16, 8)),
    ),
    "spatial": (
        residual_vae.ResidualEncoderConfig(latent=2, spatial=True, widths=(8, 16)),
        residual_vae.ResidualDecoderConfig(widths=(16, 8)),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_encoded_can_be_decoded(pair):
    """Vector and spatial latents alike: an image, its latent, an image of the same shape."""
    encoder, decoder = PAIRS[pair]
    method = Vae(VaeConfig(), {"encoder": encoder, "decoder": decoder})
    nets = {name: net.eval() for name, net in method.networks(FACES).items()}
    data = batch(FACES)
    assert isinstance(method, Encodes)
    z = method.encode(nets, data, RowDraw(0, 0, "e", data.rows))
    assert z.shape[1:] == method.latent(RowDraw(0, 0, "l", data.rows)).shape[1:] == method.latent_shape
    made = method.sample(nets, z, data.given, data.present, RowDraw(0, 0, "s", data.rows), VaeSampling())
    assert made.shape == data.x.shape


@pytest.mark.parametrize("pair", PAIRS)
def test_conditions_count_only_where_they_are_present(pair):
    encoder, decoder = PAIRS[pair]
    method = Vae(VaeConfig(), {"encoder": encoder, "decoder": decoder})
    nets = method.networks(FACES)
    generator = torch.Generator().manual_seed(0)
    for net in nets.values():
        net.eval()
        for parameter in net.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    data = batch(FACES)
    other = {"attributes": 1 - data.given["attributes"], "label": 1 - data.given["label"]}
    z = method.latent(RowDraw(0, 0, "l", data.rows))
    differs = method.decode(nets, z, data.given, data.present) != method.decode(nets, z, other, data.present)
    assert torch.equal(differs.flatten(1).any(1), data.present)
    means = [nets["encoder"](data.x, given, data.present)[0] for given in (data.given, other)]
    assert torch.equal((means[0] != means[1]).flatten(1).any(1), data.present)


class Maps(nn.Module):
    """Two feature maps that are known: the image, and its negative at half size."""

    def forward(self, x):
        return [x, -x[:, :, ::2, ::2]]


class Logit(nn.Module):
    """D(x) = slope * mean of x."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(2.0))

    def forward(self, x, given, present):
        return self.slope * x.mean((1, 2, 3))


class Others:
    def __init__(self, net):
        self.net = net

    def build(self, spec):
        return self.net


def test_perceptual_and_adversarial_terms_are_there_where_their_networks_are():
    networks = {"encoder": Encoder(), "decoder": Decoder(), "perceptual": Others(Maps()),
                "discriminator": Others(Logit())}  # fmt: skip
    method = Vae(VaeConfig(), networks)
    assert vae().components == WEIGHTS
    assert method.components == {**vae().components, "perceptual": 0.0, "adversarial": 0.0, "d": 1.0}
    assert (vae().frozen, method.frozen) == ((), ("perceptual",))
    nets, data = method.networks(SPEC), batch()
    quiet = moment(method.memory(), method.components)
    assert set(method.loss(nets, data, quiet)[0]) == {"nll", "kl"}
    assert method.discriminate(nets, data, quiet) == ({}, {})
    weights = {**method.components, "perceptual": 1.0, "adversarial": 1.0}
    losses, _ = method.loss(nets, data, moment(method.memory(), weights))
    z = 0.5 + 0.5 * RowDraw(0, 0, "autoencode", range(6)).normal("z", 2)
    decoded = z[:, :1, None, None].expand(-1, 1, 4, 4)
    torch.testing.assert_close(losses["perceptual"], distance(Maps()(decoded), Maps()(data.x)))
    torch.testing.assert_close(losses["adversarial"], (1 + (-2 * z[:, 0]).exp()).log())
    judged, _ = method.discriminate(nets, data, moment(method.memory(), weights))
    real = data.x.mean((1, 2, 3))
    expected = (1 + (-2 * real).exp()).log() + (1 + (2 * z[:, 0]).exp()).log()
    torch.testing.assert_close(judged["d"], expected)
