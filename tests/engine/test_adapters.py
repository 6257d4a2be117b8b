"""Frozen parameters stay, adapters start as nothing, and merged networks do the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from safelight.config import UserError
from safelight.engine.adapters import adapt, adapters, freeze, held, merged, merged_tensors
from safelight.engine.plan import Train


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Flatten(),
                         nn.Linear(96, 5))  # fmt: skip


def train_of(**keys) -> Train:
    return Train(steps=1, **keys)


def test_an_adapter_starts_as_nothing_and_adds_scale_b_a():
    net, x = small().eval(), torch.randn(2, 3, 4, 4)
    before = net(x)
    adapt({"net": net}, train_of(lora=2, lora_alpha=6.0), ["net"])
    assert torch.equal(net(x), before)
    with torch.no_grad():
        net[0].lora_B.normal_()
        net[4].lora_B.normal_()
    weight = net[4].weight + 3 * net[4].lora_B @ net[4].lora_A
    y = torch.randn(7, 96)
    torch.testing.assert_close(net[4](y), y @ weight.T + net[4].bias)
    plain = merged(net)
    assert plain.state_dict().keys() == small().state_dict().keys()
    torch.testing.assert_close(plain(x), net(x))
    assert type(plain[0]) is nn.Conv2d
    torch.testing.assert_close(merged_tensors(net.state_dict())["4.weight"], plain[4].weight)


def test_adapters_apart_have_the_names_of_peft():
    net = small()
    adapt({"net": net}, train_of(lora=2, lora_layers=("net.4",)), ["net"])
    tensors, config = adapters(net)
    assert {key: tuple(value.shape) for key, value in tensors.items()} == {
        "base_model.model.4.lora_A.weight": (2, 96),
        "base_model.model.4.lora_B.weight": (5, 2),
    }
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (2, 2.0, ["4"])


def test_with_adapters_nothing_else_is_trained_but_what_is_named():
    net, train = small(), train_of(lora=2, lora_train=("net.2.*",))
    adapt({"net": net}, train, ["net"])
    freeze({"net": net}, train, ["net"])
    free = {key for key, parameter in net.named_parameters() if parameter.requires_grad}
    assert free == {"0.lora_A", "0.lora_B", "4.lora_A", "4.lora_B", "2.weight", "2.bias"}


def test_a_frozen_batch_norm_keeps_its_statistics():
    net, train = small(), train_of(freeze=("net.2.*",))
    freeze({"net": net}, train, ["net"])
    net.train()(torch.randn(8, 3, 4, 4))
    assert torch.equal(net[2].running_mean, torch.zeros(6))
    assert held(net[2].weight)


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match=r"train.freeze: 'net.9.\*' matches no parameter"):
        freeze({"net": small()}, train_of(freeze=("net.9.*",)), ["net"])
    with pytest.raises(UserError, match=r"train\.lora_layers"):
        adapt({"net": small()}, train_of(lora=2, lora_layers=("other.*",)), ["net"])
