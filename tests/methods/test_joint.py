"""The joint encoder's losses against cross-entropies, and over the global batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from safelight.config import UserError
from safelight.engine.loop import Job, train
from safelight.engine.plan import Optim, Plan, Train
from safelight.engine.state import State
from safelight.methods.joint import Joint, JointConfig
from safelight.networks import towers
from safelight.randomness import RowDraw
from safelight.types import Batch, Condition, DataSpec, Moment

SPEC = DataSpec((3, 8, 8), {"text": Condition("text", 6)})


def made(jitter: float = 0.0) -> Joint:
    image, text = (
        towers.ImageTowerConfig(widths=(4, 8), features=5),
        towers.TextTowerConfig(width=8, features=5),
    )
    return Joint(JointConfig(jitter=jitter), {"image": image, "text": text})


def batch(rows: range, total: int, step: int = 0) -> Batch:
    draw = RowDraw(1, step, "data", rows)
    given, present = {"text": draw.normal("text", 6)}, torch.ones(len(rows), dtype=torch.bool)
    return Batch(draw.normal("x", 3, 8, 8).tanh(), given, present, rows, total)


def moment(rows: range = range(6)) -> Moment:
    return Moment(0, RowDraw(0, 0, "agree", rows), {}, {"image_text": 1.0, "text_image": 1.0}, lambda t: t,
                  lambda: torch.autocast("cpu", enabled=False))  # fmt: skip


def test_both_directions_are_cross_entropies():
    torch.manual_seed(0)
    method, data = made(), batch(range(6), 6)
    nets = method.networks(SPEC)
    losses, seen = method.loss(nets, data, moment())
    a = F.normalize(nets["image"](data.x), dim=1)
    b = F.normalize(nets["text"](data.given["text"]), dim=1)
    logits = a @ b.T / 0.07
    target = torch.arange(6)
    torch.testing.assert_close(losses["image_text"], F.cross_entropy(logits, target, reduction="none"))
    torch.testing.assert_close(losses["text_image"], F.cross_entropy(logits.T, target, reduction="none"))
    torch.testing.assert_close(seen["scale"], torch.full((6,), 1 / 0.07))


def test_images_of_one_text_and_without_text_are_not_contrasted():
    torch.manual_seed(0)
    method, data = made(), batch(range(6), 6)
    nets = method.networks(SPEC)
    text = data.given["text"].clone()
    text[1] = text[0]
    present = torch.tensor([True] * 5 + [False])
    losses, _ = method.loss(nets, replace(data, given={"text": text}, present=present), moment())
    a, b = F.normalize(nets["image"](data.x), dim=1), F.normalize(nets["text"](text), dim=1)
    logits = a @ b.T / 0.07
    expected = F.cross_entropy(logits[:1, [0, 2, 3, 4]], torch.tensor([0]))
    torch.testing.assert_close(losses["image_text"][0], expected)
    assert float(losses["image_text"][5].detach()) == 0


@pytest.mark.parametrize("accumulate", [2, 3])
def test_the_parts_of_a_batch_do_not_matter(accumulate):
    class Stream:
        def parts(self, step, accumulate, rank, world):
            size = 12 // accumulate
            return [batch(range(start, start + size), 12, step) for start in range(0, 12, size)]

    states = []
    for parts in (1, accumulate):
        method = made(jitter=0.1)
        plan = Plan(
            4,
            Train(steps=4, batch_size=12, accumulate=parts, precision="fp32", ema=0.9, ema_lengths=()),
            {name: Optim(lr=1e-3, eps=1e-3) for name in ("image", "text")},
            dict(method.components),
        )
        state = State(method, SPEC, plan, torch.device("cpu"), "contiguous")
        train(Job(method, state, Stream(), lambda step, plan=plan: plan, lambda record: None, lambda s: None))
        states.append(state)
    for name, tensor in states[0].groups()["networks"].items():
        torch.testing.assert_close(states[1].groups()["networks"][name], tensor, rtol=2e-4, atol=2e-5)


def test_the_rank_is_the_share_of_texts_that_fit_worse():
    torch.manual_seed(0)
    method, data = made(), batch(range(6), 6)
    nets = method.networks(SPEC)
    with torch.no_grad():
        values = method.measure(nets, data, RowDraw(0, 0, "m", range(6)))
        fits = method.fits(nets, data)
    for row in range(6):
        worse = sum(float(fits[row, row] > fits[row, other]) for other in range(6) if other != row)
        assert float(values["retrieval rank"][row]) == pytest.approx(worse / 5)
    panel = method.panels(nets, data, RowDraw(0, 0, "m", range(6)))["retrieval"]
    assert panel.images.shape == (6, 7, 3, 8, 8)
    assert torch.equal(panel.images[2, 1], data.x[int(fits[:, 2].argmax())])


def test_it_draws_nothing():
    with pytest.raises(UserError, match="cannot generate images"):
        made().latent(RowDraw(0, 0, "s", range(2)))
