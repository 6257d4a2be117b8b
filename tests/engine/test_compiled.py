"""Compiled networks, and blocks computed twice: the same names and gradients, resumed to the bit."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from test_loop import CPU, assert_equal, bits

import toys
from safelight.config import UserError
from safelight.engine.compiled import recompute_blocks
from safelight.engine.loop import Job, Signals, Stop, train
from safelight.engine.precision import Execution, pays
from safelight.engine.state import State
from safelight.loading.probe import compiled_if_it_pays
from safelight.networks.dit import DitConfig
from safelight.networks.residual_gan import ResidualDiscriminatorConfig, ResidualGeneratorConfig
from safelight.networks.style_discriminator import StyleDiscriminatorConfig
from safelight.networks.style_generator import StyleGeneratorConfig
from safelight.networks.unet import UNetConfig
from safelight.types import Condition, DataSpec

# What torch's own modules say of themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def compiled(backend: str = "aot_eager", steps: int = 8, boundary=lambda signals: None) -> Job:
    method = toys.ToyGan()
    plan = toys.plan(method, steps=steps)
    state = State(method, toys.SPEC, plan, CPU, "contiguous", compile=backend)
    return Job(method, state, toys.ToyStream(), lambda step: plan, lambda record: None, boundary)


def test_compiled_networks_train_as_others_do_and_resume_to_the_bit():
    """A GAN with a gradient penalty, which is left uncompiled: no compiled graph is differentiated twice."""
    whole, eager = compiled(), compiled("off")
    train(whole)
    train(eager)
    left, right = bits(whole.state), bits(eager.state)
    assert left.keys() == right.keys()  # no `_orig_mod` among them
    for name, tensor in left.items():
        torch.testing.assert_close(tensor, right[name], rtol=1e-3, atol=1e-4, msg=name)

    def stop_at_three(signals: Signals) -> None:
        if first.state.step == 3:
            raise Stop

    first = compiled(boundary=stop_at_three)
    with pytest.raises(Stop):
        train(first)
    torch._dynamo.reset()  # as in another process
    second = compiled()
    second.state.load(first.state.groups(), 3)
    train(second)
    assert_equal(second.state, whole.state)
    assert whole.state.nets["generator"]._compiled_call_impl is not None
    assert whole.state.averages.networks["generator"]._compiled_call_impl is None


@pytest.mark.parametrize(
    ("eager", "compiled", "compiling", "steps", "expected"),
    [
        (0.100, 0.060, 60.0, 2000, True),  # 80 s gained
        (0.100, 0.060, 60.0, 1400, False),  # 56 s gained
        (0.100, 0.090, 1.0, 10**6, False),  # a gain below REQUIRED_GAIN is noise
        (0.100, 0.120, 0.0, 10**6, False),
    ],
)
def test_compiling_has_to_pay_within_the_run(eager, compiled, compiling, steps, expected):
    assert pays(eager, compiled, compiling, steps) is expected


@pytest.mark.parametrize(
    ("steps", "fails", "expected"),
    [(10_000, False, "inductor"), (4_000, False, "off"), (2_000, False, "off"), (10_000, True, "off")],
)
def test_the_probe_compiles_where_that_pays(steps, fails, expected):
    """Steps of 0.1 s, 0.09 s of them saved by 400 s of compiling; below 300 s ahead nothing is tried."""
    now, tried = [0.0], []

    def prepare(option: Execution):
        tried.append(option.compile)
        calls = []

        def step() -> None:
            calls.append(1)
            if option.compile != "off" and fails:
                raise NotImplementedError
            now[0] += 0.1 if option.compile == "off" else 400.0 if len(calls) == 1 else 0.01

        return step

    eager = Execution("bf16", "channels_last")
    chosen, _ = compiled_if_it_pays(eager, prepare, steps, lambda: now[0])
    assert chosen == replace(eager, compile=expected)
    assert tried == (["off"] if steps * 0.1 < 300 else ["off", "inductor"])


LABELS = DataSpec((3, 16, 16), {"label": Condition("label", 3)})
TEXTS = DataSpec((3, 16, 16), {"text": Condition("text", 5)})
X, Z = torch.randn(4, 3, 16, 16), torch.randn(4, 8)
GIVEN = {"label": torch.tensor([0, 1, 2, 0]), "text": torch.randn(4, 5)}
PRESENT = torch.tensor([True, True, False, True])
NETWORKS = {
    "unet": (UNetConfig(width=8, multipliers=(1, 2), groups=4, head=4, attention=(1,), dropout=0.2), LABELS,
             lambda net: net(X, torch.rand(4, generator=torch.manual_seed(1)), GIVEN, PRESENT)),
    "transformer": (DitConfig(width=16, depth=2, heads=2, dropout=0.2), LABELS,
                    lambda net: net(X, torch.rand(4, generator=torch.manual_seed(1)), GIVEN, PRESENT)),
    "generator": (ResidualGeneratorConfig(latent=8, widths=(8, 8)), LABELS,
                  lambda net: net(Z, GIVEN, PRESENT)),
    "discriminator": (ResidualDiscriminatorConfig(widths=(8, 8)), LABELS, lambda net: net(X, GIVEN, PRESENT)),
    "style generator": (StyleGeneratorConfig(latent=8, depth=1, base=64, largest=8), TEXTS,
                        lambda net: net(Z, GIVEN, PRESENT)),
    "style discriminator": (StyleDiscriminatorConfig(base=64, largest=8), TEXTS,
                            lambda net: net(X, GIVEN, PRESENT)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_computed_twice_give_the_same_gradients_to_the_bit(name):
    config, spec, call = NETWORKS[name]
    torch.manual_seed(0)
    net = config.build(spec).train()
    with torch.no_grad():
        for parameter in net.parameters():  # layers that begin at zero pass nothing on
            parameter.add_(0.1 * torch.randn_like(parameter))
    twice = deepcopy(net)
    recompute_blocks({"net": twice})
    gradients, kept = [], []
    for each in (net, twice):
        held: list[int] = []
        torch.manual_seed(5)  # dropout
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, held=held: held.append(t.numel()) or t, lambda t: t
        ):
            loss = call(each).square().sum()
        loss.backward()
        gradients.append({key: p.grad for key, p in each.named_parameters() if p.grad is not None})
        kept.append(sum(held))
    assert gradients[0].keys() == gradients[1].keys()
    assert [key for key in gradients[0] if not torch.equal(gradients[0][key], gradients[1][key])] == []
    assert kept[1] < 0.8 * kept[0]
    assert [*net.state_dict()] == [*twice.state_dict()]


def test_a_gradient_penalty_through_blocks_computed_twice_is_the_same():
    torch.manual_seed(0)
    net = ResidualDiscriminatorConfig(widths=(8, 8)).build(LABELS)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    twice = deepcopy(net)
    recompute_blocks({"net": twice})
    for each in (net, twice):
        x = X.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(each(x, GIVEN, PRESENT).sum(), x, create_graph=True)
        gradient.square().sum().backward()
    for one, other in zip(net.parameters(), twice.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)


def test_a_recipe_without_such_blocks_is_refused():
    plan = toys.plan(toys.ToyGan())
    plan = replace(plan, train=plan.train.model_copy(update={"recompute": True}))
    with pytest.raises(UserError, match=r"^train\.recompute: no network of this recipe has blocks for it"):
        State(toys.ToyGan(), toys.SPEC, plan, CPU, "contiguous")
