"""Latents: cached once, in every view, and mapped back by exactly what mapped them there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.encoded import describe, measured, open_latents, space_of
from safelight.data.pack import Pack
from safelight.data.space import Codec, Space
from safelight.data.stream import Stream
from safelight.data.views import STRAIGHT, View, Views, views_of

N, H, W = 150, 8, 8
CPU = torch.device("cpu")
IDS = np.random.default_rng(3).integers(0, 3, (N, H, W)).astype(np.uint8)
EVERY = Views(True, 4).all


def _encode(x: Tensor) -> tuple[Tensor, Tensor]:
    """Lossless, 2x2 pixels into channels, and a deviation that says where it came from."""
    mean = 3 * F.pixel_unshuffle(x, 2) + 1
    return mean, mean.abs() / 8


def codec(digest: str = "one") -> Codec:
    return Codec("unshuffle", digest, 12, 2, _encode, lambda z: F.pixel_shuffle((z - 1) / 3, 2))


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Images whose pixels tell their mask: grey level 50 * id + 100."""
    images = np.repeat((50 * IDS + 100)[..., None], 3, 3).astype(np.uint8)
    np.savez(tmp_path / "all.npz", images=images, mask=IDS)
    return open_data(Data.model_validate({"path": str(tmp_path / "all.npz"), "held_out": 0.2}))


def test_encode_scale_invert_decode_is_the_identity(pack):
    for shift, scale in (("measured", "measured"), (0.0, 0.18215), (0.5, 0.02), ("measured", 0.18215)):
        latents = open_latents(pack, codec(), (STRAIGHT,), CPU)
        space = space_of(pack, latents, codec(), shift, scale)
        pixels = torch.from_numpy(np.array(pack.images))
        np.testing.assert_array_equal(space.to_pixels(space.from_pixels(pixels)), pixels.numpy())
        assert space.shape(pack.spec.shape) == (12, 4, 4)
        stream = Stream(pack, 0, 10, space=space, latents=(latents,))
        shown = stream.space.to_pixels(stream.held_out(5).x)  # bfloat16 has 8 bits: a grey level or two
        assert np.abs(shown.astype(int) - pack.images[pack.held_out[:5]]).max() <= 2


def test_a_latent_that_is_not_mapped_back_would_be_noticed(pack):
    """The fault of the first skin model: mapped by 2 x - 1 for training, decoded as it is."""
    space = Space(codec(), (0.5,) * 12, (2.0,) * 12)
    x = space.from_pixels(torch.from_numpy(np.array(pack.images[:4])))
    wrong = replace(space, shift=(0.0,) * 12, scale=(1.0,) * 12)
    assert np.abs(wrong.to_pixels(x).astype(int) - pack.images[:4]).mean() > 20


def test_measured_latents_have_mean_0_and_deviation_1(pack):
    latents = open_latents(pack, codec(), (STRAIGHT,), CPU)
    space = space_of(pack, latents, codec(), "measured", "measured")
    stream = Stream(pack, 0, len(pack.train), space=space, latents=(latents,))
    x = torch.cat([stream.batch(step, range(len(pack.train))).x for step in range(8)])
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(12), atol=0.02, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(12), atol=0.02, rtol=0)
    mean, _ = measured(pack, latents)
    posterior = _encode(Space().from_pixels(torch.from_numpy(np.array(pack.images[pack.train]))))
    torch.testing.assert_close(torch.tensor(mean), posterior[0].mean((0, 2, 3)), atol=1e-2, rtol=0)
    assert "0.18215" in describe(space)
    assert f"{space.scale[0]:.4g}" in describe(space)


def test_a_draw_is_from_the_posterior_and_keyed(pack):
    latents = open_latents(pack, codec(), (STRAIGHT,), CPU)
    space = space_of(pack, latents, codec(), 0.0, 1.0)
    stream = Stream(pack, 5, 20, space=space, latents=(latents,))
    mean, std = latents.moments(stream.items(3, range(20)), np.zeros(20, int))
    ε = (stream.batch(3, range(20)).x - mean) / std
    assert abs(float(ε.mean())) < 0.06
    assert abs(float(ε.std()) - 1) < 0.06
    torch.testing.assert_close(stream.batch(3, range(4, 9)).x, stream.batch(3, range(20)).x[4:9])
    assert not torch.equal(stream.batch(3, range(20)).x, Stream(pack, 6, 20, space=space, latents=(latents,))
                           .batch(3, range(20)).x)  # fmt: skip


@pytest.mark.parametrize("latent", [False, True])
def test_an_image_and_its_mask_are_seen_in_the_same_view(pack, latent):
    """The pixels tell the mask, in every one of the eight views."""
    views = Views(True, 4)
    stream = Stream(pack, 1, 64, views=views)
    if latent:
        latents = open_latents(pack, codec(), views.all, CPU)
        space = space_of(pack, latents, codec(), "measured", "measured")
        stream = Stream(pack, 1, 64, views=views, space=space, latents=(latents,))
        means = replace(latents, rows=tuple(_without_spread(rows) for rows in latents.rows))
        stream.latents = means
    batch = stream.batch(0, range(64))
    pixels = torch.from_numpy(stream.space.to_pixels(batch.x)[..., 0]).float()
    shares = batch.given["mask"]
    told_level = (torch.tensor([100.0, 150.0, 200.0])[:, None, None] * shares).sum(1)
    if latent:
        assert shares.shape == (64, 3, 4, 4)
        pixels = F.avg_pool2d(pixels[:, None], 2)[:, 0]
    torch.testing.assert_close(pixels, told_level, atol=2, rtol=0)
    items = stream.items(0, range(64))
    turned = [
        (pixels_of(pack, item, latent) - told_level[row]).abs().max() > 3 for row, item in enumerate(items)
    ]
    assert 0.7 < np.mean(turned) < 0.99  # 7 of 8 views are not the straight one


def pixels_of(pack: Pack, item: int, latent: bool) -> Tensor:
    grey = torch.from_numpy(np.array(pack.images[item, ..., 0])).float()
    return F.avg_pool2d(grey[None, None], 2)[0, 0] if latent else grey


def _without_spread(rows: np.ndarray) -> np.ndarray:
    means = np.array(rows)
    means[:, 1] = 0
    return means


def test_views_are_the_symmetries_of_a_square():
    x = torch.arange(16).reshape(1, 4, 4)
    seen = {tuple(view.of(x, 1, 2).flatten().tolist()) for view in EVERY}
    assert len(seen) == 8
    torch.testing.assert_close(View(False, 1).of(x, 1, 2)[0], torch.rot90(x[0]))
    assert views_of(Data(flip=True, turn="half"), 4, 8).all == Views(True, 2).all
    assert len(Views(True, 2).all) == 4
    with pytest.raises(UserError, match=r"data\.turn: a quarter turn of 4x8 does not fit"):
        views_of(Data(turn="quarter"), 4, 8)


def test_latents_are_encoded_once_and_go_on_where_they_stopped(pack, monkeypatch):
    calls: list[int] = []

    def counting(x: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(x))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return _encode(x)

    watched = replace(codec(), encode=counting)
    with pytest.raises(KeyboardInterrupt):
        open_latents(pack, watched, EVERY[:2], CPU)
    first = calls[0]
    open_latents(pack, watched, EVERY[:2], CPU)
    assert sum(calls) == 2 * len(pack) + calls[1]  # only the block that failed is encoded twice
    assert first == 64
    calls.clear()
    again = open_latents(pack, watched, EVERY[:2], CPU)
    assert calls == []
    straight = open_latents(pack, codec("two"), EVERY[:2], CPU)
    np.testing.assert_array_equal(straight.rows[1], again.rows[1])


def test_another_encoder_makes_other_latents(pack):
    straight = open_latents(pack, codec(), (STRAIGHT,), CPU)
    other = open_latents(
        pack, replace(codec("other"), encode=lambda x: (-_encode(x)[0], _encode(x)[1])), (STRAIGHT,), CPU
    )
    assert not np.array_equal(straight.rows[0], other.rows[0])


def test_what_does_not_fit_is_told(pack):
    with pytest.raises(UserError, match=r"data.size: 8x8 images do not divide by 3, as unshuffle needs"):
        open_latents(pack, replace(codec(), factor=3), (STRAIGHT,), CPU)
    latents = open_latents(pack, codec(), (STRAIGHT,), CPU)
    with pytest.raises(UserError, match=r"data.latents.scale: states 2 numbers, but .* have 12 channels"):
        space_of(pack, latents, codec(), 0.0, (1.0, 2.0))
