"""Conditions of every kind, from arrays through the pack to the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.data.views import Views

N, H, W = 40, 6, 8
RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (N, H, W, 3), np.uint8)


def opened(tmp_path: Path, arrays: dict[str, NDArray[np.generic]], **keys: object) -> Pack:
    np.savez(tmp_path / "all.npz", images=IMAGES, **arrays)
    return open_data(Data.model_validate({"path": str(tmp_path / "all.npz"), "held_out": 0.2, **keys}))


def painted(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Pictures that show their masks: a class is a grey level."""
    return np.repeat((ids * 60).astype(np.uint8)[..., None], 3, -1)


def test_a_mask_has_a_channel_for_each_class_and_255_is_none(tmp_path: Path) -> None:
    ids = RNG.integers(0, 4, (N, H, W), np.uint8)
    ids[:, 0, 0] = 255
    pack = opened(tmp_path, {"masks": ids})
    assert pack.spec.conditions["mask"].size == 4
    batch = Stream(pack, 0, 16).pick(np.arange(N))
    mask = batch.given["mask"]
    assert mask.dtype == torch.float32
    assert mask.shape == (N, 4, H, W)
    for c in range(4):
        np.testing.assert_array_equal(mask[:, c].numpy(), ids == c)
    assert mask[:, :, 0, 0].abs().max() == 0
    assert batch.present.all()


def test_a_flip_mirrors_an_image_and_its_mask_together(tmp_path: Path) -> None:
    ids = RNG.integers(0, 3, (N, H, W), np.uint8)
    np.savez(tmp_path / "all.npz", images=painted(ids), masks=ids)
    pack = open_data(Data(path=str(tmp_path / "all.npz"), held_out=0.2))
    stream, plain = Stream(pack, 3, 16, views=Views(flip=True)), Stream(pack, 3, 16)
    flipped = 0
    for step in range(6):
        batch, still = stream.batch(step, range(16)), plain.batch(step, range(16))
        shown = torch.from_numpy(stream.space.to_pixels(batch.x)[..., 0].astype(np.int64)) // 60
        assert torch.equal(batch.given["mask"].argmax(1), shown)  # what the mask says is what is seen
        turned = (batch.given["mask"] != still.given["mask"]).flatten(1).any(1)
        assert torch.equal(turned, (batch.x != still.x).flatten(1).any(1))
        flipped += int(turned.sum())
    assert 25 < flipped < 71  # of 96


def test_black_and_white_masks_are_two_classes(tmp_path: Path) -> None:
    ids = RNG.integers(0, 2, (N, H, W), np.uint8)
    pack = opened(tmp_path, {"masks": ids * np.uint8(255)})
    assert pack.spec.conditions["mask"].size == 2
    np.testing.assert_array_equal(pack.given["mask"], ids)


@pytest.mark.parametrize("keys", [{}, {"mask_classes": 5}])
def test_grey_levels_are_no_classes(tmp_path: Path, keys: dict[str, int]) -> None:
    ids = RNG.integers(0, 200, (N, H, W), np.uint8)
    with pytest.raises(UserError, match=r"data\.mask") as error:
        opened(tmp_path, {"masks": ids}, **keys)
    assert "\n" not in str(error.value)


def test_the_recipe_states_how_many_classes_masks_have(tmp_path: Path) -> None:
    ids = RNG.integers(0, 3, (N, H, W), np.uint8)
    assert opened(tmp_path, {"masks": ids}, mask_classes=7).spec.conditions["mask"].size == 7
    assert "mask" not in opened(tmp_path, {"masks": ids}, mask="none").spec.conditions


def test_attributes_are_numbers_and_one_missing_is_all_missing(tmp_path: Path) -> None:
    values = RNG.normal(size=(N, 3)).astype(np.float64)
    values[7, 1] = np.nan
    pack = opened(tmp_path, {"attributes": values})
    batch = Stream(pack, 0, 16).pick(np.arange(N))
    assert batch.given["attributes"].dtype == torch.float32
    there = np.arange(N) != 7
    np.testing.assert_array_equal(batch.present, there)
    np.testing.assert_array_equal(batch.given["attributes"][there], values[there].astype(np.float32))
    assert torch.equal(batch.given["attributes"][7], torch.zeros(3))


def test_a_sample_is_present_with_every_condition_only(tmp_path: Path) -> None:
    attributes = RNG.normal(size=(N, 2))
    attributes[:10] = np.nan
    labels = np.arange(N) % 3
    pack = opened(tmp_path, {"attributes": attributes, "labels": labels})
    assert pack.covered["label"].all()
    assert pack.covered["attributes"].tolist() == [False] * 10 + [True] * 30
    assert pack.present.tolist() == [False] * 10 + [True] * 30
    assert opened(tmp_path, {"attributes": attributes, "labels": labels}, attributes=[]).present.all()


def test_which_condition_is_missing_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    attributes, labels = np.zeros((N, 1)), np.zeros(N, np.int64)
    labels[1:] = 1
    whole = opened(tmp_path, {"attributes": attributes, "labels": labels})
    attributes[5] = np.nan
    partial = opened(tmp_path, {"attributes": attributes, "labels": labels})
    np.testing.assert_array_equal(whole.given["attributes"], partial.given["attributes"])
    assert whole.fingerprint != partial.fingerprint


def test_captions_are_kept_as_they_are(tmp_path: Path) -> None:
    texts = np.array([[f"photo {i}", "« 火 » 🔥" if i % 2 else ""] for i in range(N)])
    pack = opened(tmp_path, {"texts": texts})
    assert len(pack.texts) == N
    assert pack.texts[3] == ("photo 3", "« 火 » 🔥")
    assert pack.texts[-2] == ("photo 38",)
    assert list(pack.texts[2:4]) == [("photo 2",), ("photo 3", "« 火 » 🔥")]
    with pytest.raises(IndexError):
        pack.texts[N]
    assert dict(pack.spec.conditions) == {}  # features make them a condition
    assert not pack.present.any()
    other = opened(tmp_path, {"texts": np.char.add(texts, "!")})
    assert other.fingerprint != pack.fingerprint


def features_of(batch_rows: torch.Tensor) -> list[tuple[int, int]]:
    """(item, caption) that features made below speak of."""
    return [(int(row[0]), int(row[1])) for row in batch_rows]


def test_one_of_the_captions_features_is_drawn_anew_each_time(tmp_path: Path) -> None:
    counts = np.arange(N) % 4  # item 0, 4, ... have none
    texts = np.array([[f"{k}" if k < counts[i] else "" for k in range(3)] for i in range(N)])
    rows = np.array([(i, k) for i in range(N) for k in range(counts[i])], np.float32)
    np.save(tmp_path / "clip.npy", rows)
    pack = opened(tmp_path, {"texts": texts}, text_features=str(tmp_path / "clip.npy"))
    assert pack.spec.conditions["text"].size == 2
    np.testing.assert_array_equal(pack.present, counts > 0)
    stream = Stream(pack, 0, 16)
    seen: dict[int, set[int]] = {}
    for step in range(60):
        batch = stream.batch(step, range(16))
        items = stream.items(step, range(16))
        for item, there, (whose, which) in zip(
            items, batch.present, features_of(batch.given["text"]), strict=True
        ):
            if there:
                assert whose == item
                seen.setdefault(int(item), set()).add(which)
    assert seen == {int(item): set(range(counts[item])) for item in pack.train if counts[item]}
    once, again = stream.batch(7, range(4, 12)), Stream(pack, 0, 16).batch(7, range(16))
    assert torch.equal(once.given["text"], again.given["text"][4:12])
    held = stream.held_out(100)
    assert all(which == 0 for _, which in features_of(held.given["text"][held.present]))


def test_features_by_image_by_name_and_several_for_each(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.stack([np.arange(N), np.zeros(N)], 1).astype(np.float16))
    pack = opened(tmp_path, {}, text_features=str(tmp_path / "one.npy"))
    assert features_of(Stream(pack, 0, 8).pick(np.array([5, 0])).given["text"]) == [(5, 0), (0, 0)]

    several = np.stack(np.meshgrid(np.arange(N), np.arange(5), indexing="ij"), -1).astype(np.float32)
    np.save(tmp_path / "several.npy", several)
    pack = opened(tmp_path, {}, text_features=str(tmp_path / "several.npy"))
    drawn = {
        which
        for step in range(20)
        for _, which in features_of(Stream(pack, 0, 8).parts(step)[0].given["text"])
    }
    assert drawn == set(range(5))

    names = np.array([f"image/{i:02d}" for i in (9, 3, 20)])
    np.savez(tmp_path / "named.npz", names=names, features=np.array([[9, 0], [3, 0], [20, 0]], np.float32))
    pack = opened(tmp_path, {}, text_features=str(tmp_path / "named.npz"))
    assert np.flatnonzero(pack.present).tolist() == [3, 9, 20]
    batch = Stream(pack, 0, 8).pick(np.array([3, 9, 20, 39]))
    assert features_of(batch.given["text"][batch.present]) == [(3, 0), (9, 0), (20, 0)]


@pytest.mark.parametrize(
    ("features", "says"),
    [
        (np.zeros((N + 1, 4), np.float32), r"has 41 rows for 40 images and 0 captions"),
        (np.zeros((N, 4), np.int64), r"int64 \(40, 4\); expected floating-point"),
        (np.full((N, 4), np.inf, np.float32), "not finite"),
        (np.zeros(N, np.float32), r"float32 \(40,\); expected"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    tmp_path: Path, features: NDArray[np.generic], says: str
) -> None:
    np.save(tmp_path / "f.npy", features)
    with pytest.raises(UserError, match=rf"data\.text_features: .*f\.npy.* {says}"):
        opened(tmp_path, {}, text_features=str(tmp_path / "f.npy"))


def test_features_that_are_not_there_or_hold_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.text_features: .*none\.npy cannot be read"):
        opened(tmp_path, {}, text_features=str(tmp_path / "none.npy"))
    np.save(tmp_path / "o.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UserError, match="of plain arrays"):
        opened(tmp_path, {}, text_features=str(tmp_path / "o.npy"))
