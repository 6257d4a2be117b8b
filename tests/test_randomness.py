"""Draws are functions of (seed, step, phase, name, row) with the distributions they claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.randomness import LEAST, MOST, RowDraw, interior, key, permutation, reseed, stratified


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_slice_of_rows_equals_the_same_slice_of_the_whole(data):
    total = data.draw(st.integers(1, 40))
    start = data.draw(st.integers(0, total - 1))
    stop = data.draw(st.integers(start + 1, total))
    shape = tuple(data.draw(st.lists(st.integers(1, 7), max_size=3)))
    whole, part = RowDraw(3, 5, "p", range(total)), RowDraw(3, 5, "p", range(start, stop))
    for draw in (
        lambda d: d.normal("n", *shape),
        lambda d: d.uniform("u", *shape),
        lambda d: d.integers("i", 9, *shape),
    ):
        assert torch.equal(draw(whole)[start:stop], draw(part))


@pytest.mark.parametrize("field", [(1, 0, "a"), (0, 1, "a"), (0, 0, "b")])
def test_seed_step_and_phase_each_give_other_numbers(field):
    rows = range(4)
    base = RowDraw(0, 0, "a", rows).normal("z", 64)
    assert not torch.equal(base, RowDraw(*field, rows).normal("z", 64))
    assert not torch.equal(base, RowDraw(0, 0, "a", rows).normal("y", 64))


def test_normal_has_the_moments_of_a_standard_normal():
    x = RowDraw(1, 0, "m", range(2000)).normal("z", 501).double()
    n = x.numel()
    assert abs(x.mean()) < 5 / math.sqrt(n)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs(x.pow(4).mean() - 3) < 5 * math.sqrt(96 / n)
    neighbours = (x[:, 0:500:2] * x[:, 1:500:2]).mean()  # the two normals of a Box-Muller pair
    assert abs(neighbours) < 5 / math.sqrt(n / 2)
    assert x.dtype == torch.float64
    assert RowDraw(1, 0, "m", range(3)).normal("z", 5).dtype == torch.float32


def test_uniform_and_integers_fill_their_range_evenly():
    draw = RowDraw(2, 0, "m", range(3000))
    u = draw.uniform("u", 100)
    assert u.min() >= 0
    assert u.max() < 1
    histogram = torch.histc(u, 20, 0, 1) / u.numel()
    assert torch.all((histogram - 0.05).abs() < 5 * math.sqrt(0.05 * 0.95 / u.numel()))
    counts = torch.bincount(draw.integers("i", 7, 100).flatten(), minlength=7) / u.numel()
    assert torch.all((counts - 1 / 7).abs() < 5 * math.sqrt(1 / 7 / u.numel()))
    with pytest.raises(ValueError, match="high is 0"):
        draw.integers("i", 0)


def test_the_bits_are_pinned():
    """Noise of a step is part of what a run is: a change of these numbers changes every run."""
    draw = RowDraw(0, 0, "pinned", range(2))
    assert draw.integers("i", 1000, 3).tolist() == [[416, 239, 440], [707, 368, 667]]
    assert draw.normal("z", 2).flatten().tolist() == pytest.approx(
        [0.195199, -0.888308, 1.650235, -0.699766], abs=1e-6
    )
    assert key("a", 1) == 0xD271B96C44A706012DD6D095F6EE1BA6
    assert permutation(6, 0, "order", 0).tolist() == [5, 1, 2, 0, 3, 4]


def test_reseeding_keys_the_global_generator_as_torch_does():
    reseed(0, 3, "phase", 0)
    drawn = torch.rand(4)
    torch.manual_seed(key(0, 3, "phase", 0) >> 65)
    assert torch.equal(drawn, torch.rand(4))
    reseed(0, 3, "phase", 8)
    assert not torch.equal(drawn, torch.rand(4))


@pytest.mark.parametrize("word", [0, 2**31, 2**63, 2**64 - 1])
def test_half_open_whatever_the_words_of_a_draw(word, monkeypatch):
    """All bits 0, all 1, and the ends of the signed halves that normals are made from."""
    words = np.full((3, 8), word, np.uint64)
    monkeypatch.setattr(RowDraw, "_words", lambda self, name, size: words)
    draw = RowDraw(0, 0, "p", range(3))
    assert 0 <= float(draw.uniform("u", 8).min()) <= float(draw.uniform("u", 8).max()) <= MOST
    assert draw.normal("n", 8).isfinite().all()
    for high in (1, 3, 1000, 2**31):
        assert 0 <= int(draw.integers("i", high, 8).min()) <= int(draw.integers("i", high, 8).max()) < high


def test_half_open_an_index_of_the_largest_number_is_the_last():
    u = interior(torch.tensor([0.0, 1.0]))
    assert u.tolist() == [LEAST, MOST]
    counts = torch.cat([torch.arange(1, 5000), 2 ** torch.arange(13, 25), 2 ** torch.arange(13, 24) + 1])
    assert torch.equal((u[1] * counts.float()).long(), counts - 1)
    assert not (u[0] * counts.float()).long().any()
    assert (2 * u - 1).abs().max() <= 1
    assert torch.special.ndtri(u).isfinite().all()


@pytest.mark.parametrize("total", [1, 2, 3, 7, 48, 128, 1000, 100_003])
def test_half_open_strata(total):
    """(row + u) / total in float32 was 1 for the last rows of 128 at u = 1 - 2**-24."""
    for u in (0.0, 2.0**-24, 0.5, MOST):
        drawn = stratified(torch.full((total,), u), range(total), total)
        assert 0 < float(drawn.min()) <= float(drawn.max()) < 1
    middle = stratified(torch.full((total,), 0.5), range(total), total)
    assert torch.equal((middle * total).long().sort().values, torch.arange(total))  # a row in each


def test_strata_of_every_part_cover_all_times():
    """Of any number of equal parts: no part has a gap twice as wide as an even one would leave."""
    for total in (*range(2, 65), 96, 128, 256, 1000):
        for parts in (n for n in range(1, total // 2 + 1) if total % n == 0):
            size = total // parts
            for part in range(parts):
                rows = range(part * size, (part + 1) * size)
                times = stratified(torch.full((size,), 0.5), rows, total).sort().values
                gaps = torch.cat([times, torch.ones(1)]) - torch.cat([torch.zeros(1), times])
                assert float(gaps.max()) < 2 / size, (total, parts, part)


def test_strata_do_not_depend_on_the_parts():
    u = RowDraw(0, 0, "p", range(24)).uniform("time")
    whole = stratified(u, range(24), 24)
    for size in (1, 2, 3, 8, 12):
        parts = [stratified(u[k : k + size], range(k, k + size), 24) for k in range(0, 24, size)]
        assert torch.equal(torch.cat(parts), whole)
