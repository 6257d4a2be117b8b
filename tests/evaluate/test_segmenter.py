"""The segmenter tells right masks from wrong ones, and its numbers are those of their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.evaluate import segmenter
from safelight.evaluate.measure import mask_results
from safelight.evaluate.segmenter import Confusion, open_segmenter, resized

CPU = torch.device("cpu")


def quiet(line: str) -> None:
    pass


def test_intersection_over_union_is_its_definition():
    wanted = np.array([[0, 0, 1, 1, 255, 2]], np.uint8)
    predicted = np.array([[0, 1, 1, 1, 0, 1]], np.uint8)
    confusion = Confusion.of(predicted, wanted, 4)
    np.testing.assert_allclose(confusion.iou, [1 / 2, 2 / 4, 0, np.nan])
    assert confusion.mean_iou == pytest.approx((1 / 2 + 2 / 4 + 0) / 3)  # class 3 is asked for nowhere
    twice = confusion + confusion
    np.testing.assert_allclose(twice.iou, confusion.iou)


def test_a_mask_is_resized_to_the_pixels_in_the_middle():
    masks = np.arange(36, dtype=np.uint8).reshape(1, 6, 6)
    np.testing.assert_array_equal(resized(masks, (2, 2)), [[[7, 10], [25, 28]]])
    assert resized(masks, (6, 6)) is masks


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Dark and light halves, in noise: what a segmenter can learn in seconds."""
    rng = np.random.default_rng(0)
    ids = np.zeros((240, 16, 16), np.uint8)
    edge = rng.integers(3, 13, 240)
    for item, at in enumerate(edge):
        ids[item, :, at:] = 1
        if item % 2:
            ids[item] = ids[item].T
    images = (60 + 120 * ids + rng.normal(0, 15, ids.shape)).clip(0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("halves") / "all.npz"
    np.savez(path, images=np.repeat(images[..., None], 3, 3), mask=ids)
    return open_data(Data.model_validate({"path": str(path), "held_out": 0.2}))


def test_it_knows_what_follows_a_mask_and_is_trained_once(pack, monkeypatch):
    monkeypatch.setattr(segmenter, "FEWEST", 3200)
    lines: list[str] = []
    judge = open_segmenter(pack, CPU, lines.append)
    assert judge.known.mean_iou > 0.9
    images, masks = np.array(pack.images[:50]), np.array(pack.given["mask"][:50])
    assert judge.judge(images, masks).mean_iou > 0.9
    assert judge.judge(images, 1 - masks).mean_iou < 0.1
    results = mask_results(judge.judge(images, masks), judge)
    assert list(results) == ["mask IoU", "IoU of 0", "IoU of 1"]
    assert results["mask IoU"].floor == judge.known.mean_iou
    again = open_segmenter(pack, CPU, lines.append)
    assert len(lines) == 1
    assert (again.hash, again.known.pixels.tolist()) == (judge.hash, judge.known.pixels.tolist())
    features, _ = again.extractor.network(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert features.shape == (50, 4 * segmenter.WIDTHS[-1])


def test_data_without_masks_has_no_segmenter():
    with pytest.raises(UserError, match="digits has no masks to learn; use efficientnet"):
        open_segmenter(open_data(Data()), CPU, quiet)
