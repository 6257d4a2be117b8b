"""Every way to search finds the best point of a score that is known, and goes on with the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safelight.explore.latents import REACH, Shell, Styles
from safelight.explore.search.fronts import front, fronts
from safelight.explore.search.optimisers import WAYS, Candidates, Way, optimiser
from safelight.explore.search.record import SearchRecord, Standard, generation
from safelight.explore.search.taste import FRESH, Taste

SIZE = 16
TARGET = torch.linspace(-1, 1, SIZE)


def cosine(x: torch.Tensor, gradients: bool):
    """Cosine (n, 1) with TARGET, whose best on the shell is 1, and its gradient."""
    x = x.clone().requires_grad_(gradients)
    score = torch.nn.functional.cosine_similarity(x, TARGET[None])
    gradient = torch.autograd.grad(score.sum(), x)[0][:, None] if gradients else None
    return score.detach()[:, None], gradient


def searched(way: Way, generations: int = 40, cut: int | None = None) -> SearchRecord:
    """The record of a search; cut: the generation at which a new optimiser goes on from the state."""
    candidates = Candidates(Shell((4, 4)), 24, generations, seed=3)
    method, record = (
        optimiser(way, candidates),
        SearchRecord.begun(Standard(torch.zeros(1), torch.ones(1)), 2, SIZE),
    )
    for number in range(generations):
        if number == cut:
            state, held = method.state(), record.state()
            method, record = optimiser(way, candidates), SearchRecord.begun(record.standard, 2, SIZE)
            method.load(state)
            record.load(held)
        generation(method, record, cosine)
    return record


@pytest.mark.parametrize("way", WAYS)
def test_the_best_is_found_and_a_cut_changes_no_bit(way):
    record = searched(way)
    assert record.evaluations == 960
    assert record.score > {"random": 0.6, "ga": 0.9, "cma": 0.98, "gradient": 0.99}[way]
    again = searched(way, cut=17)
    for name, value in record.state().items():
        assert torch.equal(value, again.state()[name]), name


@pytest.mark.parametrize("way", WAYS)
def test_no_global_generator_is_read_or_left_changed(way):
    np.random.seed(5)
    torch.manual_seed(5)
    numpy_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = searched(way, generations=3).score
    assert np.array_equal(np.random.get_state()[1], numpy_before)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.random.seed(6)
    assert searched(way, generations=3).score == first


def test_candidates_stay_where_the_generator_was_trained():
    shell = Shell((2, 3))
    torch.testing.assert_close(shell.latents(torch.randn(5, 6)).square().sum((1, 2)), torch.full((5,), 6.0))
    mean, spread = torch.tensor([1.0, -1.0]), torch.tensor([0.5, 2.0])
    styles = Styles(mean, spread, layers=3, of=lambda draw: torch.zeros(1, 2))
    w = styles.latents(torch.tensor([[9.0, 0.5]]))
    torch.testing.assert_close(w, torch.tensor([[1 + REACH * 0.5, 0.0]])[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(styles.point(w[:, 0]), torch.tensor([[REACH, 0.5]]))


def test_a_front_holds_what_none_beats():
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.4, 0.4], [0.5, 0.1], [1.0, -1.0]])
    assert front(scores).tolist() == [0, 1, 2]
    assert [sorted(rows.tolist()) for rows in fronts(scores)][:2] == [[0, 1, 2], [3, 4, 5]]
    assert front(scores[:, :1]).tolist() == [0]


def test_objectives_of_other_units_count_alike():
    standard = Standard.of(torch.tensor([[0.0, 0.0], [1.0, 100.0], [2.0, 200.0]]))
    torch.testing.assert_close(standard.total(torch.tensor([[2.0, 100.0], [1.0, 200.0]])), torch.ones(2))


def test_who_picks_the_three_they_like_most_gets_what_they_like():
    """A person whose taste is the cosine, against as many samples as they looked at."""
    candidates = Candidates(Shell((4, 4)), 24, 1, seed=3)
    taste, looked = Taste(candidates), []
    for _ in range(12):
        likes = cosine(taste.points, False)[0][:, 0]
        looked.append(float(likes.max()))
        taste.pick(likes.topk(3).indices.tolist())
    chance = max(
        float(cosine(candidates.space.first(candidates.draw(at)), False)[0].max()) for at in range(100, 112)
    )
    assert looked[-1] > 0.9 > chance
    assert looked == sorted(looked)  # what was picked stays to be picked again


def test_a_sheet_has_the_last_picks_then_children_then_fresh_samples():
    candidates = Candidates(Shell((4, 4)), 24, 1, seed=3)
    taste, other = Taste(candidates), Taste(candidates)
    first = taste.points
    taste.pick([5, 2])
    assert torch.equal(taste.points[:2], first[[5, 2]])
    fresh = int(FRESH * 24)
    assert torch.equal(taste.points[-fresh:], candidates.space.first(candidates.draw(2))[-fresh:])
    bred = torch.nn.functional.cosine_similarity(taste.points[2:-fresh, None], first[None, [5, 2]], dim=2)
    assert float(bred.mean()) > 0.4  # of fresh ones 0
    torch.testing.assert_close(taste.points.square().sum(1), torch.full((24,), 16.0))
    other.pick([])
    assert torch.equal(other.points, candidates.space.first(candidates.draw(2)))  # none was good: fresh ones
    taste.pick([])
    assert torch.equal(taste.picked, first[[5, 2]])  # those liked before stay
