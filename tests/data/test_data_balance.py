"""Drawing by class: shares that are kept, rows that stay functions of their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from safelight.config import UserError, check
from safelight.data import open_data
from safelight.data.balance import mask_pixels, mask_shares
from safelight.data.config import Data
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.randomness import RowDraw

N = 300


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Class 0 in every mask, 1 and 4 in every tenth, 2 in every hundredth, 3 in none."""
    ids = np.zeros((N, 4, 4), np.uint8)
    ids[::10, 0, :2], ids[::100, 1, :3], ids[::10, 3, 0] = 1, 2, 4
    images = np.random.default_rng(0).integers(0, 256, (N, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "all.npz", images=images, mask=ids)
    return open_data(Data.model_validate({"path": str(tmp_path / "all.npz"), "held_out": 0}))


def test_pixels_of_classes_are_counted_once(pack):
    counted = mask_pixels(pack)
    assert counted.sum(0).tolist() == [N * 16 - 30 * 3 - 3 * 3, 60, 9, 0, 30]
    np.save(pack.folder / "mask-pixels.npy", counted + 1)
    assert mask_pixels(pack).sum() == counted.sum() + 5 * N  # read back, not counted again
    assert sum(mask_shares(pack)) == pytest.approx(1)


def test_classes_are_drawn_by_their_shares(pack):
    stream = Stream(pack, 4, 4000, balance=[0.5, 0.25, 0.25, 0.0, 0.0])
    items = stream.items(0, range(4000))
    rare, some = items % 100 == 0, items % 10 == 0
    # a quarter by class 2; others meet its images as often as they are
    assert rare.mean() == pytest.approx(0.25 + 0.25 * 0.1 + 0.5 * 0.01, abs=0.02)
    assert some.mean() == pytest.approx(0.5 + 0.5 * 0.1, abs=0.02)
    counts = np.bincount(items, minlength=N)[::100]
    assert counts.min() > 0.8 * counts.max()  # its three images equally often


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_half_open_draws_find_a_class_and_an_item_at_their_ends(pack, word, monkeypatch):
    words = np.full((8, 4), word, np.uint64)
    monkeypatch.setattr(RowDraw, "_words", lambda self, name, size: words)
    stream = Stream(pack, 4, 8, balance=[0.1, 0.3, 0.6, 0.0, 0.0])  # edges that do not add up to 1
    assert set(stream.items(0, range(8))) == {200 if word else 0}


def test_images_without_a_mask_have_the_share_after_the_last_class(tmp_path):
    ids = np.zeros((100, 4, 4), np.uint8)
    ids[:50, :2] = 1
    ids[50:] = 255
    np.savez(
        tmp_path / "some.npz",
        images=np.random.default_rng(0).integers(0, 256, (100, 4, 4, 3), np.uint8),
        mask=ids,
    )
    pack = open_data(Data.model_validate({"path": str(tmp_path / "some.npz"), "held_out": 0}))
    items = Stream(pack, 0, 1000, balance=[1, 0, 1]).items(0, range(1000))
    assert (items >= 50).mean() == pytest.approx(0.5, abs=0.05)


def test_a_row_is_a_function_of_step_and_row(pack):
    stream, again = (Stream(pack, 4, 64, balance=[1, 1, 1, 0, 1]) for _ in range(2))
    whole = stream.items(7, range(64))
    np.testing.assert_array_equal(whole[10:20], again.items(7, range(10, 20)))
    np.testing.assert_array_equal(stream.batch(7, range(10, 20)).x, again.batch(7, range(64)).x[10:20])
    assert not np.array_equal(whole, stream.items(8, range(64)))


def test_labels_are_balanced_where_there_are_no_masks(make_pack, pictures):
    pack = make_pack(pictures, labels=[0] * 190 + [1] * 10, held_out=0)
    items = Stream(pack, 0, 1000, balance=[1, 1, 0, 0]).items(0, range(1000))
    assert (items >= 190).mean() == pytest.approx(0.5, abs=0.05)


def test_wrong_shares_are_told(pack, make_pack, pictures):
    with pytest.raises(UserError, match="no training image is of class 3 of the mask; make its share 0"):
        Stream(pack, 0, 10, balance=[1, 1, 1, 1, 1])
    with pytest.raises(UserError, match="states 2 shares, but the mask has 5 classes"):
        Stream(pack, 0, 10, balance=[1, 1])
    with pytest.raises(UserError, match="neither masks nor labels"):
        Stream(make_pack(pictures), 0, 10, balance=[1, 1])
    with pytest.raises(UserError, match="none below 0, not all 0"):
        check(Data, {"balance": [0, 0]}, "data")
