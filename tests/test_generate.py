"""Conditions asked for in words, and images that do not know their company."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import toys
from safelight import generate as module
from safelight.config import UserError
from safelight.data.space import Space
from safelight.generate import conditions, generate
from safelight.methods.diffusion import Diffusion, DiffusionConfig, DiffusionSampling
from safelight.networks import unet
from safelight.types import Condition, DataSpec

CPU = torch.device("cpu")
SPEC = DataSpec((1, 8, 8), {"label": Condition("label", 3, ("cat", "dog", "7"))})


@pytest.mark.parametrize(
    ("wanted", "labels", "present"),
    [
        ({}, [0, 1, 2, 0, 1], True),
        ({"label": "each"}, [0, 1, 2, 0, 1], True),
        ({"label": "dog"}, [1] * 5, True),
        ({"label": "2"}, [2] * 5, True),
        ({"label": "7"}, [2] * 5, True),  # a name goes before a number
        ({"label": "none"}, [0] * 5, False),
    ],
)
def test_conditions_in_words(wanted, labels, present):
    given, there = conditions(SPEC, wanted, 5, CPU)
    assert given["label"].tolist() == labels
    assert there.tolist() == [present] * 5


def test_data_without_conditions_has_none_present():
    given, present = conditions(DataSpec((1, 8, 8)), {}, 3, CPU)
    assert given == {}
    assert present.tolist() == [False] * 3


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"label": "dgo"}, "condition label=dgo: not one of the 3 classes (did you mean 'dog'?)"),
        ({"label": "3"}, "condition label=3: not one of the 3 classes"),
        ({"label": "-1"}, "condition label=-1: not one of the 3 classes"),
        ({"lable": "cat"}, "condition lable: the data has no such condition (did you mean 'label'?)"),
    ],
)
def test_what_cannot_be_asked_for_is_told_in_one_line(wanted, message):
    with pytest.raises(UserError) as error:
        conditions(SPEC, wanted, 5, CPU)
    assert str(error.value).startswith(message)


def diffusion() -> tuple[Diffusion, dict[str, nn.Module]]:
    method = Diffusion(DiffusionConfig(), {"denoiser": unet.Config(width=8, multipliers=(1,), middle=1)})
    torch.manual_seed(0)
    nets = {name: net.eval() for name, net in method.networks(SPEC).items()}
    for parameter in nets["denoiser"].parameters():  # a new network's output is zero
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return method, nets


@pytest.mark.parametrize("sampler", ["heun", "ancestral"])
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_an_image_is_the_same_in_any_company(monkeypatch, sampler, chunk):
    """In 8 bits: the last bits of a float may depend on how many images are computed at once."""
    method, nets = diffusion()
    how = DiffusionSampling(sampler=sampler, steps=3, guidance=2.0)
    given, present = conditions(SPEC, {}, 7, CPU)
    counted: list[int] = []
    whole = generate(method, nets, how, given, present, 4, progress=counted.append)
    monkeypatch.setattr(module, "CHUNK", chunk)
    parts = generate(method, nets, how, given, present, 4, progress=counted.append)
    assert sum(counted) == 14
    pixels = Space().to_pixels(whole)
    assert (pixels == Space().to_pixels(parts)).all()
    assert len({image.tobytes() for image in pixels}) == 7
    first = generate(method, nets, how, {"label": given["label"][:2]}, present[:2], 4)
    assert (Space().to_pixels(first) == pixels[:2]).all()


def test_another_seed_gives_other_images():
    method = toys.ToyGan()
    nets = {name: net.eval() for name, net in method.networks(toys.SPEC).items()}
    present = torch.zeros(6, dtype=torch.bool)
    images = [generate(method, nets, toys.NoSettings(), {}, present, seed) for seed in (0, 0, 1)]
    assert torch.equal(images[0], images[1])
    assert (images[0] - images[2]).abs().flatten(1).amax(1).min() > 1e-3
