"""A weight fingerprint sees every change of a weight, and nothing else."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safelight.engine import fingerprint
from safelight.engine.fingerprint import LATER, WeightFingerprint, as_hex, differences
from safelight.engine.precision import settle, settled


def network() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"a": nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 3)), "b": nn.Linear(7, 7)}


def weights(nets: dict[str, nn.Module]) -> list[Tensor]:
    """Every parameter as one row of numbers that can be written to."""
    return [parameter.detach().view(-1) for name in sorted(nets) for parameter in nets[name].parameters()]


def signed(value: int, bits: int) -> int:
    """A whole number modulo 2**bits, as a two's complement integer has it."""
    value %= 2**bits
    return value - 2**bits if value >= 2 ** (bits - 1) else value


def test_the_definition_in_whole_numbers():
    """Weights as 32-bit integers, times odd numbers, summed; sums times odd numbers, summed."""
    nets = network()
    odd = [int(value) | 1 for value in np.random.Philox(key=1).random_raw(225)]
    of_parameters = [int(value) | 1 for value in np.random.Philox(key=2).random_raw(6)]
    expected = 0
    for row, factor in zip(weights(nets), of_parameters, strict=True):
        total = sum(a * b for a, b in zip(row.view(torch.int32).tolist(), odd, strict=False))
        expected += signed(total, 32) * factor
    assert int(WeightFingerprint(nets)()) == signed(expected, 64)


@pytest.mark.parametrize("bit", range(32))
def test_one_flipped_bit_is_seen_wherever_it_is(bit):
    nets = network()
    digest = WeightFingerprint(nets)
    before = int(digest())
    for row in weights(nets):
        for place in (0, row.numel() // 2, row.numel() - 1):
            bits = row.view(torch.int32)
            bits[place] ^= 1 << bit if bit < 31 else -(1 << 31)
            assert int(digest()) != before
            bits[place] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert int(digest()) == before


def test_two_weights_that_change_places_are_seen():
    nets = network()
    digest = WeightFingerprint(nets)
    before = int(digest())
    rows = weights(nets)
    for first, second in pairwise(rows):
        for row, place in ((first, -1), (second, 0)):  # a neighbour within, and across the border
            a, b = first[0].clone(), row[place].clone()
            first[0], row[place] = b, a
            assert int(digest()) != before
            first[0], row[place] = a, b
    assert int(digest()) == before


def test_equal_layers_that_change_places_are_seen():
    nets = {"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)}
    swapped = {"a": nets["b"], "b": nets["a"]}
    assert int(WeightFingerprint(nets)()) != int(WeightFingerprint(swapped)())


def test_a_sign_is_seen_of_zero_too():
    nets = network()
    digest = WeightFingerprint(nets)
    row = weights(nets)[2]
    row[3] = 0.0
    before = int(digest())
    row[3] = -0.0
    assert int(digest()) != before
    before = int(digest())
    row.neg_()
    assert int(digest()) != before


def test_it_changes_no_weight_and_sees_those_of_now():
    nets = network()
    before = [row.clone() for row in weights(nets)]
    digest = WeightFingerprint(nets)
    first = int(digest())
    assert all(map(torch.equal, weights(nets), before))
    with torch.no_grad():
        nets["b"].weight.add_(1)
    assert int(digest()) == int(WeightFingerprint(nets)()) != first


def test_the_order_is_that_of_memory():
    """Converted back it is the same; a copy into the same layout is the same."""
    nets = network()
    expected = int(WeightFingerprint(nets)())
    nets["a"].to(memory_format=torch.channels_last)
    assert not nets["a"][1].weight.is_contiguous()
    converted = int(WeightFingerprint(nets)())
    copied = network()
    copied["a"].to(memory_format=torch.channels_last)
    for mine, other in zip(copied["a"].parameters(), nets["a"].parameters(), strict=True):
        mine.detach().copy_(other)
    assert int(WeightFingerprint(copied)()) == converted != expected
    nets["a"].to(memory_format=torch.contiguous_format)
    assert int(WeightFingerprint(nets)()) == expected


@pytest.mark.parametrize("bit", [0, 15, 31])
def test_what_the_device_lacks_is_computed_the_same(monkeypatch, bit):
    nets = network()
    nets["b"].weight.detach().view(torch.int32)[2, 3] ^= 1 << bit if bit < 31 else -(1 << 31)
    expected = int(WeightFingerprint(nets)())
    monkeypatch.setattr(torch, "dot", fingerprint._dot)
    assert int(WeightFingerprint(nets)()) == expected


def test_names_matter_only_by_their_order():
    nets = network()
    renamed = {"z": nets["b"], "c": nets["a"]}
    assert int(WeightFingerprint(nets)()) == int(WeightFingerprint(renamed)())


def test_networks_without_parameters_have_one():
    assert int(WeightFingerprint({"none": nn.SiLU()})()) == 0


def test_written_as_16_digits():
    assert as_hex(-1) == "f" * 16
    assert as_hex(255) == "00000000000000ff"


@pytest.fixture
def cuda(monkeypatch) -> torch.device:
    """A CUDA device as far as its switches go; they are put back."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 9)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    precisions = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32"
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    was = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    yield torch.device("cuda", 0)
    torch.use_deterministic_algorithms(was[0], warn_only=was[1])
    for backend, before in zip(backends, precisions, strict=True):
        backend.fp32_precision = before
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


SETTLED = {
    "deterministic": "warn",
    "tf32": "off",
    "cudnn_benchmark": "off",
    "cublas_workspace": ":4096:8",
    "fill_uninitialized": "off",
}


def test_switches_of_cuda_are_set_on_purpose_and_recorded(cuda):
    settle(cuda)
    facts = fingerprint.environment(cuda, "fp32", "contiguous", 1)
    assert SETTLED.items() <= facts.items()
    assert set(SETTLED) == set(LATER)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.backends.cudnn.benchmark
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cudnn.rnn.fp32_precision == "ieee"


def test_a_workspace_that_the_user_set_is_left_and_recorded(cuda, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    settle(cuda)
    assert settled(cuda)["cublas_workspace"] == ":16:8"


def test_tf32_and_what_repeats_no_bits_are_stated_choices_that_replay_tells(cuda):
    settle(cuda)
    before = fingerprint.environment(cuda, "fp32", "contiguous", 1)
    settle(cuda, tf32=True, deterministic=False)
    assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    now = fingerprint.environment(cuda, "fp32", "contiguous", 1, "inductor")
    assert differences(before, now) == [
        "compile: off, now inductor", "cudnn_benchmark: off, now on", "deterministic: warn, now off",
        "tf32: off, now on",
    ]  # fmt: skip


def test_on_a_cpu_there_is_nothing_to_switch():
    settle(torch.device("cpu"))
    assert settled(torch.device("cpu")) == {}
    assert not SETTLED.keys() & fingerprint.environment(torch.device("cpu"), "fp32", "contiguous", 1).keys()
