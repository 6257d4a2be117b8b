"""Conditions asked for in words, and images that do not know their company."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import toys
from safelight.config import UserError
from safelight.data.space import Space
from safelight.methods.diffusion import Diffusion, DiffusionConfig, DiffusionSampling
from safelight.networks import unet
from safelight.samplers import generate as module
from safelight.samplers.generate import conditions, generate
from safelight.types import Batch, Condition, DataSpec

CPU = torch.device("cpu")
SPEC = DataSpec((1, 8, 8), {"label": Condition("label", 3, ("cat", "dog", "7"))})


@pytest.mark.parametrize(
    ("wanted", "labels", "present"),
    [
        ({}, [0, 1, 2, 0, 1], True),
        ({"label": "each"}, [0, 1, 2, 0, 1], True),
        ({"label": "dog"}, [1] * 5, True),
        ({"label": "7"}, [2] * 5, True),
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
        ({"label": "dgo"}, "condition label=dgo: classes are cat, dog, 7 (did you mean 'dog'?)"),
        (
            {"label": "2"},
            "condition label=2: classes are cat, dog, 7",
        ),  # where a class is called 7, 2 is none
        ({"label": "3"}, "condition label=3: classes are cat, dog, 7"),
        ({"label": "-1"}, "condition label=-1: classes are cat, dog, 7"),
        ({"lable": "cat"}, "condition lable: the data has no such condition (did you mean 'label'?)"),
    ],
)
def test_what_cannot_be_asked_for_is_told_in_one_line(wanted, message):
    with pytest.raises(UserError) as error:
        conditions(SPEC, wanted, 5, CPU)
    assert str(error.value).startswith(message)


FACES = DataSpec(
    (1, 2, 2),
    {
        "label": Condition("label", 3, ("cat", "dog", "7")),
        "attributes": Condition("attributes", 2, ("hair", "mouth")),
        "mask": Condition("mask", 2),
    },
)


def real_items() -> Batch:
    """Four items, the second without conditions."""
    given = {
        "label": torch.tensor([2, 0, 1, 0]),
        "attributes": torch.tensor([[0.1, 0.2], [9, 9], [0.5, 0.6], [0.7, 0.8]]),
        "mask": torch.arange(32.0).reshape(4, 2, 2, 2),
    }
    present = torch.tensor([True, False, True, True])
    return Batch(torch.zeros(4, 1, 2, 2), given, present, range(4), 4)


def test_what_is_not_mentioned_is_that_of_real_items_in_turn():
    given, present = conditions(FACES, {}, 5, CPU, real_items)
    assert given["label"].tolist() == [2, 1, 0, 2, 1]
    assert torch.equal(given["attributes"], real_items().given["attributes"][[0, 2, 3, 0, 2]])
    assert torch.equal(given["mask"], real_items().given["mask"][[0, 2, 3, 0, 2]])
    assert present.all()


def test_attributes_by_name_and_all_at_once():
    given, _ = conditions(FACES, {"hair": "0.9", "label": "dog"}, 4, CPU, real_items)
    assert given["attributes"].tolist() == [
        pytest.approx(row) for row in ([0.9, 0.2], [0.9, 0.6], [0.9, 0.8], [0.9, 0.2])
    ]
    assert given["label"].tolist() == [1, 1, 1, 1]
    given, _ = conditions(FACES, {"attributes": "1,-2.5", "mouth": "3"}, 2, CPU, real_items)
    assert given["attributes"].tolist() == [[1, 3], [1, 3]]


def test_real_items_are_fetched_only_where_something_comes_from_them():
    def never() -> Batch:
        raise AssertionError("fetched")

    mask = torch.rand(3, 2, 2, 2)
    wanted = {"label": "each", "hair": "1", "mouth": "0", "mask": mask}
    given, present = conditions(FACES, wanted, 4, CPU, never)
    assert torch.equal(given["mask"], mask[[0, 1, 2, 0]])
    assert given["attributes"].tolist() == [[1, 0]] * 4
    assert given["label"].tolist() == [0, 1, 2, 0]
    assert present.all()
    given, present = conditions(FACES, {"mask": "none"}, 3, CPU, never)  # all conditions or none
    assert not present.any()
    assert {name: tuple(value.shape) for name, value in given.items()} == {
        "label": (3,), "attributes": (3, 2), "mask": (3, 2, 2, 2)
    }  # fmt: skip
    assert conditions(SPEC, {}, 3, CPU, never)[0]["label"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"hare": "1"}, "condition hare: the data has no such condition (did you mean 'hair'?)"),
        ({"hair": "long"}, "condition hair=long: expected a number, such as hair=0.5"),
        ({"hair": "inf"}, "condition hair=inf: expected a number"),
        ({"attributes": "1"}, "condition attributes=1: expected 2 numbers, of hair, mouth"),
        ({"mask": "left"}, "condition mask=left: expected mask=FILE.png, or mask=none"),
        ({"label": "bird"}, "condition label=bird: classes are cat, dog, 7"),
    ],
)
def test_what_cannot_be_asked_of_several_conditions(wanted, message):
    with pytest.raises(UserError) as error:
        conditions(
            FACES, {"label": "cat", "attributes": "0,0", "mask": torch.zeros(1, 2, 2, 2), **wanted}, 2, CPU
        )
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "examples", [None, lambda: replace(real_items(), present=torch.zeros(4, dtype=torch.bool))]
)
def test_without_real_items_a_condition_has_to_be_said(examples):
    with pytest.raises(UserError) as error:
        conditions(FACES, {"label": "cat", "mouth": "1"}, 2, CPU, examples)
    assert str(error.value).startswith("condition attributes: no real item to take it from")
    assert "hair=0.5" in str(error.value)


def diffusion() -> tuple[Diffusion, dict[str, nn.Module]]:
    method = Diffusion(DiffusionConfig(), {"denoiser": unet.UNetConfig(width=8, multipliers=(1,), middle=1)})
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


def test_what_a_gpu_cannot_hold_at_once_is_drawn_in_halves(monkeypatch):
    """The same images as in one chunk; where not even one fits, the device's error is passed on."""
    method, given, present = toys.ToyGan(), {}, torch.zeros(11, dtype=torch.bool)
    nets = {name: net.eval() for name, net in method.networks(toys.SPEC).items()}
    whole = generate(method, nets, toys.NoSettings(), given, present, 3)
    tried: list[int] = []
    sample, room = method.sample, 3

    def limited(nets, latent, *others):
        tried.append(len(latent))
        if len(latent) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(nets, latent, *others)

    monkeypatch.setattr(method, "sample", limited)
    halved = generate(method, nets, toys.NoSettings(), given, present, 3)
    assert tried == [11, 5, 2, 2, 2, 2, 2, 1]
    torch.testing.assert_close(halved, whole)
    room = 0
    with pytest.raises(torch.OutOfMemoryError):
        generate(method, nets, toys.NoSettings(), given, present, 3)
