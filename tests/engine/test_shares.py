"""Gradient shares against gradients known by hand."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn

import toys
from safelight.engine.shares import gradient_norm, gradient_shares
from safelight.engine.state import State

CPU = torch.device("cpu")


class Two:
    """Two components on one weight w: a = 3 w, b = 4 w, a third that no network reaches, and a lazy one."""

    roles = ("net",)
    ema = ()
    frozen = ()

    def __init__(self) -> None:
        from safelight.types import Phase

        self.phases = (Phase("both", ("net",), self.both), Phase("lazy", ("net",), self.lazy, every=4))
        self.components = {"a": 1.0, "b": 1.0, "nothing": 1.0, "c": 1.0}

    def networks(self, spec):
        net = nn.Linear(1, 1, bias=False)
        nn.init.ones_(net.weight)
        return {"net": net}

    def both(self, nets, batch, moment):
        ones = torch.ones(len(batch.rows), 1)
        out = nets["net"](ones).squeeze(1)
        return {"a": 3 * out, "b": 4 * out, "nothing": ones.squeeze(1)}, {}

    def lazy(self, nets, batch, moment):
        if not moment.weights["c"]:
            return {}, {}
        return {"c": 5 * nets["net"](torch.ones(len(batch.rows), 1)).squeeze(1)}, {}


def test_shares_are_those_of_weighted_gradients():
    method = Two()
    state = State(method, toys.SPEC, toys.plan(method), CPU, "contiguous")
    (batch,) = toys.ToyStream().parts(0, 1, 0, 1)
    weights = {"a": 1.0, "b": 0.5, "nothing": 1.0, "c": 0.0}
    shares = gradient_shares(method, state, batch, weights, nullcontext)
    assert shares == pytest.approx({"net/a": 3 / 5, "net/b": 2 / 5, "net/nothing": 0.0})
    shares = gradient_shares(method, state, batch, {**weights, "c": 1.0}, nullcontext)
    assert shares == pytest.approx({"net/a": 0.3, "net/b": 0.2, "net/nothing": 0.0, "net/c": 0.5})
    assert gradient_shares(method, state, batch, dict.fromkeys(weights, 0.0) | {"a": 1.0}, nullcontext) == {}


@pytest.mark.parametrize("make", [toys.ToyGan, toys.ToyContrast])
def test_looking_changes_nothing(make):
    """Neither weights, nor batch norms, nor memory, nor what is trained."""
    method = make()
    state = State(method, toys.SPEC, toys.plan(method), CPU, "contiguous")
    before = {f"{group}.{name}": value.clone() for group, tensors in state.groups().items()
              for name, value in tensors.items()}  # fmt: skip
    (batch,) = toys.ToyStream().parts(0, 1, 0, 1)
    shares = gradient_shares(method, state, batch, method.components, nullcontext)
    assert sum(shares.values()) == pytest.approx(1)
    for group, tensors in state.groups().items():
        for name, value in tensors.items():
            assert torch.equal(value, before[f"{group}.{name}"])
    assert all(p.requires_grad and p.grad is None for net in state.nets.values() for p in net.parameters())


def test_a_number_without_a_gradient_has_none():
    net = nn.Linear(2, 1)
    assert gradient_norm(torch.ones(()), net) == 0.0
    assert gradient_norm((net.weight * torch.tensor([3.0, 4.0])).sum(), net) == pytest.approx(5.0)
