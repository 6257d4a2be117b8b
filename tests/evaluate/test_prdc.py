"""Precision, recall, density and coverage against their definitions, written out over all pairs."""

from __future__ import annotations

import pytest
import torch

from safelight.evaluate import distances
from safelight.evaluate.distances import Prdc, prdc


def clouds(n: int, m: int, size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, size, generator=generator), torch.randn(m, size, generator=generator) * 0.8 + 0.4


def written_out(real: torch.Tensor, generated: torch.Tensor, k: int) -> Prdc:
    def radius(features, i) -> float:
        return sorted(float((features[i] - features[j]).norm()) for j in range(len(features)) if j != i)[
            k - 1
        ]

    n, m = len(real), len(generated)
    real_radii = [radius(real, i) for i in range(n)]
    generated_radii = [radius(generated, j) for j in range(m)]
    d = [[float((real[i] - generated[j]).norm()) for j in range(m)] for i in range(n)]
    inside = [[d[i][j] <= real_radii[i] for j in range(m)] for i in range(n)]
    return Prdc(
        precision=sum(any(inside[i][j] for i in range(n)) for j in range(m)) / m,
        recall=sum(any(d[i][j] <= generated_radii[j] for j in range(m)) for i in range(n)) / n,
        density=sum(map(sum, inside)) / (k * m),
        coverage=sum(map(any, inside)) / n,
    )


@pytest.mark.parametrize(("n", "m", "k"), [(40, 40, 5), (30, 50, 3), (50, 20, 1)])
def test_agrees_with_the_definitions(n, m, k):
    real, generated = clouds(n, m, 4)
    expected = written_out(real.double(), generated.double(), k)
    scores = prdc(real, generated, k)
    assert 0 < expected.coverage < 1  # so that the comparison means something
    assert vars(scores) == pytest.approx(vars(expected))


def test_is_the_same_in_blocks_of_any_size(monkeypatch):
    real, generated = clouds(60, 45, 6)
    expected = prdc(real, generated)
    for entries in (1, 137, 10**6):
        monkeypatch.setattr(distances, "BLOCK", entries)
        assert prdc(real, generated) == expected


def test_of_a_set_with_itself_is_whole():
    real, _ = clouds(200, 1, 8)
    scores = prdc(real, real.clone())
    assert (scores.precision, scores.recall, scores.coverage) == (1.0, 1.0, 1.0)
    assert scores.density >= 1.0


def test_tells_apart_what_goes_wrong():
    real, _ = clouds(400, 1, 2)
    left = real[real[:, 0] < 0]
    collapsed = prdc(real, left[torch.randint(len(left), (400,), generator=torch.Generator().manual_seed(0))])
    assert collapsed.precision == 1.0  # all of it real, and half of the real missing
    assert collapsed.recall < 0.7
    assert collapsed.coverage < 0.6
    off = prdc(real, real * 6)
    assert off.precision < 0.3
    assert off.recall > 0.9


def test_keeps_its_digits_far_from_zero():
    real, generated = clouds(100, 100, 4)
    assert prdc(real + 300, generated + 300).coverage == pytest.approx(
        prdc(real, generated).coverage, abs=0.011
    )


def test_never_builds_the_whole_matrix(monkeypatch):
    """50,000 x 2,048 features come in blocks of 2 ** 24 distances; scaled down, the blocks are watched."""
    seen = []
    inside = torch.Tensor.addmm_

    def watched(block, *args, **kwargs):
        seen.append(block.numel())
        return inside(block, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "addmm_", watched)
    monkeypatch.setattr(distances, "BLOCK", 5000)
    real, generated = clouds(700, 500, 16)
    prdc(real, generated)
    assert max(seen) <= 5000
    assert sum(seen) == 700 * 700 + 500 * 500 + 700 * 500


def test_needs_more_features_than_neighbours():
    real, generated = clouds(20, 5, 3)
    with pytest.raises(ValueError, match="5 neighbours need 6 features"):
        prdc(real, generated)
