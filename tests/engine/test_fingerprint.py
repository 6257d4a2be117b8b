"""A weight fingerprint sees every change of a weight, and nothing else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safelight.engine import fingerprint
from safelight.engine.fingerprint import WeightFingerprint, as_hex


def network() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"a": nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 3)), "b": nn.Linear(7, 7)}


def weights(nets: dict[str, nn.Module]) -> list[Tensor]:
    """Every parameter as one row of numbers that can be written to."""
    return [parameter.detach().view(-1) for name in sorted(nets) for parameter in nets[name].parameters()]


@pytest.fixture(params=[1 << 22, 60], ids=["one chunk", "many chunks"])
def chunk(request, monkeypatch) -> int:
    monkeypatch.setattr(fingerprint, "CHUNK", request.param)
    return request.param


def test_the_definition_in_whole_numbers(chunk):
    """Pairs of weights as 64-bit integers, times odd numbers, modulo 2**64; chunk after chunk, times 31."""
    nets = network()
    odd = [int(value) | 1 for value in np.random.Philox(key=1).random_raw(300)]
    chunks: list[bytes] = []
    for row in weights(nets):
        data = row.numpy().tobytes()
        if not chunks or len(chunks[-1]) + len(data) > 4 * chunk:
            chunks.append(b"")
        chunks[-1] += data
    expected = 0
    for data in chunks:
        pairs = np.frombuffer(data + bytes(-len(data) % 8), "<u8").tolist()
        expected = 31 * expected + sum(a * b for a, b in zip(pairs, odd, strict=False))
    assert len(chunks) == (1 if chunk > 1000 else 5)
    assert int(WeightFingerprint(nets)()) % 2**64 == expected % 2**64


@pytest.mark.parametrize("bit", range(32))
def test_one_flipped_bit_is_seen_wherever_it_is(chunk, bit):
    nets = network()
    own = WeightFingerprint(nets)
    before = int(own())
    for row in weights(nets):
        for place in (0, row.numel() // 2, row.numel() - 1):
            bits = row.view(torch.int32)
            bits[place] ^= 1 << bit if bit < 31 else -(1 << 31)
            assert int(own()) != before
            bits[place] ^= 1 << bit if bit < 31 else -(1 << 31)
    assert int(own()) == before


def test_two_weights_that_change_places_are_seen(chunk):
    nets = network()
    own = WeightFingerprint(nets)
    before = int(own())
    rows = weights(nets)
    for first, second in pairwise(rows):
        for row, place in ((first, -1), (second, 0)):  # a neighbour within, and across the border
            a, b = first[0].clone(), row[place].clone()
            first[0], row[place] = b, a
            assert int(own()) != before
            first[0], row[place] = a, b
    assert int(own()) == before


def test_equal_layers_that_change_places_are_seen(chunk):
    nets = {"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)}
    swapped = {"a": nets["b"], "b": nets["a"]}
    assert int(WeightFingerprint(nets)()) != int(WeightFingerprint(swapped)())


def test_a_sign_is_seen_of_zero_too(chunk):
    nets = network()
    own = WeightFingerprint(nets)
    row = weights(nets)[2]
    row[3] = 0.0
    before = int(own())
    row[3] = -0.0
    assert int(own()) != before
    before = int(own())
    row.neg_()
    assert int(own()) != before


def test_it_changes_no_weight(chunk):
    """It multiplies in place, but a copy: also where a chunk is one parameter."""
    nets = {"only": nn.Linear(9, 9, bias=False)}
    before = nets["only"].weight.detach().clone()
    own = WeightFingerprint(nets)
    assert int(own()) == int(own())
    assert torch.equal(nets["only"].weight, before)


def test_memory_format_is_not_seen(chunk):
    nets = network()
    expected = int(WeightFingerprint(nets)())
    nets["a"].to(memory_format=torch.channels_last)
    assert not nets["a"][1].weight.is_contiguous()
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
