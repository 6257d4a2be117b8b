from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.pack import Pack
from safelight.data.tree import open_tree

ORIENTATION = 0x0112


def gradient(height: int = 12, width: int = 8) -> NDArray[np.uint8]:
    """A picture that no turn or mirror leaves as it is."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 / height, columns * 255 / width, rows * 0], -1).astype(np.uint8)


def save(path: Path, pixels: NDArray[np.uint8] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:  # a colour of its own, by name
        pixels = np.full((8, 8, 3), [sum(map(ord, path.name)) % 256, len(str(path)) % 256, 40], np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def opened(path: Path, **keys: object) -> Pack:
    return open_data(Data.model_validate({"path": str(path), **keys}))


def only(path: Path, **keys: object) -> NDArray[np.uint8]:
    """The one picture of a folder."""
    pack = opened(path, **keys)
    assert len(pack) == 1
    return np.asarray(pack.images[0])


def test_subfolders_are_classes_and_deeper_ones_are_not(tmp_path: Path) -> None:
    for name in ("cats/a.png", "cats/2020/b.png", "dogs/a.PNG", "dogs/notes.txt", "dogs/.hidden.png"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            save(tmp_path / name)
    pack = opened(tmp_path)
    assert pack.names == ["cats/2020/b.png", "cats/a.png", "dogs/a.PNG"]
    assert pack.given["label"].tolist() == [0, 0, 1]
    assert pack.spec.conditions["label"].names == ("cats", "dogs")
    assert pack.present.all()


@pytest.mark.parametrize("names", [("a.png", "b.png"), ("all/a.png", "all/b.png")])
def test_one_folder_is_no_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        save(tmp_path / name)
    pack = opened(tmp_path)
    assert pack.spec.classes == 0
    assert not pack.present.any()


def test_an_image_beside_the_classes_has_none(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "stray.png"):
        save(tmp_path / name)
    pack = opened(tmp_path)
    assert pack.names == ["a/1.png", "b/1.png", "stray.png"]
    assert pack.present.tolist() == [True, True, False]


def test_train_and_test_folders_are_the_split(tmp_path: Path) -> None:
    for name in ("Train/a/1.png", "Train/b/2.png", "Train/b/3.png", "test/a/4.png", "val/b/5.png"):
        save(tmp_path / name)
    pack = opened(tmp_path)
    assert sorted(pack.names[item] for item in pack.held_out) == ["test/a/4.png", "val/b/5.png"]
    assert pack.spec.conditions["label"].names == ("a", "b")
    save(tmp_path / "loose.png")  # now they are names like any other
    assert opened(tmp_path).spec.conditions["label"].names == ("Train", "test", "val")


def test_links_within_the_folder_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "b" / "2.png")
    (tmp_path / "photos" / "a").symlink_to(tmp_path / "photos" / "b")
    (tmp_path / "photos" / "b" / "up").symlink_to(tmp_path / "photos")
    assert opened(tmp_path / "photos").names == ["a/2.png", "b/2.png"]
    (tmp_path / "album").symlink_to(tmp_path / "photos")  # the folder asked for may be a link itself
    assert opened(tmp_path / "album").names == ["a/2.png", "b/2.png"]


def test_links_out_of_the_folder_are_bad_files_unless_the_recipe_follows_them(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "1.png")
    save(tmp_path / "photos-of-others" / "3.png")  # its name begins like the folder's, it lies beside it
    save(tmp_path / "photos" / "b" / "2.png")
    (tmp_path / "photos" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "b" / "3.png").symlink_to(tmp_path / "photos-of-others" / "3.png")
    (tmp_path / "photos" / "b" / "gone.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "photos" / "b" / "notes.txt").symlink_to("/etc/passwd")  # no image: no matter
    with pytest.raises(
        UserError, match=r"3 of 4 images cannot be used: a \(a link out .*b/gone\.png \(a link to n"
    ):
        opened(tmp_path / "photos")
    pack = opened(tmp_path / "photos", skip_bad=True)
    assert pack.names == ["b/2.png"]
    assert len(pack.bad) == 3
    (tmp_path / "photos" / "b" / "gone.png").unlink()
    assert opened(tmp_path / "photos", follow_links=True).names == ["a/1.png", "b/2.png", "b/3.png"]


def test_what_systems_and_safelight_leave_in_a_folder_is_not_data(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("cat/1.png", "dog/2.png"):
        save(photos / name)
    before = opened(photos)
    for name in ("@eaDir", "cat/@eaDir", "__MACOSX/cat", "lost+found", "runs/a/sheets", "old/b/report"):
        save(photos / name / "x.png")
    for run in ("runs/a", "old/b"):
        for file in ("run.json", "journal.jsonl"):
            (photos / run / file).touch()
    save(photos / "photos-data.png")
    (photos / "Thumbs.db").touch()
    after = opened(photos)
    assert after.names == before.names == ["cat/1.png", "dog/2.png"]
    assert after.fingerprint == before.fingerprint
    assert after.folder == before.folder  # so that a run begun there resumes, and nothing is decoded again
    assert opened(photos / "runs" / "a" / "sheets").names == ["x.png"]  # where it is meant, it is


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_rotation_comes_out_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(gradient())
    turn = Image.Transpose
    stored = {  # what a camera held that way stores: the inverse of how it is to be shown
        1: upright,
        2: upright.transpose(turn.FLIP_LEFT_RIGHT),
        3: upright.transpose(turn.ROTATE_180),
        4: upright.transpose(turn.FLIP_TOP_BOTTOM),
        5: upright.transpose(turn.TRANSPOSE),
        6: upright.transpose(turn.ROTATE_90),
        7: upright.transpose(turn.TRANSVERSE),
        8: upright.transpose(turn.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(only(tmp_path), gradient())  # its own size, so looked at upright too


def test_modes_become_eight_bits(tmp_path: Path) -> None:
    grey = np.array([[0, 51, 255], [102, 204, 1]], np.uint8)
    made = {
        "sixteen.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "sixteen.tif": Image.fromarray(grey.astype(np.uint16) * 257),
        "thirty-two.tif": Image.fromarray(grey.astype(np.int32) * 257),
        "plain.png": Image.fromarray(grey),
        "alpha.png": Image.merge("LA", [Image.fromarray(grey), Image.new("L", (3, 2), 255)]),
    }
    for name, image in made.items():
        image.save(tmp_path / name)
    pack = opened(tmp_path)
    assert pack.spec.shape == (1, 2, 3)
    for image in np.asarray(pack.images):
        np.testing.assert_array_equal(image[..., 0], grey)


def test_colour_modes_become_rgb(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 0, 255]], [[0, 255, 0], [255, 255, 255]]], np.uint8)
    image = Image.fromarray(colours)
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    image.save(tmp_path / "plain.png")
    image.convert("CMYK").save(tmp_path / "print.tif")
    image.convert("RGBA").save(tmp_path / "opaque.png")
    pack = opened(tmp_path)
    assert len(pack) == 4
    for pixels in np.asarray(pack.images):
        np.testing.assert_array_equal(pixels, colours)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (only(tmp_path) == 255).all()


def test_the_crop_is_about_the_centre_and_the_resize_averages(tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = np.where(np.indices((40, 40)).sum(0)[..., None] % 2, 200, 100)  # a fine chequer
    save(tmp_path / "wide.png", pixels)
    small = only(tmp_path, size=10).astype(int)
    assert small.shape == (10, 10, 3)
    assert np.abs(small[1:-1, 1:-1] - 150).max() <= 2  # neither aliased nor from outside the crop
    assert only(tmp_path, size=(10, 20)).shape == (10, 20, 3)
    assert only(tmp_path, size=(10, 20), channels=1).shape == (10, 20, 1)


def test_a_jpeg_decoded_small_is_the_jpeg_resized(tmp_path: Path) -> None:
    picture = Image.fromarray(gradient(512, 768)).convert("RGB")
    picture.save(tmp_path / "photo.jpg", quality=95)
    want = np.asarray(picture.crop((128, 0, 640, 512)).resize((32, 32), Image.Resampling.BOX), int)
    assert np.abs(only(tmp_path, size=32).astype(int) - want).max() <= 6


def test_bad_files_are_named_and_refused_or_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        save(tmp_path / name)
    whole = save(tmp_path / "b.png", gradient(64, 64)).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.png").write_text("<html>")
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(
        UserError, match=r"4 of 6 images cannot be used: b\.png \(.*data\.skip_bad=true"
    ) as error:
        opened(tmp_path, size=8)
    for name in ("empty.jpg (not an image)", "page.png (not an image)", "float.tif (floating-point"):
        assert name in str(error.value)
    pack = opened(tmp_path, size=8, skip_bad=True)
    assert pack.names == ["a.png", "c.png"]
    assert len(pack) == 2
    assert [bad.split()[0] for bad in pack.bad] == ["b.png", "empty.jpg", "float.tif", "page.png"]
    with pytest.raises(UserError, match="4 of 6"):  # leaving them out is not remembered as agreed
        opened(tmp_path, size=8)


def test_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.path: .* does not exist"):
        opened(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"^data\.path: .* holds no image"):
        opened(tmp_path)
    (tmp_path / "broken.png").touch()
    with pytest.raises(UserError, match="can be decoded"):
        opened(tmp_path, skip_bad=True)
    with pytest.raises(UserError, match=r"can be decoded: broken\.png \(not an image\)"):
        opened(tmp_path, size=8, channels=3, skip_bad=True)


def test_without_a_size_images_must_agree(tmp_path: Path) -> None:
    save(tmp_path / "a.png", gradient(12, 8))
    save(tmp_path / "b.png", gradient(12, 9))
    with pytest.raises(
        UserError, match=r"^data\.size: .*a\.png is 12x8 .*b\.png is 12x9; for example data\.size=8"
    ):
        opened(tmp_path)


def test_a_file_the_disk_does_not_give_is_no_bad_image(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    late = save(tmp_path / "b.png")

    def remove(what: str, done: int, total: int) -> None:
        late.unlink(missing_ok=True)

    with pytest.raises(UserError, match=r"b\.png: cannot be read \(No such file or directory\)"):
        open_data(Data(path=str(tmp_path), size=8, channels=3, skip_bad=True), remove)


def test_a_moved_folder_and_renamed_files_keep_the_fingerprint(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "one" / name)
    before = opened(tmp_path / "one").fingerprint
    shutil.move(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / "b.png").rename(tmp_path / "two" / "z.png")
    assert opened(tmp_path / "two").fingerprint == before


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    before = opened(tmp_path)
    pixels = np.array(Image.open(path))
    pixels[0, 0, 0] ^= 1
    save(path, pixels)
    os.utime(path, ns=(1, 1))
    after = opened(tmp_path)
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(after.images[0], pixels)


def test_every_choice_of_the_recipe_has_its_own_pack(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        save(tmp_path / name)
    made = [opened(tmp_path, **keys) for keys in ({}, {"size": 4}, {"channels": 1}, {"labels": False}, {})]
    assert [pack.spec.shape for pack in made] == [(3, 8, 8), (3, 4, 4), (1, 8, 8), (3, 8, 8), (3, 8, 8)]
    assert [pack.spec.classes for pack in made] == [2, 2, 2, 0, 2]
    assert made[-1].folder == made[0].folder


def test_the_whole_disk_is_no_data():
    with pytest.raises(UserError, match=r"^data\.path: / is the whole disk; give the folder"):
        open_tree("/", follow_links=False)
