"""What a plan says of a training before it: counted by hand where that can be, and what a run then did."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from torch import nn

import safelight.cli
from safelight.config import UserError
from safelight.engine.memory import KEPT_FREE
from safelight.engine.precision import Execution
from safelight.planning import devices
from safelight.planning.measure import Bench, Cost, Operations, storages
from safelight.planning.plan import Planned, _fits, _line, _memory, plan
from safelight.recipe import load
from subjects import plain, subject

PLAIN = Execution("fp32", "contiguous")


def bench_of(network=None):
    checked = subject(plain(*([network] if network else [])))
    return Bench(checked.build(checked.plan), checked.method, checked.streams(16), checked.plan, PLAIN)


def test_operations_are_those_of_the_products():
    """(m, k) by (k, n) is 2 m k n; its backward twice that, where both gradients are asked for."""
    a, b = torch.randn(3, 5, requires_grad=True), torch.randn(5, 7, requires_grad=True)
    with Operations() as counted:
        (a @ b).sum().backward()
    assert counted.total == 3 * (2 * 3 * 5 * 7)


def test_operations_of_a_step_grow_with_its_images():
    bench = bench_of()
    once = bench.operations(1)
    assert once >= 2 * 28 * 28 * 9 * 2  # a 3x3 convolution there, and its weights' gradient back
    assert bench.operations(8) == 8 * once


def test_the_first_step_of_a_lazy_phase_counts_no_more_than_any_other(monkeypatch):
    """One second, and five at every eighth step, make 1 + (5 - 1) / 8, whatever the first of each took."""
    bench, seen = bench_of(), []
    monkeypatch.setattr(Bench, "_numbers", [1, 8])

    def steps(rows, first, last, accumulate=1):
        timings = []
        for step in range(first, last + 1):
            lazy = step % 8 == 0
            timings.append(100.0 if lazy not in seen else 5.0 if lazy else 1.0)
            seen.append(lazy)
        return [Cost(seconds, 2 * seconds) for seconds in timings]

    monkeypatch.setattr(bench, "steps", steps)
    for timed in (1, 2, 5):
        seen.clear()
        assert bench.time(16, timed=timed) == Cost(1.5, 3.0)


class Wide(nn.Module):
    """Keeps 64 channels of every pixel for the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv2d(1, 64, 1)

    def forward(self, x, t, given, present):
        return self.out(x).square().mean(1, keepdim=True)


def test_memory_of_a_step_is_that_of_its_activations():
    """At least the 64 channels in float32 that `square` keeps, and a small multiple of them at most."""
    bench = bench_of(Wide)
    two, eight = bench.peak(2), bench.peak(8)
    image = 64 * 28 * 28 * 4
    assert 6 * image < eight - two < 6 * 6 * image


def test_shared_memory_counts_once():
    a = torch.zeros(10)
    assert sum(storages([a, a[2:], a.view(2, 5)]).values()) == 40


def test_a_state_is_counted_whole():
    bench = bench_of()
    weights = sum(p.numel() for p in bench.state.nets["denoiser"].parameters())
    assert (
        bench.resident() == 4 * (weights * (1 + 1 + 2 + 2)) + 4 * 5
    )  # average, two tracks, moments, 5 counts


def test_a_line_through_two_sizes():
    assert _line({2: 10.0, 4: 14.0}, 8) == 22.0
    assert _line({2: 10.0}, 8) == 40.0
    assert _fits(100, {2: 10, 4: 14}, 100 + 14 + 2 * 5) == 4 + 5
    assert _fits(100, {2: 10, 4: 14}, 90) == 0
    memory = {part.rows: (part.bytes, part.how) for part in _memory(100, {2: 10, 4: 14}, 8, True)}
    assert memory[4] == (114, "measured")
    assert memory[8] == (122, "estimated")
    assert memory[16] == (138, "estimated")


@pytest.fixture(scope="module")
def tiny_plan(tmp_path_factory) -> Planned:
    from tiny import TINY

    return plan(load("digits-class", TINY), tmp_path_factory.mktemp("runs"))


def test_a_plan_of_a_recipe(tiny_plan):
    assert (tiny_plan.batch_size, tiny_plan.steps, tiny_plan.cost_how) == (12, 30, "measured")
    assert tiny_plan.needed.how == "measured"
    assert tiny_plan.suggested == 1
    assert tiny_plan.hours > 0
    values = tiny_plan.to_dict()
    assert values["seconds_a_kimg"] == pytest.approx(values["seconds_a_step"] / 12 * 1000)
    assert values["memory_needed"] == tiny_plan.needed.bytes
    assert values["disk"]["total"] > 0
    json.dumps(values)


def test_parts_are_suggested_where_a_batch_does_not_fit(tiny_plan):
    from dataclasses import replace

    assert replace(tiny_plan, fits=5).suggested == 3  # parts of four
    assert replace(tiny_plan, fits=0).suggested is None


def test_a_recipe_without_its_data_and_autoencoder_is_planned_with_stand_ins(tmp_path):
    small = {
        "network.width": 8,
        "network.groups": 2,
        "network.attention": [],
        "network.embedding": 8,
        "train.batch_size": 2,
        "train.precision": "fp32",
        "train.memory_format": "contiguous",
        "watch.images": 1,
        "sample.steps": 2,
    }
    planned = plan(load("skin", small), tmp_path, devices.like("a100 80gb"))
    assert planned.device == "A100 80GB"
    assert planned.cost_how == "estimated"
    assert {part.how for part in planned.memory} == {"estimated"}
    assert planned.cost.seconds == pytest.approx(planned.operations / (312e12 * devices.ASSUMED))
    assert any("random images of the stated size" in note for note in planned.notes)
    assert any("4 channels, 8 times smaller" in note for note in planned.notes)


def test_a_plan_knows_what_blocks_computed_twice_save(tmp_path):
    """Measured with train.recompute; proposed where the recipe's batch does not fit."""
    from tiny import TINY

    keys = {"network.name": "unet", "network.width": 16, "network.groups": 4, "network.multipliers": [1, 2],
            "network.blocks": 2, "network.middle": 1, "sample.sampler": "euler"}  # fmt: skip
    tiny = {key: value for key, value in TINY.items() if key != "network.width"}

    def planned(recompute: bool, gigabytes: float = 1.0) -> Planned:
        card = devices.Accelerator("card", gigabytes, teraflops=1.0)
        return plan(load("digits", tiny | keys | {"train.recompute": recompute}), tmp_path, card)

    plain, twice = planned(False), planned(True)
    assert twice.needed.bytes < 0.8 * plain.needed.bytes
    assert 1.1 * plain.operations < twice.operations < 1.34 * plain.operations
    four = next(part.bytes for part in plain.memory if part.rows == 4)
    gigabytes = four / KEPT_FREE / 1e9
    plain, twice = planned(False, gigabytes), planned(True, gigabytes)
    assert plain.fits < 12
    assert plain.fits < twice.fits
    note = next(note for note in plain.notes if "train.recompute=true" in note)
    assert f" {twice.fits:,} images at once would fit" in note
    assert not any("recompute" in note for note in twice.notes)


def test_an_accelerator_by_name():
    assert devices.like("NVIDIA A100 80GB").gigabytes == 80
    assert devices.like("rtx4090").teraflops == 165
    with pytest.raises(UserError, match=r"--like 'A100 60GB'.*did you mean 'A100 [48]0GB'"):
        devices.like("A100 60GB")


def test_the_command(monkeypatch, capsys, tmp_path, tiny_words):
    monkeypatch.setattr(
        sys, "argv", ["safelight", "plan", "digits-class", *tiny_words, "--runs", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as end:
        safelight.cli.main()
    out = capsys.readouterr().out
    assert not end.value.code
    for part in ("parameters", "GFLOP", "kimg", "memory by images at once", "the recipe's", "disk"):
        assert part in out
