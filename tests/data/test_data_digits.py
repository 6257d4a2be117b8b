from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.digits import enlarge


def test_digits_keep_their_shapes_and_a_black_margin() -> None:
    small = load_digits().images
    large = np.stack([enlarge(image) for image in small])
    inner = large[:, 2:-2, 2:-2].reshape(-1, 8, 3, 8, 3).mean((2, 4))
    assert np.corrcoef(inner.ravel(), small.ravel())[0, 1] > 0.98
    margin = large.copy()
    margin[:, 1:-1, 1:-1] = 0
    assert margin.max() == 0


def test_enlarging_keeps_black_and_white() -> None:
    assert enlarge(np.zeros((8, 8))).max() == 0
    assert enlarge(np.full((8, 8), 16.0))[5:-5, 5:-5].min() == 255


def test_the_pack_is_the_same_everywhere() -> None:
    pack = open_data(Data())
    assert pack.spec.shape == (1, 28, 28)
    assert pack.spec.classes == 10
    np.testing.assert_array_equal(pack.given["label"], load_digits().target)
    assert pack.fingerprint == "ccb0b1c510fb818a68bad82562c1c08e"
    assert set(pack.train) | set(pack.held_out) == set(range(1797))
    assert 0.08 < len(pack.held_out) / 1797 < 0.12


def test_size_channels_and_labels_are_obeyed() -> None:
    pack = open_data(Data(size=(32, 16), channels=3, labels=False))
    assert pack.spec.shape == (3, 32, 16)
    assert pack.spec.classes == 0
    assert not pack.present.any()
    assert (pack.images[..., 0] == pack.images[..., 2]).all()
