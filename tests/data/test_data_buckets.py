"""Aspect ratio buckets: which shapes, which image goes where, which bucket a step takes, what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from data.files import opened, save
from safelight.config import UserError
from safelight.data import Data, buckets, open_data
from safelight.data.balance import mask_shares
from safelight.data.buckets import candidates, chosen, cuts, nearest, proposed
from safelight.data.stream import Stream
from safelight.data.turns import Turns
from safelight.data.views import Views
from safelight.recipe import load

SIZES = [(16, 16)] * 14 + [(12, 24)] * 30 + [(24, 12)] * 16
KEYS = {"size": 16, "buckets": 3, "bucket_multiple": 4, "held_out": 0.0, "channels": 3}


@pytest.fixture
def folder(tmp_path):
    """Images of three ratios, each of one grey of its own, in two class folders."""
    for number, (height, width) in enumerate(SIZES):
        save(
            tmp_path / f"d/{'ab'[number % 2]}/{number:03d}.png",
            np.full((height, width, 3), 4 * number, np.uint8),
        )
    return tmp_path / "d"


def shapes_of(pack):
    return {part.images.shape[1:3]: len(part) for part in pack.buckets}


def greys(batch):
    return ((batch.x[:, 0, 0, 0] + 1) * 127.5 / 4).round().int().tolist()


@pytest.mark.parametrize(("side", "multiple"), [(32, 4), (64, 8), (128, 16), (256, 32), (512, 64), (33, 1)])
def test_candidates_divide_and_have_the_area(side, multiple):
    shapes = candidates(side * side, multiple)
    assert len(shapes) > 4
    assert len(set(shapes)) == len(shapes)
    for height, width in shapes:
        assert height % multiple == width % multiple == 0
        assert abs(height * width / side**2 - 1) <= buckets.AREA
        assert max(height, width) <= buckets.LONGEST * min(height, width)


def test_an_image_goes_to_the_nearest_ratio_by_its_logarithm():
    shapes = [(4, 4), (4, 8), (8, 4)]
    sizes = np.array([(10, 10), (10, 14), (10, 15), (14, 10), (15, 10), (1, 100), (200, 1)])
    assert nearest(sizes, shapes).tolist() == [0, 0, 1, 0, 2, 1, 2]
    assert nearest(np.array([(1, 1)]), [(4, 8), (8, 4)]).tolist() == [0]  # equally far
    np.testing.assert_allclose(cuts(np.array([(1, 1), (10, 15), (10, 30)]), shapes), [0, 0.25, 1 / 3])


def test_proposals_cut_least_and_none_is_for_a_handful():
    rng = np.random.default_rng(0)
    ratios = np.concatenate([rng.normal(0, 0.03, 300), rng.normal(0.45, 0.03, 300), [-1.3] * 3])
    sizes = np.stack([np.exp(ratios) * 1000, np.full(len(ratios), 1000)], 1).astype(np.int64)
    two, eight = (proposed(sizes, 64 * 64, 8, count) for count in (2, 8))
    assert {round(height / width, 1) for height, width in two} == {1.0, 1.7}  # exp(0.45) is 1.57
    assert cuts(sizes, eight).mean() < cuts(sizes, two).mean() < cuts(sizes, [(64, 64)]).mean() / 3
    held = np.bincount(nearest(sizes, eight), minlength=len(eight))
    assert held.min() >= buckets.FEWEST
    assert proposed(sizes[:300], 64 * 64, 64, 8) == [(64, 64)]  # nothing else divides
    with pytest.raises(UserError, match=r"divides by 64, as the network needs; set data\.size=64$"):
        proposed(sizes, 48 * 48, 64, 8)


def test_stated_shapes_and_ratios_are_kept_if_they_divide_and_have_the_area():
    sizes = np.array([(10, 30)] * 9 + [(10, 10)] * 4 + [(30, 10)])
    assert chosen(("3:1", (64, 64), "1:3"), sizes, (64, 64), 8) == [(40, 112), (64, 64), (112, 40)]
    assert chosen(("1:1", (40, 104)), sizes[:9], (64, 64), 8) == [(40, 104)]  # of none: left out
    for stated, reason in [(((60, 68),), "do not divide by 8"), (((64, 128),), "2 times the pixels"),
                           (((16, 16),), "0.0625 times")]:  # fmt: skip
        with pytest.raises(UserError, match=reason):
            chosen(stated, sizes, (64, 64), 8)


@pytest.mark.parametrize("counts", [(1,), (5, 3), (300, 41, 7, 1), (2, 2, 2, 2, 2)])
def test_each_bucket_has_its_share_of_any_steps(counts):
    turns, steps = Turns(counts, 3), 2 * sum(counts) + 5
    taken, before = [], Counter()
    for step in range(steps):
        bucket, turn = turns.at(step)
        assert turn == before[bucket]  # its batches come one after another
        before[bucket] += 1
        taken.append(bucket)
        for place, count in enumerate(counts):
            assert abs(before[place] - (step + 1) * count / sum(counts)) <= max(1, len(counts) - 1)
        if (step + 1) % sum(counts) == 0:
            assert [before[place] for place in range(len(counts))] == [
                (step + 1) // sum(counts) * count for count in counts
            ]
    assert [Turns(counts, 3).at(step)[0] for step in reversed(range(steps))] == taken[::-1]
    if len(counts) > 1:
        assert [Turns(counts, 4).at(step)[0] for step in range(steps)] != taken


def test_images_are_packed_in_the_bucket_of_their_ratio(folder):
    pack = opened(folder, **KEYS)
    assert shapes_of(pack) == {(12, 20): 30, (20, 12): 16, (16, 16): 14}
    assert pack.images.shape[1:3] == (12, 20)
    assert pack.trained == len(SIZES)
    for part in pack.buckets:
        shape = {(12, 20): (12, 24), (20, 12): (24, 12), (16, 16): (16, 16)}[part.images.shape[1:3]]
        for name, image, label in zip(part.names, part.images, part.given["label"], strict=True):
            number = int(name[2:5])
            assert SIZES[number] == shape
            assert (image == 4 * number).all()
            assert label == number % 2  # conditions follow their image
    again = opened(folder, **KEYS)
    assert again.fingerprint == pack.fingerprint != opened(folder, **KEYS | {"buckets": 2}).fingerprint
    assert "60 images in buckets 12x20 (30), 20x12 (16), 16x16 (14)" in pack.description()


def test_masks_follow_and_masks_of_other_classes_are_refused(tmp_path):
    for number, (height, width) in enumerate([(8, 8), (4, 16)] * 8):
        save(tmp_path / f"images/{number}.png", np.full((height, width, 3), number, np.uint8))
        mask = np.zeros((height, width), np.uint8)
        mask[:, : width // 2] = 2 if width == 8 else 1
        save(tmp_path / f"masks/{number}.png", mask)
    keys = {"size": 8, "buckets": ((8, 8), (4, 16)), "bucket_multiple": 4, "held_out": 0.0}
    with pytest.raises(UserError, match=r"masks differ in classes, those of .* state data\.mask_classes"):
        opened(tmp_path, **keys)
    stream = Stream(opened(tmp_path, **keys, mask_classes=3), 0, 4, views=Views(flip=True))
    seen = set()
    for step in range(8):
        batch = stream.batch(step, range(4))
        height, width = batch.x.shape[2:]
        seen.add((height, width))
        assert batch.given["mask"].shape == (4, 3, height, width)
        left = batch.given["mask"][:, 2 if height == 8 else 1]
        halves = left[..., : width // 2].mean((1, 2)), left[..., width // 2 :].mean((1, 2))
        assert torch.equal(halves[0] + halves[1], torch.ones(4))  # mirrored or not
        assert {*halves[0].tolist(), *halves[1].tolist()} <= {0.0, 1.0}
    assert seen == {(8, 8), (4, 16)}
    assert mask_shares(stream.pack) == pytest.approx((0.5, 0.25, 0.25))  # of all buckets


@pytest.mark.parametrize("batch", [1, 8, 12])
def test_every_image_is_seen_as_often_and_each_batch_is_of_one_shape(folder, batch):
    pack = opened(folder, **KEYS)
    stream, seen = Stream(pack, 5, batch), Counter()
    for step in range(len(SIZES)):
        part = stream.batch(step, range(batch))
        shape = {12: (12, 24), 20: (24, 12), 16: (16, 16)}[part.x.shape[2]]
        numbers = greys(part)
        assert {SIZES[number] for number in numbers} == {shape}
        seen.update(numbers)
        of = Counter({number: seen[number] for number in range(len(SIZES)) if SIZES[number] == shape})
        assert max(of.values()) - min(of.values()) <= 1
    assert set(seen.values()) == {batch}
    assert len(seen) == len(SIZES)


def test_a_step_in_buckets_is_the_same_for_any_processes_and_parts(folder):
    stream = Stream(opened(folder, **KEYS), 1, 12, views=Views(flip=True))
    for step in (0, 1, 2, 3, 10**6 + 3):
        whole = stream.parts(step)[0]
        parts = [part for rank in range(3) for part in stream.of(12).parts(step, 2, rank, 3)]
        assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
        assert torch.equal(torch.cat([part.given["label"] for part in parts]), whole.given["label"])
    assert stream.alone.batch(3, range(12)).x.shape[2:] == stream.pick(np.arange(2)).x.shape[2:] == (12, 20)


def test_what_is_left_out_or_broken_is_named_and_goes_nowhere(folder):
    (folder / "a/broken.png").write_bytes(b"no picture")
    save(folder / "b/tiny.png", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(
        UserError, match=r"1 of 61 images cannot be used: a/broken\.png .*data\.skip_bad=true"
    ):
        opened(folder, **KEYS, smallest=8)
    pack = opened(folder, **KEYS, smallest=8, skip_bad=True)
    assert sum(shapes_of(pack).values()) == len(SIZES)
    assert any("left out" in str(note) and "tiny" in str(note) for note in pack.notes)


def test_grey_buckets_are_in_colour_where_any_has_colour(tmp_path):
    for number in range(8):
        save(tmp_path / f"{number}.png", np.full((8, 8), number, np.uint8))
        save(tmp_path / f"{number}w.png", np.full((4, 16, 3), (number, 9, 9), np.uint8))
    pack = opened(tmp_path, size=8, buckets=2, bucket_multiple=4, held_out=0.0)
    assert [part.images.shape[1:] for part in pack.buckets] == [(8, 8, 3), (4, 16, 3)]
    stream = Stream(pack, 0, 4)
    assert all(stream.batch(step, range(4)).x.shape[1] == 3 for step in range(6))


def test_a_group_is_on_one_side_of_the_split_in_all_buckets(folder):
    pack = opened(folder, **KEYS | {"held_out": 0.4}, group=r"0*(\d*)\d\.png$")  # six groups of ten
    side = {}
    for part in pack.buckets:
        for held, items in ((True, part.held_out), (False, part.train)):
            for item in items.tolist():
                side.setdefault(part.names[item][2:4], set()).add(held)
    assert len(side) == 6
    assert all(len(sides) == 1 for sides in side.values())
    assert {True} in side.values()


def test_random_crops_are_of_each_bucket_and_move_with_the_step(tmp_path):
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(18, 18), (9, 36)] * 6):
        save(tmp_path / f"{number:02d}.png", rng.integers(0, 256, (height, width, 3), np.uint8))
    pack = opened(
        tmp_path, size=16, buckets=((16, 16), (8, 32)), bucket_multiple=8, crop="random", held_out=0.0
    )
    stream, places = Stream(pack, 0, 1), set()
    for step in range(24):
        image = ((stream.batch(step, range(1)).x[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
        height, width = image.shape[:2]
        part = next(part for part in pack.buckets if part.images.shape[1:3] == (height, width))
        room = np.subtract(part.whole["images"].shape[1:3], (height, width)) + 1
        places |= {
            (height, down, across) for whole in part.whole["images"] for down in range(room[0])
            for across in range(room[1])
            if np.array_equal(whole[down : down + height, across : across + width], image)
        }  # fmt: skip
    assert {height for height, *_ in places} == {16, 8}
    assert len(places) > 6


def test_weights_of_images_are_kept_across_buckets(folder):
    pack = opened(folder, **KEYS, weights={"a": 3.0, "b": 1.0})
    stream, seen = Stream(pack, 0, 8), Counter()
    for step in range(120):  # the sum of all weights
        seen.update(greys(stream.batch(step, range(8))))
    assert {seen[number] for number in range(0, 60, 2)} == {24}
    assert {seen[number] for number in range(1, 60, 2)} == {8}


def test_one_clear_line_where_buckets_cannot_be(folder):
    state = {"data.path": str(folder), "data.buckets": 3, "data.size": 16}
    with pytest.raises(
        UserError, match=r"data\.buckets: residual_generator .* is for images of one size; use"
    ):
        load("fashion-gan", state)
    with pytest.raises(UserError, match=r"data.*buckets: needs data\.size, whose area every bucket has"):
        load("openmoji", {"data.path": str(folder), "data.buckets": 3})
    with pytest.raises(UserError, match=r"balance: draws by class, data\.buckets by shape"):
        load("fashion", state | {"data.balance": [1, 1]})
    with pytest.raises(UserError, match=r"turn: a quarter turn does not fit buckets"):
        load("fashion", state | {"data.turn": "quarter"})
    with pytest.raises(UserError, match=r"data\.buckets: digits has images of one size"):
        open_data(Data(source="digits", size=16, buckets=2))
    assert load("fashion", state).data.bucket_multiple == load("fashion", state).networks["denoiser"].multiple
