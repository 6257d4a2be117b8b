"""Checks of networks and methods: each on something small that has its fault, and on the same without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from safelight.discovery import network_configs
from safelight.types import Method
from subjects import Builds, Small, codes, digits, findings_of, plain, plain_class, subject, with_pack


def variant(**methods):
    """The plain method with some of its functions replaced."""
    return type("Variant", (plain_class(),), methods)


class Unused(Small):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)


class Frozen(Small):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)


class Huge(Small):
    def forward(self, *arguments):
        return super().forward(*arguments) + 1000


class Blind(Small):
    def forward(self, x, t, given, present):
        return self.image(x) + self.time(t[:, None])[:, :, None, None]


class Raises(Small):
    def forward(self, *arguments):
        raise RuntimeError("sizes of tensors must match")


class Explodes(Small):
    """A layer inside answers with numbers that float16 cannot hold; what comes out is small again."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, *arguments):
        out = super().forward(*arguments)
        return out + 1e-9 * self.inner(out + 1e5)


class Infinite(Small):
    def forward(self, *arguments):
        return super().forward(*arguments) / 0


@pytest.mark.parametrize(
    ("network", "names", "expected"),
    [
        (Unused, ("parameters",), {"parameter-unmoved"}),
        (Huge, ("output",), {"initial-loss"}),
        (Raises, ("runs",), {"step-fails"}),
        (Infinite, ("runs",), {"not-finite"}),
        (Blind, ("conditions",), {"condition-unused"}),
        (Frozen, ("parameters",), {"nothing-to-train"}),
        (Explodes, ("numbers",), {"activation-overflow"}),
    ],
)
def test_a_fault_of_a_network(network, names, expected):
    assert codes(subject(plain(network)), *names) >= expected


class Absent(Small):
    """Has a matrix of its own for an absent label; `used` says whether it looks there."""

    used = True

    def __init__(self) -> None:
        super().__init__()
        self.absent = nn.Linear(1, 1)

    def forward(self, x, t, given, present):
        none = self.absent(t[:, None]) if self.used else 0
        known = self.label(given["label"]) + self.time(t[:, None])
        return self.image(x) + torch.where(present[:, None], known, none)[:, :, None, None]


class Unlooked(Absent):
    used = False


def annotated(network) -> Method:
    """The plain method with all conditions as they are: none is dropped."""
    kind = plain_class()
    return kind(kind.Config(dropped=0.0), {"denoiser": Builds(network)})


def test_what_stands_for_absent_conditions_need_not_move_where_all_are_there():
    assert codes(subject(annotated(Absent)), "parameters") == set()
    assert codes(subject(annotated(Unlooked)), "parameters") == {"parameter-unmoved"}


def test_a_network_of_learning_rate_0_is_meant_to_stay():
    assert codes(subject(optim={"lr": 0.0}), "parameters") == set()


class Ignoring(Blind):
    ignored = ("label",)


def test_a_condition_that_the_recipe_has_ignored_may_be_without_effect():
    assert codes(subject(plain(Ignoring)), "conditions") == set()


@pytest.mark.parametrize(
    ("network", "changes", "ignored"),
    [
        ("digits_unet", {}, ("label",)),
        ("digits_unet", {"classes": True}, ()),
        ("unet", {"ignore": ["label"]}, ("label",)),
        ("residual_decoder", {"conditional": False}, ("label", "attributes", "text")),
        ("residual_encoder", {"conditional": True}, ()),
    ],
)
def test_networks_say_which_conditions_they_ignore(network, changes, ignored):
    config = network_configs()[network](**changes)
    assert tuple(config.build(digits().spec).ignored) == ignored


def test_conditions_that_no_image_has_may_be_without_effect():
    stream = digits()
    bare = with_pack(stream, covered={"label": np.zeros(len(stream.pack.images), bool)})
    assert codes(subject(stream=bare), "conditions", "parameters") == set()


class Together(Small):
    """Takes what is common to the batch away."""

    def forward(self, *arguments):
        out = super().forward(*arguments)
        return out - out.mean(0, keepdim=True)


def test_a_network_that_looks_at_the_whole_batch_is_noted():
    def mixing(network):
        return [
            (finding.code, finding.severity)
            for finding in findings_of(subject(plain(network)), "independence")
        ]

    assert mixing(Together) == [("network-mixes", "note")]
    assert mixing(Small) == []


def lost(self, nets, latent, given, present, draw, how):
    given = {"label": torch.zeros_like(given["label"])}
    return plain_class().sample(self, nets, latent, given, present, draw, how)


def company(self, nets, latent, given, present, draw, how):
    x = plain_class().sample(self, nets, latent, given, present, draw, how)
    return x - x.mean(0, keepdim=True)


def unrepeatable(self, nets, batch, moment):
    losses, seen = plain_class().loss(self, nets, batch, moment)
    return {"velocity": losses["velocity"] * (1 + np.random.random())}, seen


def thousand(self, nets, latent, given, present, draw, how):
    x = latent
    for step in range(how.steps, 0, -1):
        t = x.new_full((len(x),), 1000 * step / how.steps)
        x = x - nets["denoiser"](x, t, given, present) / how.steps
    return x


class Guided(plain_class()):
    """Two networks, of which one is frozen and looked at in the loss."""

    frozen = ("teacher",)
    drift = 0.0  # of the teacher's weights, at every step

    def networks(self, spec):
        return {**super().networks(spec), "teacher": nn.Conv2d(1, 1, 1)}

    def loss(self, nets, batch, moment):
        with torch.no_grad():
            nets["teacher"].weight.add_(self.drift)
        losses, seen = super().loss(nets, batch, moment)
        return {"velocity": losses["velocity"] + 0 * nets["teacher"](batch.x).mean((1, 2, 3))}, seen


def test_what_is_frozen_stays():
    assert codes(subject(plain(kind=Guided)), "parameters") == set()
    drifting = subject(plain(kind=type("Drifting", (Guided,), {"drift": 0.01})))
    (finding,) = findings_of(drifting, "parameters")
    assert (finding.code, finding.severity) == ("frozen-moves", "error")
    assert finding.measured.startswith("teacher: weight ")


def cancelled(self, nets, batch, moment):
    """A small difference of large numbers, of which bfloat16 keeps every fourth."""
    losses, seen = plain_class().loss(self, nets, batch, moment)
    large = 1000 + losses["velocity"][:, None]
    return {"velocity": nn.functional.linear(large, large.new_ones(1, 1))[:, 0] - 1000}, seen


def test_a_loss_that_bfloat16_loses():
    def rough(kind, precision):
        checked = subject(plain(kind=kind), precision=precision)
        checked.autocast = lambda: torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        return codes(checked, "numbers")

    wrong = variant(loss=cancelled)
    assert rough(wrong, "bf16") == {"bf16-differs"}
    assert rough(wrong, "fp32") == set()
    assert rough(plain_class(), "bf16") == set()


@pytest.mark.parametrize(
    ("replaced", "names", "expected"),
    [
        ({"sample": lost}, ("conditions",), "condition-lost-in-sampling"),
        ({"sample": company}, ("modes",), "sample-depends-on-company"),
        ({"loss": unrepeatable}, ("repeat",), "not-deterministic"),
        ({"sample": thousand}, ("sampling",), "sampling-times"),
    ],
)
def test_a_fault_of_a_method(replaced, names, expected):
    assert expected in codes(subject(plain(kind=variant(**replaced))), *names)
