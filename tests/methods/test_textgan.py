"""The losses of a text GAN on networks whose outputs are known, and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from safelight.engine.loop import Job, train
from safelight.engine.plan import Optim, Plan, Train
from safelight.engine.state import State
from safelight.functional.contrast import contrastive, perturbed
from safelight.methods.textgan import TextGan, TextGanConfig
from safelight.networks import style_discriminator, style_generator
from safelight.randomness import RowDraw
from safelight.types import Batch, Condition, DataSpec, Moment

SPEC = DataSpec((1, 8, 8), {"text": Condition("text", 5)})
ALL = ("d", "con_d", "mismatch", "g", "con_g_d", "image_d", "con_g_encoder", "image_encoder", "perceptual",
       "r1", "path", "variety")  # fmt: skip


class Means(nn.Module):
    """An encoder: five fixed linear features of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", RowDraw(9, 0, "means", range(5)).normal("w", 64))

    def forward(self, x):
        return F.normalize(x.flatten(1).float() @ self.matrix.T, dim=1)


class Maps(nn.Module):
    """A perceptual network: the image, and the image averaged."""

    def forward(self, x):
        x = torch.cat([x, torch.ones_like(x)], 1)
        return [x, F.avg_pool2d(x, 2)]


class Build:
    def __init__(self, make) -> None:
        self.make = make

    def build(self, spec):
        return self.make()


def made(**config) -> TextGan:
    return TextGan(
        TextGanConfig(**config),
        {
            "generator": style_generator.StyleGeneratorConfig(latent=8, depth=2, base=64, largest=8),
            "discriminator": style_discriminator.StyleDiscriminatorConfig(base=64, largest=8),
            "encoder": Build(Means),
            "perceptual": Build(Maps),
        },
    )


def setup(**config):
    torch.manual_seed(0)
    method = made(**config)
    nets = method.networks(SPEC)
    return method, nets, batch(range(6), 6)


def batch(rows: range, total: int, step: int = 0) -> Batch:
    draw = RowDraw(1, step, "data", rows)
    given = {"text": F.normalize(draw.normal("text", 5), dim=1)}
    return Batch(draw.normal("x", 1, 8, 8).tanh(), given, draw.uniform("there") < 0.9, rows, total)


def moment(phase: str, method: TextGan, step: int = 3, rows: range = range(6), **weights: float) -> Moment:
    every = dict.fromkeys(ALL, 0.0) | weights
    return Moment(step, RowDraw(0, step, phase, rows), method.memory(), every, lambda t: t,
                  lambda: torch.autocast("cpu", enabled=False))  # fmt: skip


def test_contrastive_by_hand():
    """Three features at right angles or alike: cosines are 0 and 1."""
    a = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 5.0]])
    there = torch.ones(3, dtype=torch.bool)
    e = math.exp(1 / 0.5)
    expected = torch.tensor([-math.log(e / (e + 2)), -math.log(e / (2 * e + 1)), -math.log(1 / (e + 2))])
    torch.testing.assert_close(contrastive(a, b, 0.5, there), expected)
    twice = -math.log(math.exp(e) / (math.exp(e) + 2 * math.exp(1)))
    assert float(contrastive(a, b, 0.5, there, twice=True)[0]) == pytest.approx(twice, rel=1e-3)
    without = contrastive(a, b, 0.5, torch.tensor([True, False, True]))
    torch.testing.assert_close(without[0], torch.tensor(-math.log(e / (e + 1))))
    queued = contrastive(a, torch.cat([b, b[:1]]), 0.5, torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(queued[0], torch.tensor(-math.log(e / (2 * e + 2))))


def test_adversarial_terms_are_as_written():
    method, nets, data = setup(perturb=0.0, mixing=0.0, path_every=0)
    now = moment("discriminate", method)
    losses, seen = method.discriminator(nets, data, now)
    assert losses.keys() == {"d"}
    h = torch.where(data.present[:, None], data.given["text"], 0)
    draw = now.draw
    z = (
        nets["generator"]
        .mapping(draw.normal("z", 8))[:, None]
        .expand(-1, nets["generator"].synthesis.styles, -1)
    )
    fake = nets["generator"].synthesis(z, data.given, data.present, draw.normal("noise", 2, 8, 8))
    logit, feature = nets["discriminator"].eye(data.x)
    real = logit + (feature * h).sum(1)
    fake_logit, fake_feature = nets["discriminator"].eye(fake)
    judged = fake_logit + (fake_feature * h).sum(1)
    torch.testing.assert_close(losses["d"], F.softplus(judged) + F.softplus(-real))
    for name, logit, right in (("real", real, real > 0), ("fake", judged, judged < 0)):
        torch.testing.assert_close(seen[f"logit_{name}"], logit)  # what d is about, the text term included
        assert torch.equal(seen[f"accuracy_{name}"], right.float())
    torch.testing.assert_close(seen["sign"], real.sign())
    torch.testing.assert_close(nets["discriminator"](data.x, data.given, data.present), real)


def test_mismatched_pairs_take_the_next_rows_text_where_it_is_another():
    method, nets, data = setup(perturb=0.0, path_every=0)
    text = data.given["text"].clone()
    text[3] = text[2]
    data = replace(data, given={"text": text}, present=torch.tensor([True] * 5 + [False]))
    losses, _ = method.discriminator(nets, data, moment("discriminate", method, mismatch=1.0))
    logit, feature = nets["discriminator"].eye(data.x)
    wrong = F.softplus(logit + (feature * text.roll(-1, 0)).sum(1))
    expected = torch.where(torch.tensor([True, True, False, True, False, False]), wrong, 0)
    torch.testing.assert_close(losses["mismatch"], expected)


def test_every_component_is_named_weighted_and_computed_only_then():
    method, nets, data = setup(queue=4)
    assert set(method.components) == set(ALL)
    for phase in method.phases:
        always = {"discriminate": {"d"}, "generate": {"g"}}.get(phase.name, set())
        losses, _ = phase.losses(nets, data, moment(phase.name, method))
        assert losses.keys() == always
        whole, _ = phase.losses(nets, data, moment(phase.name, method, **dict.fromkeys(ALL, 1.0)))
        for name, values in whole.items():
            assert values.shape == (6,)
            assert torch.isfinite(values).all(), name
            assert values.requires_grad, name


def test_the_contrastive_and_image_terms_by_their_definitions():
    method, nets, data = setup(perturb=0.0, temperature=0.3)
    data = replace(data, present=torch.ones(6, dtype=torch.bool))
    now = moment("generate", method, **dict.fromkeys(ALL, 1.0))
    fake = method.make(nets, data.given, data.present, now.draw)
    losses, _ = method.generator(nets, data, now)
    every = torch.ones(6, dtype=torch.bool)
    encode, eye, h = nets["encoder"], nets["discriminator"].eye, data.given["text"]
    torch.testing.assert_close(losses["con_g_encoder"], contrastive(encode(fake), h, 0.3, every))
    torch.testing.assert_close(losses["image_encoder"], contrastive(encode(fake), encode(data.x), 0.3, every))
    torch.testing.assert_close(losses["con_g_d"], contrastive(eye(fake)[1], h, 0.3, every))
    torch.testing.assert_close(losses["image_d"], contrastive(eye(fake)[1], eye(data.x)[1], 0.3, every))
    maps = [
        (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
        for a, b in zip(nets["perceptual"](fake), nets["perceptual"](data.x), strict=True)
    ]
    torch.testing.assert_close(losses["perceptual"], (maps[0] + maps[1]) / 2)


def test_variety_is_the_distance_of_two_samples_of_one_text_up_to_a_reach():
    method, nets, data = setup(reach=0.5)
    now = moment("generate", method, **dict.fromkeys(ALL, 1.0))
    losses, _ = method.generator(nets, data, now)
    given, present = method.conditions(nets, data, now)
    generator, noise = nets["generator"], now.draw.normal("noise", 2, 8, 8)
    other = generator(now.draw.normal("second z", 8), given, present, noise)
    apart = (method.make(nets, given, present, now.draw) - other).abs().mean((1, 2, 3))
    torch.testing.assert_close(losses["variety"], (1 - apart / 0.5).clamp(min=0))
    assert 0 < float(losses["variety"].detach().mean()) < 1
    (gradient,) = torch.autograd.grad(losses["variety"].sum(), generator.mapping.layers[0].weight)
    assert float(gradient.abs().sum()) > 0
    far, _ = setup(reach=1e-3)[0].generator(nets, data, now)
    assert float(far["variety"].detach().max()) == 0  # far enough: no more is asked for


@pytest.mark.parametrize("component", ["d", "g", "perceptual", "r1", "path", "variety"])
def test_no_sample_depends_on_another_but_through_contrast(component):
    """Of its own image and text alone; the double sum of the published text term would fail here."""
    method, nets, data = setup(reach=10.0)
    phase = next(p for p in method.phases if component in p.losses(
        nets, data, moment(p.name, method, **dict.fromkeys(ALL, 1.0)))[0])  # fmt: skip
    x = data.x.clone().requires_grad_()
    text = data.given["text"].clone().requires_grad_()
    changed = replace(data, x=x, given={"text": text})
    losses, _ = phase.losses(nets, changed, moment(phase.name, method, **dict.fromkeys(ALL, 1.0)))
    gradients = torch.autograd.grad(losses[component][2], (x, text), allow_unused=True)
    reached = 0.0
    for gradient in gradients:
        if gradient is not None:
            others = gradient.flatten(1).abs().sum(1)
            reached += float(others[2])
            others[2] = 0
            assert float(others.max()) == 0
    assert component == "r1" or reached > 0


def test_the_minibatch_deviation_is_the_only_way_for_samples_to_meet():
    x = RowDraw(0, 0, "x", range(4)).normal("x", 1, 8, 8).requires_grad_()
    for group, meets in ((0, False), (2, True)):
        torch.manual_seed(0)
        net = style_discriminator.StyleDiscriminatorConfig(base=64, largest=8, deviation=group).build(SPEC)
        (gradient,) = torch.autograd.grad(net.eye(x)[0][0], x)
        assert bool(gradient[1].abs().sum() > 0) == meets
        assert float(gradient[2:].abs().sum()) == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_penalties_are_in_fp32_under_autocast(precision):
    method, nets, data = setup()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        r1, _ = method.penalty(nets, data, moment("penalise", method, r1=1.0))
        path, seen = method.path(nets, data, moment("straighten", method, path=1.0))
    x = data.x.clone().requires_grad_()
    conditioned, present = method.conditions(nets, data, moment("penalise", method))
    logits = nets["discriminator"](x, conditioned, present)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert torch.equal(r1["r1"].detach(), gradient.square().sum((1, 2, 3)))
    assert torch.equal(path["path"].detach(), seen["length"].square())
    if precision == "bf16":
        again, _ = method.path(nets, data, moment("straighten", method, path=1.0))
        assert torch.equal(again["path"], path["path"])


def test_path_length_is_the_jacobian_norm():
    """|Jᵀ y| by finite differences along the gradient's own direction."""
    method, nets, data = setup(mixing=0.0, perturb=0.0)
    now = moment("straighten", method, path=1.0)
    _, seen = method.path(nets, data, now)
    w = method.styles(nets, now.draw).detach().double()
    generator = nets["generator"].double()
    given = {"text": data.given["text"].double()}
    y = now.draw.normal("y", 1, 8, 8).double() / 8
    noise = method.noise(now.draw).double()

    def f(w):
        return (generator.synthesis(w, given, data.present, noise) * y).sum((1, 2, 3))

    w.requires_grad_()
    (gradient,) = torch.autograd.grad(f(w).sum(), w)
    step = 1e-5 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None]
    with torch.no_grad():
        slope = (f(w + step) - f(w - step)) / 2e-5  # = |gradient|
    length = slope / generator.synthesis.styles**0.5
    torch.testing.assert_close(seen["length"].double(), length, rtol=1e-3, atol=1e-5)


def test_what_is_told_is_perturbed_and_may_be_the_images_own_feature():
    draw = RowDraw(0, 0, "p", range(6))
    h = F.normalize(draw.normal("h", 5), dim=1)
    noise = F.normalize(draw.normal("text noise", 5), dim=1)
    torch.testing.assert_close(perturbed(h, 0.1, draw), F.normalize(0.9 * h + 0.1 * noise, dim=1))
    assert torch.equal(perturbed(h, 0.0, draw), h)
    method, nets, data = setup(language_free=1.0, language_free_perturb=0.75)
    now = moment("generate", method)
    given, present = method.conditions(nets, data, now)
    ε = F.normalize(now.draw.normal("text noise", 5), dim=1)
    torch.testing.assert_close(given["text"], F.normalize(0.25 * nets["encoder"](data.x) + 0.75 * ε, dim=1))
    assert present.all()


def test_memory_holds_the_running_mean_the_queue_and_p():
    method, _, data = setup(queue=8, augment="ada", ada_kimg=1.0)
    memory = method.memory()
    assert {name: tuple(value.shape) for name, value in memory.items()} == {
        "p": (), "length": (), "queue": (8, 5)}  # fmt: skip
    seen = {"sign": torch.ones(6), "text": data.given["text"]}
    memory |= method.remember("discriminate", memory, seen)
    assert float(memory["p"]) == pytest.approx(0.006)
    assert torch.equal(memory["queue"][:6], data.given["text"])
    memory |= method.remember("discriminate", memory, {"text": -data.given["text"]})
    assert torch.equal(memory["queue"][6:], data.given["text"][:2])
    memory |= method.remember("straighten", memory, {"length": torch.full((6,), 2.0)})
    assert float(memory["length"]) == pytest.approx(0.02)


def test_truncation_leads_to_the_mean_style():
    method, nets, data = setup()
    draw = RowDraw(0, 0, "s", range(6))
    z, how = method.latent(draw), method.Sampling
    with torch.no_grad():
        flat = method.sample(nets, z, data.given, data.present, draw, how(truncation=0.0))
        other = method.sample(nets, -z, data.given, data.present, draw, how(truncation=0.0))
        full = method.sample(nets, z, data.given, data.present, draw, how(truncation=1.0))
        near = method.sample(nets, z, data.given, data.present, draw, how(truncation=0.999999))
        plain = nets["generator"](z, data.given, data.present, draw.normal("noise", 2, 8, 8))
    torch.testing.assert_close(flat, other)
    torch.testing.assert_close(full, near, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(full, plain)
    assert float((flat - full).abs().max()) > 1e-3


class Stream:
    def parts(self, step, accumulate, rank, world):
        size = 12 // accumulate
        return [batch(range(start, start + size), 12, step) for start in range(0, 12, size)]


@pytest.mark.parametrize("accumulate", [2, 3])
def test_the_parts_of_a_batch_do_not_matter(accumulate):
    """Contrast, mismatch and the queue are over the global batch, however it is cut."""
    states = []
    for parts in (1, accumulate):
        method = made(queue=16)
        plan = Plan(
            5,
            Train(steps=5, batch_size=12, accumulate=parts, precision="fp32", ema=0.9, ema_lengths=()),
            {name: Optim(kind="adam", lr=1e-4, eps=1e-2) for name in ("generator", "discriminator")},
            dict.fromkeys(method.components, 1.0),
        )
        state = State(method, SPEC, plan, torch.device("cpu"), "contiguous")
        train(Job(method, state, Stream(), lambda step, plan=plan: plan, lambda record: None, lambda s: None))
        states.append(state)
    for group, tensors in states[0].groups().items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                states[1].groups()[group][name], tensor, rtol=2e-4, atol=2e-5, msg=f"{group}.{name}"
            )
