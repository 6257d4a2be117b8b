from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data.files import opened
from safelight.config import UserError
from safelight.data.npz import open_arrays

RNG = np.random.default_rng(2)
GREY = RNG.integers(0, 256, (30, 6, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (30, 6, 5, 3), np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_labels_and_all(tmp_path: Path, save: object) -> None:
    labels = np.arange(30) % 4
    save(tmp_path / "a.npz", images=COLOUR, labels=labels, other=np.zeros(3))  # type: ignore[operator]
    pack = opened(tmp_path / "a.npz", held_out=0)
    np.testing.assert_array_equal(pack.images, COLOUR)
    np.testing.assert_array_equal(pack.given["label"], labels)
    assert pack.names[7] == "image/07"
    assert not list((tmp_path / "cache").glob("tmp*"))  # what was unpacked has gone


def test_a_single_array_is_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    np.testing.assert_array_equal(opened(tmp_path / "a.npy").images[..., 0], GREY)
    assert opened(tmp_path / "a.npy", size=4, channels=3).images.shape == (30, 4, 4, 3)


@pytest.mark.parametrize(
    "spelled",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_splits_in_the_names_are_official(tmp_path: Path, spelled: tuple[str, str, str, str]) -> None:
    labels = np.arange(30)[:, None] % 3  # (N, 1), as MedMNIST has them
    arrays = dict(zip(spelled, (GREY[:20], labels[:20], GREY[20:], labels[20:]), strict=True))
    np.savez(tmp_path / "a.npz", **arrays)
    pack = opened(tmp_path / "a.npz")
    assert (len(pack.train), len(pack.held_out)) == (20, 10)
    item = pack.names.index("train/13")
    np.testing.assert_array_equal(pack.images[item, :, :, 0], GREY[13])
    assert pack.given["label"][item] == 1
    assert {pack.names[item][:4] for item in pack.held_out} == {"test"}


@pytest.mark.parametrize(
    ("images", "want"),
    [
        (GREY.astype(np.uint16) * 257, GREY),
        (GREY.astype(np.int64), GREY),
        (GREY.astype(np.float32) / 255, GREY),
        (GREY.astype(np.float64) / 255, GREY),
        (GREY > 99, (GREY > 99) * np.uint8(255)),
        (np.asfortranarray(GREY), GREY),
        (GREY[..., None], GREY),
        (np.concatenate([COLOUR, np.full((30, 6, 5, 1), 255, np.uint8)], -1), COLOUR),
    ],
)
def test_pixels_of_any_type_become_eight_bits(
    tmp_path: Path, images: NDArray[np.generic], want: NDArray[np.uint8]
) -> None:
    np.savez(tmp_path / "a.npz", images=images)
    np.testing.assert_array_equal(np.squeeze(opened(tmp_path / "a.npz", held_out=0).images), want)


def test_the_recipe_names_arrays(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        images=GREY,
        breed=np.arange(30) % 2,
        labels=np.zeros(30),
        h=GREY[:, 0, 0] / 255.0,
        w=np.arange(30),
    )
    pack = opened(tmp_path / "a.npz", label="breed", attributes=["w", "h"])
    assert pack.conditions["label"].size == 2
    assert pack.conditions["attributes"].names == ("w", "h")
    assert pack.given["attributes"][:, 0].tolist() == list(range(30))
    with pytest.raises(UserError, match=r"data\.label: .* has no array 'bred' \(did you mean 'breed'"):
        opened(tmp_path / "a.npz", label="bred")


def test_names_are_classes_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY[:3], labels=np.array(["dog", "猫", "dog"]))
    pack = opened(tmp_path / "a.npz")
    assert pack.conditions["label"].names == ("dog", "猫")
    assert pack.given["label"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"photos": GREY}, r"holds no images, only photos uint8 \(30, 6, 5\)"),
        ({"images": GREY[0]}, r"of shape \(6, 5\); expected images \(N, H, W\)"),
        ({"images": np.moveaxis(COLOUR, 3, 1)}, "channels come last"),
        ({"images": GREY, "labels": np.arange(29)}, r"has 30 images, but an array of shape \(29,\)"),
        ({"images": GREY, "labels": np.arange(30) - 1}, "expected whole numbers from 0"),
        ({"images": GREY, "labels": np.full(30, 2.5)}, "expected whole numbers from 0"),
        ({"images": GREY, "labels": np.full(30, 10**6)}, "number the classes from 0"),
        ({"images": GREY, "labels": np.zeros((30, 2), int)}, "expected one class an image"),
        ({"images": GREY, "masks": GREY[..., None]}, r"expected class numbers \(N, H, W\)"),
        ({"images": GREY, "texts": np.zeros(30)}, "expected strings"),
        ({"images": GREY, "attributes": np.array(["a"] * 30)}, "attributes are not numbers"),
        ({"images": np.zeros((0, 4, 4), np.uint8)}, "expected images"),
        ({"images": GREY.astype(complex)}, "expected images"),
        ({"images": GREY / 100.0}, "floating-point pixels beyond 0 to 1"),
        ({"images": GREY.astype(int) * 2}, "integer pixels beyond 0 to 255"),
        ({"images": GREY, "masks": GREY.astype(int) + 99}, "numbers beyond 255"),
    ],
)
def test_what_does_not_fit_together_is_one_clear_line(
    tmp_path: Path, arrays: dict[str, NDArray[np.generic]], says: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=says) as error:
        opened(tmp_path / "a.npz")
    assert "a" in str(error.value)
    assert "\n" not in str(error.value)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    fired = tmp_path / "fired"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return open, (str(fired), "w")  # type: ignore[return-value]

    np.savez(tmp_path / "a.npz", images=GREY, labels=np.array([Trap()] * 30))
    np.savez_compressed(tmp_path / "b.npz", images=GREY, labels=np.array([Trap()] * 30))
    np.save(tmp_path / "c.npy", np.array([Trap()] * 30))
    for name in ("a.npz", "b.npz", "c.npy"):
        with pytest.raises(UserError, match=r"of plain arrays \(.*[Oo]bject"):
            opened(tmp_path / name)
    assert not fired.exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_stay_on_disk(tmp_path: Path, save: object) -> None:
    save(tmp_path / "a.npz", images=COLOUR, empty=np.zeros((0, 3)))  # type: ignore[operator]
    arrays = open_arrays(str(tmp_path / "a.npz"))
    assert isinstance(arrays["images"], np.memmap)
    np.testing.assert_array_equal(arrays["images"], COLOUR)
    assert arrays["empty"].shape == (0, 3)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", b"\x80\x04\x95K\x01."])
def test_what_is_no_array_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    for name in ("a.npz", "a.npy"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is not a whole"):
            opened(tmp_path / name)


def test_an_archive_member_cut_off_is_one_clear_line(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, GREY)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", buffer.getvalue()[:-100])
    with pytest.raises(UserError, match="is not a whole"):
        opened(tmp_path / "a.npz")
