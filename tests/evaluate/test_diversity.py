"""Diversity and class accuracy against their definitions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from safelight.evaluate.scores import class_accuracy, diversity


def test_diversity_is_the_mean_over_pairs_within_a_class_and_then_over_classes():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(30, 5, generator=generator) * torch.linspace(0.1, 3, 30)[:, None] + 7
    classes = torch.tensor([0] * 10 + [1] * 17 + [4] * 2 + [9])  # a class of one has no pair
    expected = []
    for members in (features[:10], features[10:27], features[27:29]):
        pairs = [float((a - b).norm()) for a, b in itertools.combinations(members.double(), 2)]
        expected.append(sum(pairs) / len(pairs))
    assert diversity(features, classes) == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_diversity_of_copies_is_nothing_and_of_no_pair_unknown():
    copies = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).repeat_interleave(6, 0)
    assert diversity(copies, torch.arange(3).repeat_interleave(6)) < 1e-2
    assert math.isnan(diversity(copies[:3], torch.arange(3)))


def test_class_accuracy():
    assert class_accuracy(torch.tensor([3, 1, 2, 2]), torch.tensor([3, 1, 1, 2])) == 0.75
    assert math.isnan(class_accuracy(torch.tensor([]), torch.tensor([])))
