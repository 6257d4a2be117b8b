"""Directions on a linear generator, where both kinds are its singular vectors, and on one of styles."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import model_of
from safelight.config import UserError
from safelight.explore import directions
from safelight.loading.model import Model
from safelight.methods.gan import Gan, GanConfig, GanSampling
from safelight.methods.textgan import TextGan, TextGanConfig, TextGanSampling
from safelight.networks import style_discriminator, style_generator
from safelight.randomness import RowDraw
from safelight.types import Condition, DataSpec

SPEC = DataSpec((1, 2, 3), {"label": Condition("label", 2)})
SINGULAR = torch.tensor([4.0, 2.0, 1.0])


def matrix() -> torch.Tensor:
    """(6, 3), of known singular values."""
    chance = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(6, 3, generator=chance))
    right, _ = torch.linalg.qr(torch.randn(3, 3, generator=chance))
    return left @ torch.diag(SINGULAR) @ right.T


def right_vectors() -> torch.Tensor:
    """(3, 3), rows, the largest entry of each positive."""
    return directions.signed(torch.linalg.svd(matrix())[2])


class Linear(nn.Module):
    """A z + B label, A known; what is told of the class goes through a layer of its own first."""

    def __init__(self) -> None:
        super().__init__()
        self.told = nn.Linear(1, 3)
        self.layer = nn.Linear(6, 6)
        with torch.no_grad():
            self.layer.weight[:, :3] = matrix()

    def forward(self, z, given, present):
        shift = self.told(given["label"].float()[:, None])
        return self.layer(torch.cat([z, shift], 1)).view(-1, 1, 2, 3)


class Build:
    latent = 3

    def build(self, spec):
        return Linear()


def linear() -> Model:
    method = Gan(GanConfig(), {"generator": Build(), "discriminator": Build()})
    return model_of(method, method.networks(SPEC), GanSampling(), SPEC)


def styled() -> Model:
    torch.manual_seed(0)
    spec = DataSpec((3, 8, 8))
    networks = {
        "generator": style_generator.StyleGeneratorConfig(latent=6, depth=2, base=32, largest=8),
        "discriminator": style_discriminator.StyleDiscriminatorConfig(base=32, largest=8),
    }
    method = TextGan(TextGanConfig(), networks)
    return model_of(method, method.networks(spec), TextGanSampling(), spec)


def conditions(rows: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    return {"label": torch.arange(rows) % 2}, torch.ones(rows, dtype=torch.bool)


def test_of_a_linear_generator_principal_directions_are_singular_vectors():
    """Exactly so where latents are white, as those of a sample are made here."""
    z = torch.randn(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    z = z - z.mean(0)
    white = z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / 399)).T
    moved = directions.transferred(white, white @ matrix().double().T + 7)
    torch.testing.assert_close(moved.steps, right_vectors().double(), rtol=1e-6, atol=1e-6)
    shares = SINGULAR.double().square()
    torch.testing.assert_close(moved.shares, shares / shares.sum())


def test_closed_form_directions_are_singular_vectors_of_the_layer_that_sees_latents():
    model, (given, present) = linear(), conditions(1)
    with torch.no_grad():
        layer = directions.first_layer(model, 3, given, present)
    torch.testing.assert_close(layer, matrix(), rtol=1e-5, atol=1e-5)
    suggestion = directions.suggested(model, "sefa", given, present)
    cosines = (suggestion.steps * right_vectors()).sum(1) / suggestion.steps.norm(dim=1)
    torch.testing.assert_close(cosines, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(
        suggestion.steps.norm(dim=1), torch.ones(3).double(), rtol=0.05, atol=0
    )  # z is white
    torch.testing.assert_close(suggestion.shares.float(), SINGULAR.square() / 21)


def test_both_kinds_agree_on_a_linear_generator_by_its_pictures():
    model, (given, present) = linear(), conditions(1)
    suggestion = directions.suggested(model, "pca", given, present)
    cosines = (suggestion.steps * right_vectors()).sum(1) / suggestion.steps.norm(dim=1)
    assert float(cosines.min()) > 0.98
    again = directions.suggested(model, "pca", given, present)
    assert torch.equal(suggestion.steps, again.steps)


def test_styles_have_their_principal_components_and_the_affines_theirs():
    model, present = styled(), torch.zeros(1, dtype=torch.bool)
    generator = model.nets["generator"]
    z = RowDraw(0, 0, "directions", range(directions.MANY)).normal("latent", 6)
    with torch.no_grad():
        w = generator.mapping(z).double()
        modulated = [
            module for module in generator.modules() if isinstance(module, style_generator.Modulated)
        ]
        stacked = torch.cat([module.affine.weight * module.affine.gain for module in modulated])
    values, vectors = torch.linalg.eigh(torch.cov(w.T))
    suggestion = directions.suggested(model, "pca", {}, present)
    expected = directions.signed(vectors.T.flip(0)) * values.flip(0).sqrt()[:, None]
    torch.testing.assert_close(suggestion.steps, expected, rtol=1e-4, atol=1e-5)
    suggestion = directions.suggested(model, "sefa", {}, present)
    expected = directions.signed(torch.linalg.svd(stacked.double(), full_matrices=False)[2])
    deviations = (w @ expected.T).std(0)
    torch.testing.assert_close(suggestion.steps, expected * deviations[:, None], rtol=1e-4, atol=1e-5)


def test_zero_is_the_sample_and_one_direction_is_moved():
    model, (given, present) = linear(), conditions(2)
    draw = RowDraw(5, 0, "sample", range(2))
    wanted = directions.read("sefa:1=-2..2")
    made = directions.along(model, [wanted], 5, given, present, draw).images.flatten(2)
    z = model.method.latent(draw)
    torch.testing.assert_close(made[:, 2], model.sample(z, given, present, draw).flatten(1))
    step = directions.suggested(model, "sefa", given, present).steps[0].float()
    torch.testing.assert_close(made[:, 4] - made[:, 2], (2 * matrix() @ step).expand(2, 6))


def test_several_directions_move_one_latent_and_styles_move_in_all_layers():
    model, present = styled(), torch.zeros(1, dtype=torch.bool)
    draw = RowDraw(5, 0, "sample", range(1))
    wanted = [directions.read(text) for text in ("sefa:2", "pca:1")]
    made = directions.along(model, wanted, 3, {}, present, draw)
    sample = model.sample(model.method.latent(draw), {}, present, draw)[0]
    torch.testing.assert_close(made.images[:, 1], sample.expand(2, 3, 8, 8))
    assert made.rows[0].startswith("sefa:2: ")
    w = model.method.style(model.nets, model.method.latent(draw), model.how)
    moved = w + 3 * directions.suggested(model, "pca", {}, present).steps[0].float()
    torch.testing.assert_close(made.images[1, 2], model.sample(moved, {}, present, draw)[0])


@pytest.mark.parametrize("text", ["pca", "pca:x", "ica:1", "pca:1=2", "pca:1=a..b", "pca:1=0..inf", "pca:-1"])
def test_what_is_no_direction_is_told(text):
    with pytest.raises(UserError, match="expected pca:1 or sefa:1"):
        directions.read(text)


def test_what_is_not_there_is_told():
    model, (given, present) = linear(), conditions(1)
    draw = RowDraw(0, 0, "sample", range(1))
    for number in (0, 4):
        with pytest.raises(UserError, match=f"direction sefa:{number}: there are 3, counted from 1"):
            directions.along(model, [directions.DirectionRange("sefa", number)], 3, given, present, draw)
    ranges = [directions.read(text) for text in ("pca:1=0..1", "pca:2")]
    with pytest.raises(UserError, match="one range for all"):
        directions.along(model, ranges, 3, given, present, draw)
