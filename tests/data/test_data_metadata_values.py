"""Masks and attributes that metadata name: what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files import opened, save
from safelight.config import UserError, check
from safelight.data import find_source
from safelight.data.config import Data


def test_masks_are_cropped_with_their_images_and_not_blurred(tmp_path: Path) -> None:
    """A mask that paints the same picture as its image stays the same picture, resized."""
    ids = np.zeros((40, 80), np.uint8)
    ids[10:30, 30:50] = 2
    save(tmp_path / "a.png", np.repeat((ids * 100)[..., None], 3, -1))
    save(tmp_path / "m.png", ids)
    half = ids[::2, ::2]  # of half the size: the same shape
    save(tmp_path / "b.png", np.repeat((ids * 100)[..., None], 3, -1))
    save(tmp_path / "h.png", half)
    (tmp_path / "metadata.csv").write_text("file_name,mask\na.png,m.png\nb.png,h.png\n")
    pack = opened(tmp_path, size=20)
    for image, mask in zip(np.asarray(pack.images), np.asarray(pack.given["mask"]), strict=True):
        np.testing.assert_array_equal(mask[5:15, 5:15], 2)
        assert set(np.unique(mask)) == {0, 2}
        assert mask.sum() == 2 * 100
        assert np.abs(image[..., 0].astype(int) - mask * 100.0).mean() < 12  # Lanczos softens the edges


@pytest.mark.parametrize(
    ("mode", "level"), [("L", 2), ("P", 2), ("1", 1), ("RGB", 2), ("LA", 2), ("I;16", 2)]
)
def test_a_mask_of_any_mode_is_class_numbers(tmp_path: Path, mode: str, level: int) -> None:
    ids = np.zeros((8, 8), np.uint8)
    ids[2:5, 1:7] = level
    if mode == "P":
        made = Image.fromarray(ids).convert("P")
        made.putpalette([200, 0, 0, 0, 200, 0, 9, 9, 200])
        made.putdata(ids.ravel().tolist())
    elif mode == "1":
        made = Image.fromarray(ids * 255).convert("1")
    elif mode == "I;16":
        made = Image.fromarray(ids.astype(np.uint16))
    else:
        made = Image.fromarray(ids).convert(mode)
    save(tmp_path / "a.png")
    made.save(tmp_path / "m.png")
    (tmp_path / "metadata.csv").write_text("file_name,mask\na.png,m.png\n")
    np.testing.assert_array_equal(opened(tmp_path, held_out=0).given["mask"][0], ids)


def test_a_mask_that_does_not_go_with_its_image_is_bad(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    save(tmp_path / "c.png")
    save(tmp_path / "wide.png", np.zeros((8, 16), np.uint8))
    save(tmp_path / "red.png", np.full((8, 8, 3), [255, 0, 0], np.uint8))
    (tmp_path / "metadata.csv").write_text("file_name,mask\na.png,wide.png\nb.png,red.png\nc.png,\n")
    with pytest.raises(UserError, match=r"2 of 3") as error:
        opened(tmp_path)
    assert "a.png (its mask: is 8x16 (height x width), but the image 8x8)" in str(error.value)
    assert "b.png (its mask: has colours; expected class numbers" in str(error.value)


def faces_of(tmp_path: Path) -> Path:
    """Twelve good rows, and one of each fault."""
    good = [f"{index:02d}.png,{index / 11:.3f},0.5" for index in range(12)]
    bad = ["text.png,n/a,0.5", "wide.png,0.5,1.5", "empty.png,,0.5", "gone.png,0.1,0.2"]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,hair,mouth", *good, *bad]) + "\n")
    for row in [*good, *bad[:3], "rowless.png"]:
        save(tmp_path / row.partition(",")[0])
    return tmp_path


def test_attributes_that_cannot_be_used_are_named_and_refused(tmp_path: Path) -> None:
    """Each with its image, its line and what is wrong with it; an image without a row is passed over."""
    data = faces_of(tmp_path)
    with pytest.raises(UserError) as error:
        opened(data, attribute_range=[0, 1], need_attributes=True)
    message = str(error.value)
    assert "4 of 16 images cannot be used" in message
    assert "text.png (metadata.csv:14: attribute hair is 'n/a'; expected a number)" in message
    assert "wide.png (metadata.csv:15: attribute mouth is '1.5'; expected 0 to 1)" in message
    assert "empty.png (metadata.csv:16: attribute hair is missing)" in message
    assert "gone.png (metadata.csv:17: is not there, or no image by its ending)" in message
    assert message.endswith("mend or remove them, or set data.skip_bad=true")


def test_attributes_that_cannot_be_used_are_left_out_where_the_recipe_says_so(tmp_path: Path) -> None:
    data = faces_of(tmp_path)
    pack = opened(data, attribute_range=[0, 1], need_attributes=True, skip_bad=True)
    assert len(pack) == 12
    assert len(pack.bad) == 4
    assert pack.conditions["attributes"].names == ("hair", "mouth")
    assert pack.present.all()
    np.testing.assert_allclose(pack.given["attributes"][:, 0], np.arange(12) / 11, atol=1e-3)
    items = find_source(Data(path=str(data), attribute_range=(0, 1))).items()
    noted = {note.kind: (note.count, note.example) for note in items.notes}
    assert noted["image that the metadata do not name"] == (1, "rowless.png")
    loose = opened(data, skip_bad=True)  # no range, and none is needed: two of the four are good
    assert len(loose) == 14
    assert loose.present.sum() == 13


def test_one_slip_does_not_take_a_column_from_the_attributes(tmp_path: Path) -> None:
    """A column of words is none; a column of numbers with a slip is one, and the slip is named."""
    data = faces_of(tmp_path)
    with pytest.raises(UserError, match="attribute hair is 'n/a'; expected a number"):
        opened(data)
    rows = [f"{index:02d}.png,{'yes' if index % 2 else index},0.5" for index in range(12)]
    (data / "metadata.csv").write_text("\n".join(["file_name,hair,mouth", *rows]) + "\n")
    assert opened(data).conditions["attributes"].names == ("mouth",)


def test_a_range_ascends() -> None:
    with pytest.raises(
        UserError, match=r"data.attribute_range: \[1.0, 0.0\] should be a smaller and a larger"
    ):
        check(Data, {"attribute_range": [1, 0]}, "data")
