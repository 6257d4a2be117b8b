"""Traversals on a decoder that shows what it was given, and principal components that are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import model_of
from safelight.config import UserError
from safelight.explore import traverse
from safelight.functional import sliders
from safelight.loading.model import Model
from safelight.methods.vae import Vae, VaeConfig, VaeSampling
from safelight.randomness import RowDraw
from safelight.types import Batch, Condition, DataSpec

SPEC = DataSpec((1, 2, 3), {"attributes": Condition("attributes", 2, ("hair", "eyes"))})


class Shows(nn.Module):
    """Paints z, hair, eyes into an image; as an encoder, reads the first three pixels."""

    def forward(self, x, given, present):
        if x.ndim == 4:
            return x.flatten(1)[:, :3], torch.zeros(len(x), 3)
        return torch.cat([x, given["attributes"], x[:, :1]], 1).view(-1, 1, 2, 3)


class Build:
    def latent_shape(self, spec):
        return (3,)

    def build(self, spec, latent=()):
        return Shows()


def model() -> Model:
    method = Vae(VaeConfig(), {"encoder": Build(), "decoder": Build()})
    return model_of(method, method.networks(SPEC), VaeSampling(), SPEC)


def given(rows: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    return {"attributes": torch.rand(rows, 2)}, torch.ones(rows, dtype=torch.bool)


def test_a_row_has_one_latent_and_a_column_one_value():
    conditions, present = given(4)
    both = [sliders.read(text, SPEC) for text in ("hair=0..1", "eyes=0.2..0.4")]
    made = traverse.along_conditions(model(), both, 2, conditions, present, seed=3)
    pixels = made.images.flatten(2)  # (rows, columns, 6)
    z = RowDraw(3, 0, "sample", range(4)).normal("latent", 3)
    torch.testing.assert_close(pixels[:, :, :3], z[:, None].expand(4, 4, 3))
    expected = torch.tensor([[0.0, 0.2], [0.0, 0.4], [1.0, 0.2], [1.0, 0.4]])
    torch.testing.assert_close(pixels[:, :, 3:5], expected.expand(4, 4, 2))
    assert made.columns == ("hair 0 eyes 0.2", "hair 0 eyes 0.4", "hair 1 eyes 0.2", "hair 1 eyes 0.4")


def test_an_attribute_that_is_not_moved_is_that_of_the_row():
    conditions, present = given(3)
    made = traverse.along_conditions(model(), [sliders.read("hair=0..1", SPEC)], 5, conditions, present, 0)
    assert made.images.shape == (3, 5, 1, 2, 3)
    eyes = conditions["attributes"][:, 1:].expand(3, 5)
    torch.testing.assert_close(made.images.flatten(2)[:, :, 4], eyes)


def test_components_are_those_that_vary_most():
    """Latents spread 3, 2 and 1 along a rotated basis about a mean."""
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
    spread = torch.randn(5000, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([3.0, 2.0, 1.0])
    axes = traverse.components(spread @ rotation.T + 5)
    torch.testing.assert_close(axes.deviations.float(), torch.tensor([3.0, 2.0, 1.0]), rtol=0.05, atol=0)
    torch.testing.assert_close(axes.shares.float(), torch.tensor([9.0, 4.0, 1.0]) / 14, rtol=0.08, atol=0)
    cosines = (axes.directions.float() * rotation.T).sum(1).abs()
    assert float(cosines.min()) > 0.99
    assert float(axes.directions.gather(1, axes.directions.abs().argmax(1, keepdim=True)).min()) > 0


def test_a_row_goes_along_its_component_and_nowhere_else():
    x = torch.randn(300, 1, 2, 3, generator=torch.Generator().manual_seed(2)) * torch.arange(1, 7).view(
        1, 1, 2, 3
    )
    conditions, present = given(300)
    real = Batch(x, conditions, present, range(300), 300)
    latents = traverse.encoded(model(), real, seed=0)
    torch.testing.assert_close(latents, x.flatten(1)[:, :3])
    axes = traverse.components(latents)
    few = {name: value[:2] for name, value in conditions.items()}
    made = traverse.along_components(model(), axes, [1], 5, few, present[:2], seed=0)
    z = made.images.flatten(2)[:, :, :3].double() - axes.mean
    places = torch.linspace(-2.5, 2.5, 5).double() * axes.deviations[0]
    torch.testing.assert_close(z @ axes.directions[0], places.expand(2, 5), rtol=1e-4, atol=1e-4)
    across = z @ axes.directions[1:].T
    torch.testing.assert_close(across, across[:, :1].expand_as(across), rtol=1e-4, atol=1e-4)
    several = traverse.along_components(model(), axes, [3, 1], 5, few, present[:2], seed=0)
    assert several.images.shape[:2] == (2, 5)
    assert several.rows[1].startswith("1: ")
    torch.testing.assert_close(several.images[1], made.images[0])


def test_what_cannot_be_gone_along_is_told():
    conditions, present = given(2)
    axes = traverse.components(torch.randn(9, 3))
    with pytest.raises(UserError, match="component 4: there are 3, counted from 1"):
        traverse.along_components(model(), axes, [4], 3, conditions, present, 0)
