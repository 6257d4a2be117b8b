"""The loop is a function of (recipe, data, journal, step): resumed, cut in parts or edited, it stays one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

import toys
from safelight.engine.fingerprint import as_hex
from safelight.engine.loop import Job, Signals, StepRecord, Stop, train
from safelight.engine.optim import rates
from safelight.engine.plan import Plan
from safelight.engine.precision import autocast
from safelight.engine.state import State

CPU = torch.device("cpu")
METHODS = [toys.ToyGan, partial(toys.ToyGan, dropout=0.3), toys.ToyContrast]


def job(
    method, plan: Plan, precision: str = "fp32", boundary=lambda signals: None
) -> tuple[Job, list[StepRecord]]:
    records: list[StepRecord] = []
    state = State(method, toys.SPEC, plan, CPU, "contiguous")
    made = Job(
        method, state, toys.ToyStream(), lambda step: plan, records.append, boundary,
        autocast=autocast(CPU, precision),
    )  # fmt: skip
    return made, records


def bits(state: State) -> dict[str, torch.Tensor]:
    return {f"{group}.{name}": tensor.clone() for group, tensors in state.groups().items()
            for name, tensor in tensors.items()}  # fmt: skip


def assert_equal(a: State, b: State) -> None:
    left, right = bits(a), bits(b)
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("make", METHODS)
def test_resumed_equals_uninterrupted(make, accumulate, precision):
    plan = toys.plan(make(), accumulate=accumulate)
    whole, _ = job(make(), plan, precision)
    train(whole)

    def stop_at_five(signals: Signals) -> None:
        if first.state.step == 5:
            raise Stop

    first, _ = job(make(), plan, precision, stop_at_five)
    with pytest.raises(Stop):
        train(first)
    saved = {group: {name: t.clone() for name, t in tensors.items()}
             for group, tensors in first.state.groups().items()}  # fmt: skip
    second, _ = job(make(), plan, precision)
    second.state.load(saved, 5)
    train(second)
    assert second.state.step == whole.state.step == 12
    assert_equal(second.state, whole.state)


@pytest.mark.parametrize("make", [toys.ToyContrast])
@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_parts_give_the_gradients_of_the_whole_batch(make, accumulate):
    """The contrastive loss over all rows, its queue and its learned temperature do not notice the parts."""
    states = []
    for parts in (1, accumulate):
        made, _ = job(make(), toys.plan(make(), accumulate=parts))
        train(made)
        states.append(bits(made.state))
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=2e-4, atol=2e-5, msg=name)


def test_components_are_logged_raw_and_weights_scale_their_gradient():
    made, records = job(toys.ToyGan(), toys.plan(toys.ToyGan(), steps=5))
    train(made)
    assert [sorted(record.scalars) for record in records[:2]] == [
        ["d", "g", "grad_norm/discriminator", "grad_norm/generator", "r1", "seen/sign"],
        ["d", "g", "grad_norm/discriminator", "grad_norm/generator", "seen/sign"],
    ]
    assert float(records[0].scalars["d"]) == pytest.approx(2 * 0.6931, abs=0.2)

    def gradient_norm(weight: float) -> float:
        plan = replace(toys.plan(toys.ToyContrast(), steps=1), weights={"contrast": weight, "scale": 0.0})
        made, records = job(toys.ToyContrast(), plan)
        train(made)
        return float(records[0].scalars["grad_norm/encoder"])

    assert gradient_norm(3.0) == pytest.approx(3 * gradient_norm(1.0), rel=1e-5)


def test_lazy_phase_counts_as_if_it_ran_every_step():
    """A component evaluated every 4 steps enters with 4 times its gradient."""
    norms = []
    for every in (1, 4):
        method = toys.ToyGan()
        method.phases = (replace(method.phases[1], every=every),)
        made, records = job(method, replace(toys.plan(method, steps=1)))
        train(made)
        norms.append(float(records[0].scalars["grad_norm/discriminator"]))
    assert norms[1] == pytest.approx(4 * norms[0], rel=1e-5)


def test_memory_is_part_of_the_state():
    made, _ = job(toys.ToyGan(), toys.plan(toys.ToyGan()))
    train(made)
    assert float(made.state.memory["p"]) > 0
    fresh, _ = job(toys.ToyGan(), toys.plan(toys.ToyGan()))
    groups = made.state.groups()
    fresh.state.load(groups, 12)
    assert torch.equal(fresh.state.memory["p"], made.state.memory["p"])


def test_untrained_networks_do_not_move_nor_their_batch_norms():
    method = toys.ToyGan()
    method.phases = method.phases[:2]  # discriminator only; the generator with batch norm makes fakes
    made, _ = job(method, toys.plan(method))
    before = {name: value.clone() for name, value in made.state.nets["generator"].state_dict().items()}
    train(made)
    after = made.state.nets["generator"].state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if "num_batches" not in name)
    assert all(parameter.requires_grad for parameter in made.state.nets["generator"].parameters())


def test_non_finite_gradients_are_skipped_and_leave_every_bit():
    class Spike(toys.ToyStream):
        def parts(self, step, accumulate, rank, world):
            parts = super().parts(step, accumulate, rank, world)
            return [replace(part, x=part.x * float("nan")) for part in parts] if step == 3 else parts

    made, records = job(toys.ToyContrast(), toys.plan(toys.ToyContrast(), steps=4))
    made.stream = Spike()
    made.boundary = lambda signals: snapshots.append(bits(made.state))
    snapshots: list = []
    train(made)
    unchanged = [name for name in snapshots[2] if name.startswith(("networks", "optimisers"))]
    assert all(torch.equal(snapshots[2][name], snapshots[3][name]) for name in unchanged)
    assert not torch.isfinite(records[3].scalars["grad_norm/encoder"])


def test_gather_outside_a_whole_phase_is_refused():
    method = toys.ToyContrast()
    method.phases = (replace(method.phases[0], whole=False),)
    made, _ = job(method, toys.plan(method))
    with pytest.raises(RuntimeError, match="whole=True"):
        train(made)


def test_edited_learning_rate_reaches_the_optimiser_at_its_step():
    method = toys.ToyContrast()
    usual, edited = toys.plan(method), toys.plan(method, lr=0.5)
    made, records = job(method, usual)
    made.plan_at = lambda step: edited if step >= 6 else usual
    seen: list[float] = []
    made.boundary = lambda signals: seen.append(made.state.optimisers["encoder"].lr)
    train(made)
    assert seen[5] == rates(usual, method.phases, 5)["encoder"].lr
    assert seen[6] == rates(edited, method.phases, 6)["encoder"].lr
    plain, plain_records = job(toys.ToyContrast(), usual)
    train(plain)
    same = [
        as_hex(int(a.fingerprint)) == as_hex(int(b.fingerprint))
        for a, b in zip(records, plain_records, strict=True)
    ]
    assert same == [True] * 6 + [False] * 6


def test_signals_of_a_device_are_heard_a_step_later(monkeypatch):
    """So that no step waits for them; on a CPU they are there at once."""
    plan, heard = toys.plan(toys.ToyContrast(), steps=3), []
    for devices in (set(), {"cpu"}):
        monkeypatch.setattr("safelight.engine.loop.ASYNCHRONOUS", devices)
        made, _ = job(toys.ToyContrast(), plan, boundary=lambda signals: heard.append(signals.stop))
        made.signals.stop = True
        train(made)
    assert heard == [True, True, True, False, True, True]
