"""Which items count: rows keep their places, and nothing of what is left out is seen."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from safelight.config import UserError
from safelight.data.config import Data
from safelight.data.edits import EditedStream, Items, pinned
from safelight.data.pack import load
from safelight.data.stream import Stream
from safelight.data.views import Views

LABELS = [index % 4 if index % 7 else None for index in range(200)]


@pytest.fixture
def pack(make_pack, pictures):
    return make_pack(pictures, LABELS)


def data(pack, **edits) -> Data:
    stated = pinned({f"data.{key}": value for key, value in edits.items()}, Data(), pack)
    return Data(**{key.removeprefix("data."): value for key, value in stated.items()})


def test_rows_keep_their_places_and_the_left_out_ones_count_for_nothing(pack):
    stream = Stream(pack, 3, 24, views=Views(flip=True))
    step = next(step for step in range(20) if 50 in stream.items(step, range(24)))
    edited = EditedStream(stream, lambda at: data(pack, without=["0050"] if at >= step else []))
    (before,), (after,) = stream.parts(step), edited.parts(step)
    gone = stream.items(step, range(24)) == 50
    assert gone.sum() == 1
    kept = torch.from_numpy(~gone)
    assert torch.equal(before.x[kept], after.x[kept])
    assert torch.equal(before.given["label"][kept], after.given["label"][kept])
    assert not torch.equal(before.x[~kept], after.x[~kept])  # another picture stands in
    assert torch.equal(after.weight, kept * np.float32(24 / 23))
    assert edited.parts(step - 1)[0].weight is None  # not in force yet


def test_weights_by_class_are_one_in_the_mean_and_the_same_for_any_processes(pack):
    stream = EditedStream(Stream(pack, 3, 24), lambda at: data(pack, weight={"b": 0.5, "label=c": 2}))
    (whole,) = stream.parts(5)
    labels = np.array(
        [-1 if LABELS[item] is None else LABELS[item] for item in stream.at(5).items(5, range(24))]
    )
    weights = np.select([labels == 1, labels == 2], [0.5, 2.0], 1.0)
    assert np.allclose(whole.weight, weights * 24 / weights.sum())
    parts = [part for rank in range(2) for part in stream.parts(5, 3, rank, 2)]
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
    assert all(torch.equal(part.weight, whole.weight) for part in parts)


def test_a_batch_of_nothing_that_counts_has_no_loss(pack):
    stream = Stream(pack, 3, 2)
    edits = data(pack, without=[f"{item:04d}" for item in stream.items(0, range(2))])
    (part,) = EditedStream(stream, lambda at: edits).parts(0)
    assert part.weight.tolist() == [0, 0]


def test_items_are_known_by_their_pixels_when_they_are_renamed(pack, tmp_path):
    edits = data(pack, without=["0050", "label=a"])
    names = [f"new/{name}.png" for name in pack.names]
    (pack.folder / "names.json").write_text(json.dumps(names))
    renamed = load(pack.folder, 0.1)
    (before,), (after,) = Items(pack).weights(edits), Items(renamed).weights(edits)
    assert np.array_equal(before, after)
    assert set(np.flatnonzero(before == 0)) == {
        50, *(item for item in pack.train if LABELS[item] == 0)}  # fmt: skip
    pixels = np.load(pack.folder / "digests.npy")
    pixels[50] = 0
    np.save(pack.folder / "digests.npy", pixels)
    with pytest.raises(UserError, match="no image has the pixels of 0050@"):
        Items(load(pack.folder, 0.1)).weights(edits)


def test_many_items_are_ranges_of_numbers_with_a_digest(pack):
    names = [f"{item:04d}" for item in pack.train if item < 150]
    edits = data(pack, without=names)
    (text,) = edits.without
    assert text.startswith("numbers=")
    assert "@" in text
    (weights,) = Items(pack).weights(edits)
    assert np.array_equal(np.flatnonzero(weights == 0), pack.train[pack.train < 150])
    assert pinned({"data.without": [text]}, Data(), pack) == {"data.without": [text]}
    with pytest.raises(UserError, match="are others now"):
        Items(pack).weights(replace_text(edits, text[:-1] + ("0" if text[-1] != "0" else "1")))


def replace_text(edits: Data, text: str) -> Data:
    return edits.model_copy(update={"without": (text,)})


def test_one_weight_is_changed_and_the_others_stay(pack):
    now = data(pack, weight={"b": 0.5})
    changes = pinned({"data.weight.0050": 3, "optim.lr": 1}, now, pack)
    assert list(changes["data.weight"]) == ["label=b", f"0050@{Items(pack).hash_of(50)}"]
    assert changes["optim.lr"] == 1


def test_what_is_not_there_is_refused_in_one_line(pack):
    held = f"{pack.held_out[0]:04d}"
    for edits, line in [
        ({"without": ["005O"]}, r"has no image and no class '005O' \(did you mean '0"),
        ({"without": [held]}, rf"{held}: is not trained on, but held out"),
        ({"weight": 0.5}, "data.weight: expected such as"),
        ({"without": ["numbers=0-999"]}, "has the images 0 to 199"),
    ]:
        with pytest.raises(UserError, match=line):
            data(pack, **edits)
    nothing = data(pack, without=[pack.names[item] for item in pack.train])
    with pytest.raises(UserError, match="leaves no image"):
        Items(pack).weights(nothing)


def test_in_buckets_each_part_has_its_weights(make_pack, pictures):
    whole = make_pack(pictures)
    first, second = make_pack(pictures[:120]), make_pack(pictures[120:, :5, :, :])
    names = [f"{item:04d}" for item in range(120, 200)]
    second.__dict__["names"] = names
    both = replace(first, buckets=(first, second))
    item = int(second.train[3])
    weights = Items(both).weights(data(both, without=[names[item]]))
    assert [len(part) for part in weights] == [120, 80]
    assert np.flatnonzero(weights[1] == 0).tolist() == [item]
    assert weights[0].all()
    stream = Stream(both, 3, 8).weighed(weights)
    counted = [part for step in range(40) for part in stream.parts(step)]
    assert any((part.weight == 0).any() for part in counted if part.x.shape[2] == 5)
    assert all((part.weight == 1).all() for part in counted if part.x.shape[2] == 6)
    assert whole.trained == Stream(whole, 3, 8).pack.trained
