"""How pictures of other sizes come to data.size, what is said of it, and their colours."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from data.files import opened, save
from safelight.checks.mirrored import difference_hashes, near_pairs
from safelight.config import UserError, check
from safelight.data import find_source
from safelight.data.config import Data
from safelight.data.fitting import Fitting, to_srgb
from safelight.data.inspection import inspect
from safelight.data.space import Space
from safelight.data.stream import Stream
from safelight.data.views import Views

BLUE = (0, 0, 255)
WIDE = np.zeros((8, 16, 3), np.uint8)  # its left half black, its right half red
WIDE[:, 8:, 0] = 255


@pytest.fixture
def wide(tmp_path):
    save(tmp_path / "d/wide.png", WIDE)
    save(tmp_path / "d/small.png", np.full((4, 4, 3), 200, np.uint8))
    return tmp_path / "d"


def picture(folder, name, **keys):
    pack = opened(folder, **keys)
    return pack.images[pack.names.index(name)]


def test_each_way_to_fit_keeps_what_it_says(wide):
    crop = picture(wide, "wide.png", size=8)
    np.testing.assert_array_equal(crop, WIDE[:, 4:12])
    contain = picture(wide, "wide.png", size=16, fit="contain", background="blue")
    np.testing.assert_array_equal(contain[4:12], WIDE)
    assert (contain[[0, 3, 12, 15]] == BLUE).all()
    pad = picture(wide, "small.png", size=16, fit="pad", background="blue")
    assert (pad[6:10, 6:10] == 200).all()
    assert (pad == BLUE).all(-1).sum() == 16 * 16 - 16
    stretch = picture(wide, "wide.png", size=8, fit="stretch")
    assert (stretch[:, :3] < 4).all()
    assert (stretch[:, 5:, 0] > 251).all()


@pytest.mark.parametrize("place", ["top", "entropy"])
def test_a_crop_lies_where_it_is_stated_and_its_mask_with_it(tmp_path, place):
    high = np.zeros((32, 8, 3), np.uint8)
    high[:8] = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    mask = np.zeros((32, 8), np.uint8)
    mask[:8] = 1
    save(tmp_path / "images/a.png", high)
    save(tmp_path / "masks/a.png", mask)
    pack = opened(tmp_path, size=8, crop=place)
    np.testing.assert_array_equal(pack.images[0], high[:8])
    assert (pack.given["mask"][0] == 1).all()
    assert not opened(tmp_path, size=8).images.any()


def test_what_is_cut_enlarged_and_left_out_is_said(wide):
    notes = {note.kind: note for note in opened(wide, size=8).notes}
    cut, grown = notes["image of which the crop to 8x8 cuts more than 10%"], notes["image enlarged to 8x8"]
    assert (cut.count, cut.example) == (1, "wide.png (50%)")
    assert (grown.count, grown.example) == (1, "small.png (2 times)")
    pack = opened(wide, size=8, smallest=8)
    assert pack.names == ["wide.png"]
    assert pack.bad == ()
    assert any(str(note).startswith("image left out: 1, such as small.png") for note in pack.notes)
    with pytest.raises(UserError, match=r"data\.smallest: leaves out every image"):
        opened(wide, size=8, smallest=99)


def test_inspect_says_what_each_choice_would_do(wide):
    facts = inspect(Data(path=str(wide), size=8)).facts()
    json.dumps(facts)
    ways = facts["fit"]["ways"]
    assert ways["crop"]["most_cut"] == 0.5
    assert ways["crop"]["most_enlarged_is"] == "small.png"
    assert ways["contain"]["padded"] == 0.25  # the half of one of two
    assert ways["pad"]["padded"] == (0.5 + 0.75) / 2
    assert (facts["fit"]["median"], ways["pad"]["enlarged"]) == (6, 0)


def test_effect_in_closed_form():
    assert Fitting().effect(20, 2000, (256, 256)) == (0.99, 0.0, 12.8)
    assert Fitting("contain").effect(20, 2000, (256, 256))[1:] == (0.99, 0.128)


def test_a_profile_is_converted_to_srgb_and_srgb_left_alone():
    image = Image.new("RGB", (4, 4), (100, 150, 200))
    assert to_srgb(image) is image
    image.info["icc_profile"] = b"broken"
    assert to_srgb(image) is image
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert to_srgb(image) is image
    lab = ImageCms.createProfile("XYZ")
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(lab).tobytes()
    assert to_srgb(image).size == (4, 4)


def test_white_and_background_are_as_stated(tmp_path):
    Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(tmp_path / "deep.png")
    assert (opened(tmp_path, white=4095).images == 255).all()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (picture(tmp_path, "clear.png", mask="none", background="#0000ff") == BLUE).all()


def test_near_copies_have_near_hashes():
    rng = np.random.default_rng(1)
    images = np.stack([np.asarray(Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((32, 32)))
                       for _ in range(20)])  # fmt: skip
    near = np.clip(images[:1].astype(int) + rng.integers(-2, 3, images[:1].shape), 0, 255).astype(np.uint8)
    flat = np.full((2, 32, 32, 3), 9, np.uint8)
    assert near_pairs(difference_hashes(np.concatenate([images, near, flat]))).tolist() == [[0, 20]]


def flipped(tmp_path, captions, **keys):
    from types import SimpleNamespace

    from safelight.checks import mirrored
    from safelight.data.stream import Stream
    from safelight.data.views import Views

    rng = np.random.default_rng(0)
    for number, _ in enumerate(captions):
        save(tmp_path / f"{number}.png", rng.integers(0, 256, (8, 8, 3), np.uint8))
        (tmp_path / f"{number}.txt").write_text(captions[number])
    pack = opened(tmp_path, held_out=0, **keys)
    streams = {flip: Stream(pack, 0, 1, views=Views(flip=flip)) for flip in (True, False)}
    return {
        flip: {finding.code: finding for finding in mirrored.check(SimpleNamespace(
            pack=pack, streams=lambda rows, flip=flip: streams[flip]))} for flip in streams
    }  # fmt: skip


def test_mirroring_is_held_against_captions_that_say_left_or_right(tmp_path):
    counts = flipped(tmp_path, ["a cat left of a dog", "All right now: a cat", "a cat", "RIGHT of it"])
    assert "2 of 4 captions say left or right" in counts[True]["flip-against-captions"].measured
    assert "flip-against-captions" not in counts[False]
    assert "few-images" in counts[False]


def test_random_crops_are_a_function_of_seed_step_and_row_and_all_else_sees_the_centre(tmp_path):
    folder = tmp_path / "photos"
    for name, kind in (("images", (40, 50, 3)), ("masks", (40, 50))):
        for item in range(6):
            noise = np.random.default_rng(item).integers(0, 256, kind, np.uint8)
            picture = noise if name == "images" else (noise[..., None] % 3)[..., 0]
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / name / f"{item}.png")
    pack = opened(folder, size=[16, 24], crop="random", held_out=0.2)
    kept = opened(folder, size=[18, 27], held_out=0.2)  # an eighth larger
    for name, whole, centre in (
        ("images", kept.images, pack.images), ("mask", kept.given["mask"], pack.given["mask"])
    ):  # fmt: skip
        np.testing.assert_array_equal(pack.whole[name], whole)
        np.testing.assert_array_equal(centre, whole[:, 1:17, 1:25])
    assert pack.spec.shape == (3, 16, 24)
    assert pack.fingerprint != kept.fingerprint
    assert "16x24 out of 18x27, at random" in pack.description()
    stream = Stream(pack, 7, 4)
    corners = set()
    for step in range(60):
        batch = stream.batch(step, range(4))
        for row, item in enumerate(stream.items(step, range(4))):
            pixels = Space().to_pixels(batch.x[row : row + 1])[0]
            (corner,) = [(d, a) for d in range(3) for a in range(4)
                         if np.array_equal(kept.images[item][d : d + 16, a : a + 24], pixels)]  # fmt: skip
            corners.add(corner)
            mask = kept.given["mask"][item][corner[0] : corner[0] + 16, corner[1] : corner[1] + 24]
            np.testing.assert_array_equal(batch.given["mask"][row].argmax(0), mask)
    assert corners == {(d, a) for d in range(3) for a in range(4)}
    again = Stream(pack, 7, 4).parts(31, accumulate=2)
    torch.testing.assert_close(
        torch.cat([part.x for part in again]), stream.batch(31, range(4)).x, rtol=0, atol=0
    )
    held = Space().to_pixels(stream.held_out(9).x)
    np.testing.assert_array_equal(held, pack.images[pack.held_out])
    mirrored = Stream(pack, 7, 4, views=Views(flip=True)).batch(31, range(4)).x
    plain = stream.batch(31, range(4)).x
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(2)) for a, b in zip(mirrored, plain, strict=True))
    for keys, message in (
        ({"size": None}, "needs data.size"),
        ({"fit": "pad"}, "needs data.size, and data.fit"),
        ({"latents": {"autoencoder": "run:a"}}, "latents are encoded once"),
    ):
        with pytest.raises(UserError, match=message):
            check(Data, {"path": str(folder), "size": 8, "crop": "random", **keys}, "data")
    with pytest.raises(UserError, match=r"^data\.crop: .*not for digits"):
        find_source(check(Data, {"crop": "random", "size": 8}, "data"))
