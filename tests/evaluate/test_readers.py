"""Readers of texts: scores by hand, answers to scenes."""

from __future__ import annotations

import pytest
import torch

from safelight.data.synthetic.shapes import Scene, scene
from safelight.evaluate import scenes
from safelight.evaluate.retrieval import AMONG, ranked


def test_a_rank_is_the_share_of_other_texts_that_fit_worse():
    fits = torch.tensor([[0.9, 0.1, 0.5], [0.8, 0.5, 0.2], [0.3, 0.3, 0.3]])
    scores = ranked(fits, ["a", "b", "c"])
    assert scores["retrieval rank"].value == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert scores[f"retrieval of {AMONG}"].value == pytest.approx((1 + 2 * 0.5 ** (AMONG - 1)) / 3)
    alike = ranked(fits, ["a", "a", "c"])  # the second text is no other of the first
    assert alike["retrieval rank"].value == pytest.approx((1 + 1 + 0.5) / 3)
    assert ranked(fits, ["a", "a", "a"]) == {}


def test_chance_is_a_half():
    torch.manual_seed(0)
    scores = ranked(torch.randn(400, 400), [str(row) for row in range(400)])
    assert scores["retrieval rank"].value == pytest.approx(0.5, abs=0.05)
    assert scores["retrieval rank"].spread == pytest.approx((1 / 12 / 400) ** 0.5, rel=0.1)
    assert scores[f"retrieval of {AMONG}"].value == pytest.approx(1 / AMONG, abs=0.03)


def test_scenes_are_right_where_every_answer_is():
    truth = Scene(("red", "circle"), "left of", ("blue", "square"))
    other = Scene(("red", "circle"), "above", ("blue", "diamond"))
    answers = torch.tensor([scenes.answers_of(truth)] * 2)
    scores = scenes.read_right(answers, [truth, other])
    values = {name: score.value for name, score in scores.items()}
    assert values == {"alignment": 0.5, "alignment of colours": 1.0, "alignment of shapes": 0.5,
                      "alignment of places": 0.5}  # fmt: skip
    assert scores["alignment"].spread == pytest.approx(0.5 / 2**0.5)
    assert scenes.read_right(answers, [None, None]) == {}
    logits = torch.nn.functional.one_hot(torch.tensor(scenes.answers_of(other)), 5).float()
    parts = [row[:size] for row, size in zip(logits, scenes.QUESTIONS, strict=True)]
    assert scenes.answered(torch.cat(parts)[None]).tolist() == [list(scenes.answers_of(other))]


def test_a_reader_learns_from_scenes_that_are_not_of_the_data():
    pixels, truth = scenes.drawn(range(scenes.FIRST, scenes.FIRST + 3))
    assert truth.tolist() == [list(scenes.answers_of(scene(scenes.FIRST + row))) for row in range(3)]
    assert scenes.build()(scenes.prepared(pixels)).shape == (3, sum(scenes.QUESTIONS))
