"""A specimen is what its id says, and nothing else."""

from __future__ import annotations

import pytest
import torch

from models import model_of
from safelight.config import UserError
from safelight.explore.specimens import Specimen, develop, parse_specimen, start_of
from safelight.types import Batch, Condition, DataSpec
from toys import SPEC, NoSettings, ToyGan


def no_examples(count: int) -> Batch:
    raise AssertionError("classes are drawn, not taken from items")


def start(text: str, seed: int = 0, spec: DataSpec = SPEC, examples=no_examples):
    model = model_of(ToyGan(), {}, NoSettings(), spec, seed=seed, examples=examples)
    return start_of(parse_specimen(text), model)


def test_an_id_is_a_step_and_a_draw():
    assert parse_specimen("16500.28") == Specimen(16500, 28)
    assert str(Specimen(16500, 28)) == "16500.28"
    for wrong in ("16500", "16500.", ".28", "1.2.3", "-1.2", "1.-x", "1.X", "1,2", ""):
        with pytest.raises(UserError, match=r"expected STEP\.DRAW"):
            parse_specimen(wrong)


def test_the_id_and_the_seed_decide_the_latent_and_nothing_else_does():
    torch.manual_seed(3)
    first = start("500.28").latent
    torch.rand(5)
    assert torch.equal(first, start("500.28").latent)
    others = [start("500.29").latent, start("501.28").latent, start("500.28", seed=1).latent]
    assert not any(torch.equal(first, other) for other in others)


def test_latents_are_as_they_were_when_ids_were_given_out():
    """Another value would mean that every id that was noted down shows another picture."""
    expected = torch.tensor([1.7682897, 1.266693, -1.2094991, 1.2858766])
    torch.testing.assert_close(start("16500.28").latent[0, :4], expected, rtol=1e-6, atol=1e-6)


def test_latents_of_draws_are_standard_normal():
    latents = torch.cat([start(f"7.{draw}").latent for draw in range(500)])
    assert abs(float(latents.mean())) < 0.05
    assert abs(float(latents.std()) - 1) < 0.05


def test_classes_are_drawn_evenly():
    spec = DataSpec((1, 4, 4), {"label": Condition("label", 4)})
    starts = [start(f"9.{draw}", spec=spec) for draw in range(400)]
    labels = torch.cat([drawn.given["label"] for drawn in starts])
    assert all(bool(drawn.present) for drawn in starts)
    assert torch.bincount(labels, minlength=4).min() > 70
    assert torch.equal(
        labels[:5], torch.cat([start(f"9.{draw}", spec=spec).given["label"] for draw in range(5)])
    )


def test_other_conditions_are_all_those_of_one_real_item():
    spec = DataSpec((1, 4, 4), {"label": Condition("label", 50), "hair": Condition("attributes", 2)})
    numbers = torch.arange(50)
    given = {"label": numbers, "hair": torch.stack([numbers, -numbers], 1).float()}
    real = Batch(torch.zeros(50, 1, 4, 4), given, torch.ones(50, dtype=torch.bool), range(50), 50)
    for draw in range(20):
        given = start(f"3.{draw}", spec=spec, examples=lambda count: real).given
        label = float(given["label"])
        assert given["hair"].tolist() == [[label, -label]]
    chosen = {
        int(start(f"3.{draw}", spec=spec, examples=lambda count: real).given["label"]) for draw in range(40)
    }
    assert len(chosen) > 15


def test_where_no_item_has_conditions_that_is_told():
    spec = DataSpec((1, 4, 4), {"hair": Condition("attributes", 2)})
    empty = Batch(
        torch.zeros(0, 1, 4, 4), {"hair": torch.zeros(0, 2)}, torch.ones(0, dtype=torch.bool), range(0), 0
    )
    with pytest.raises(UserError, match=r"specimen 3\.1: the data has no item"):
        start("3.1", spec=spec, examples=lambda count: empty)


def test_a_specimen_is_developed_alone():
    method = ToyGan()
    nets = {name: net.eval() for name, net in method.networks(SPEC).items()}
    image = develop(start("5.5"), model_of(method, nets, NoSettings(), SPEC))
    assert image.shape == (1, *SPEC.shape)
    assert torch.equal(image, nets["generator"](start("5.5").latent))
    assert not image.requires_grad
