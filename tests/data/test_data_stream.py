from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data.pack import Pack
from safelight.data.stream import Stream
from safelight.data.views import Views
from safelight.types import Batch

MakePack = Callable[..., Pack]
Pictures = NDArray[np.uint8]


@pytest.fixture
def pack(make_pack: MakePack, pictures: Pictures) -> Pack:
    labels = [index % 4 if index % 7 else None for index in range(len(pictures))]
    return make_pack(pictures, labels)


def joined(parts: list[Batch]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    assert [row for part in parts for row in part.rows] == list(range(parts[0].total))
    return (
        torch.cat([part.x for part in parts]),
        torch.cat([part.given["label"] for part in parts]),
        torch.cat([part.present for part in parts]),
    )


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_a_batch_is_the_same_for_any_processes_and_parts(pack: Pack, world: int, accumulate: int) -> None:
    whole, cut = (Stream(pack, 7, 48, views=Views(flip=True)) for _ in range(2))
    for step in (0, 3, 100_003):
        (whole_part,) = whole.parts(step)
        many = [part for rank in range(world) for part in cut.parts(step, accumulate, rank, world)]
        assert len(many) == world * accumulate
        for a, b in zip(joined([whole_part]), joined(many), strict=True):
            assert torch.equal(a, b)


def test_a_step_does_not_depend_on_the_steps_before(pack: Pack) -> None:
    forward, backward = (
        Stream(pack, 1, 30, views=Views(flip=True)),
        Stream(pack, 1, 30, views=Views(flip=True)),
    )
    seen = [forward.parts(step)[0].x for step in range(30)]
    for step in reversed(range(30)):
        assert torch.equal(backward.parts(step)[0].x, seen[step])


@pytest.mark.parametrize("batch_size", [16, 180, 500])
def test_every_epoch_visits_each_item_exactly_once(pack: Pack, batch_size: int) -> None:
    stream, count, epochs = Stream(pack, 0, batch_size), len(pack.train), 4
    steps = range(-(-count * epochs // batch_size))
    shown = np.concatenate([stream.items(step, range(batch_size)) for step in steps])[: count * epochs]
    orders = shown.reshape(epochs, count)
    assert (np.sort(orders, 1) == pack.train).all()
    assert len({order.tobytes() for order in orders}) == epochs


def test_pictures_labels_and_presence_belong_together(pack: Pack, pictures: Pictures) -> None:
    stream = Stream(pack, 5, 50)
    (batch,) = stream.parts(11)
    items = stream.items(11, batch.rows)
    np.testing.assert_array_equal(stream.space.to_pixels(batch.x), pictures[items])
    assert batch.x.is_contiguous()
    assert batch.given["label"].dtype == torch.int64
    assert batch.present.tolist() == [item % 7 != 0 for item in items]
    assert batch.given["label"][batch.present].tolist() == [item % 4 for item in items if item % 7]


def test_flips_mirror_about_half_the_rows_anew_each_step(pack: Pack) -> None:
    plain, flipped = Stream(pack, 2, 100), Stream(pack, 2, 100, views=Views(flip=True))
    mirrored = []
    for step in range(20):
        x, y = plain.parts(step)[0].x, flipped.parts(step)[0].x
        turned = (y != x).flatten(1).any(1)
        assert torch.equal(y, torch.where(turned[:, None, None, None], x.flip(3), x))
        mirrored.append(turned)
    rows = torch.stack(mirrored).float()
    assert 0.46 < rows.mean() < 0.54  # 2,000 fair coins: +- 3.6 sigma
    assert ((rows.mean(0) > 0) & (rows.mean(0) < 1)).all()  # not the same rows at every step


def test_seeds_give_other_orders(pack: Pack) -> None:
    assert not np.array_equal(
        Stream(pack, 0, 50).items(0, range(50)), Stream(pack, 1, 50).items(0, range(50))
    )


def test_held_out_is_fixed_unflipped_and_never_trained_on(pack: Pack, pictures: Pictures) -> None:
    stream, other = Stream(pack, 0, 50, views=Views(flip=True)), Stream(pack, 9, 20)
    every = stream.held_out(10_000)
    assert len(every.x) == every.total == stream.held_out_count == len(pack.held_out)
    np.testing.assert_array_equal(stream.space.to_pixels(every.x), pictures[pack.held_out])
    assert torch.equal(other.held_out(4, offset=3).x, every.x[3:7])
    trained = {stream.items(step, range(50)).tobytes() for step in range(20)}
    assert not set(np.frombuffer(b"".join(trained), np.int64)) & set(pack.held_out)
    with pytest.raises(UserError, match=r"none from number 10000 on.*data\.held_out"):
        stream.held_out(1, offset=10_000)


def test_pick_gives_what_is_asked_for(pack: Pack, pictures: Pictures) -> None:
    stream = Stream(pack, 0, 50, views=Views(flip=True))
    np.testing.assert_array_equal(
        stream.space.to_pixels(stream.pick(np.array([5, 3, 5])).x), pictures[[5, 3, 5]]
    )


def test_counting(pack: Pack) -> None:
    assert Stream(pack, 0, 50).images_seen(12) == 600


def test_a_batch_that_does_not_divide_names_the_nearest_that_do(pack: Pack) -> None:
    with pytest.raises(UserError, match=r"batch size 100: .*3 process\(es\) x 2 .*: 96, 102"):
        Stream(pack, 0, 100).parts(0, accumulate=2, rank=0, world=3)
    with pytest.raises(UserError, match=r"nearest that do: 6$"):
        Stream(pack, 0, 4).parts(0, accumulate=2, rank=0, world=3)


def test_nothing_to_train_on_is_refused(make_pack: MakePack, pictures: Pictures) -> None:
    with pytest.raises(UserError, match="no image to train on"):
        Stream(make_pack(pictures, sides=[True] * 200), 0, 8)


def test_a_pack_without_labels_has_no_condition(make_pack: MakePack, pictures: Pictures) -> None:
    (batch,) = Stream(make_pack(pictures), 0, 8).parts(0)
    assert dict(batch.given) == {}
    assert not batch.present.any()
