"""The regressor reads what is to be seen, tells right attributes from wrong ones, and is trained once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safelight.data import open_data
from safelight.data.config import Data
from safelight.evaluate import regressor
from safelight.evaluate.regressor import Regressor, open_regressor

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Squares whose brightness and height are attributes, in noise."""
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 1, (400, 2)).astype(np.float32)
    images = rng.normal(40, 10, (400, 16, 16))
    for image, (bright, high) in zip(images, values, strict=True):
        image[15 - int(13 * high) :, 4:12] = 80 + 170 * bright
    path = tmp_path_factory.mktemp("squares") / "all.npz"
    np.savez(path, images=images.clip(0, 255).astype(np.uint8)[..., None], attributes=values)
    return open_data(Data.model_validate({"path": str(path), "held_out": 0.2}))


def test_it_reads_attributes_and_is_trained_once(pack, monkeypatch):
    monkeypatch.setattr(regressor, "FEWEST", 9600)
    lines: list[str] = []
    judge = open_regressor(pack, CPU, lines.append)
    assert len(lines) == 1
    for known, guess in zip(judge.known, judge.guess, strict=True):
        assert known < guess / 3
    images, values = (
        np.asarray(pack.images[pack.held_out]),
        np.asarray(pack.given["attributes"][pack.held_out]),
    )
    errors = judge.judge(images, values)
    np.testing.assert_allclose(errors.mean(0), judge.known, rtol=1e-5)
    disobeyed = judge.judge(images, 1 - values).mean(0)
    assert (disobeyed > 2 * errors.mean(0)).all()
    again = open_regressor(pack, CPU, lines.append)
    assert len(lines) == 1
    assert (again.hash, again.known) == (judge.hash, judge.known)


def test_errors_of_samples_stand_beside_those_of_real_images():
    judge = Regressor(
        "h", ("hair", "eyes"), (0.02, 0.03), (0.25, 0.25), lambda images: np.zeros((len(images), 2))
    )
    parts = [
        judge.judge(np.zeros((count, 4, 4, 1), np.uint8), np.full((count, 2), [0.1, -0.3]))
        for count in (2, 3)
    ]
    errors = judge.results(parts)
    assert errors["error of hair"].value == pytest.approx(0.1)
    assert errors["error of eyes"].value == pytest.approx(0.3)
    assert (errors["error of hair"].floor, errors["error of eyes"].floor) == (0.02, 0.03)
    assert "always predicting the mean makes hair 0.250, eyes 0.250" in judge.description


def test_data_without_attributes_have_none(digits):
    assert open_regressor(digits, CPU, lambda line: None) is None
