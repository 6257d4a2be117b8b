from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.idx import FASHION_MNIST, read_idx

DEBIAN = FASHION_MNIST.installed[0]


def idx(values: NDArray[np.uint8]) -> bytes:
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()


def write_mnist(folder: Path, train: int = 40, test: int = 10, side: int = 28) -> NDArray[np.uint8]:
    folder.mkdir()
    images = np.random.default_rng(1).integers(0, 256, (train + test, side, side), np.uint8)
    labels = (np.arange(train + test) % 10).astype(np.uint8)
    for name, part in (("train", slice(0, train)), ("t10k", slice(train, None))):
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[part])))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels[part]))  # unpacked is as good
    return images


def test_an_array_comes_back_gzipped_or_not(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5), np.uint8)
    (tmp_path / "plain").write_bytes(idx(values))
    (tmp_path / "packed").write_bytes(gzip.compress(idx(values)))
    np.testing.assert_array_equal(read_idx(tmp_path / "plain"), values)
    np.testing.assert_array_equal(read_idx(tmp_path / "packed"), values)


GOOD = idx(np.zeros((3, 4, 5), np.uint8))
PACKED = gzip.compress(GOOD, mtime=0)  # the time would be part of the tests' names, which processes compare
FLIPPED = bytearray(PACKED)
FLIPPED[-6] ^= 1  # in the check sum


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an idx file"),
        (b"<html>Not found</html>", "not an idx file"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 0]), "not an idx file"),
        (GOOD[:9], "not an idx file"),
        (GOOD[:-1], "holds 59 bytes, but its header says 60"),
        (GOOD + b"x", "holds 61 bytes, but its header says 60"),
        (PACKED[:-12], "cut off"),
        (b"\x1f\x8b" + bytes(30), "fetch it again"),
        (bytes(FLIPPED), "CRC"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        read_idx(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_local_copy_is_used_and_its_test_files_are_held_out(tmp_path: Path) -> None:
    images = write_mnist(tmp_path / "mine")
    pack = open_data(Data(source="mnist", path=str(tmp_path / "mine"), held_out=0))
    assert (len(pack.train), len(pack.held_out)) == (40, 10)
    held = sorted(pack.images[item].tobytes() for item in pack.held_out)
    assert held == sorted(image.tobytes() for image in images[40:])
    item = pack.names.index("train/00007")
    np.testing.assert_array_equal(pack.images[item, :, :, 0], images[7])
    assert pack.given["label"][item] == 7


def test_other_data_in_idx_files_keep_their_size(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mine", side=16)
    assert open_data(Data(source="mnist", path=str(tmp_path / "mine"))).spec.shape == (1, 16, 16)


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mine")
    labels = tmp_path / "mine" / "train-labels-idx1-ubyte"
    config = Data(source="mnist", path=str(tmp_path / "mine"))
    labels.write_bytes(idx(np.zeros(39, np.uint8)))
    with pytest.raises(UserError, match=r"\(40, 28, 28\) does not go with train-labels.*\(39,\)"):
        open_data(config)
    labels.write_bytes(idx(np.full(40, 10, np.uint8)))
    with pytest.raises(UserError, match=r"has a label 10, but mnist has 10 classes"):
        open_data(config)
    labels.unlink()
    with pytest.raises(UserError, match=r"does not hold train-labels-idx1-ubyte\.gz.*data\.source=folder"):
        open_data(config)


def test_files_of_ones_own_by_path(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (30, 9, 7), np.uint8)
    labels = (np.arange(30) % 3).astype(np.uint8)
    (tmp_path / "kana-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    pack = open_data(Data(path=str(tmp_path / "kana-images-idx3-ubyte.gz")))
    assert not pack.conditions
    np.testing.assert_array_equal(pack.images[..., 0], images)
    (tmp_path / "kana-labels-idx1-ubyte").write_bytes(idx(labels))
    pack = open_data(Data(path=str(tmp_path / "kana-images-idx3-ubyte.gz")))
    np.testing.assert_array_equal(pack.given["label"], labels)
    assert pack.conditions["label"].names == ("0", "1", "2")


def test_a_folder_of_files_with_a_test_file_has_an_official_split(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mine", side=9)
    pack = open_data(Data(source="idx", path=str(tmp_path / "mine"), held_out=0))
    assert (len(pack.train), len(pack.held_out)) == (40, 10)
    assert pack.names[0] == "t10k-images-idx3-ubyte/0000000"
    assert pack.spec.classes == 10


def test_colour_in_idx_files(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), np.uint8)
    (tmp_path / "c-images.idx").write_bytes(idx(images))
    np.testing.assert_array_equal(open_data(Data(path=str(tmp_path / "c-images.idx"))).images, images)


def test_a_plain_file_is_not_read_into_memory_and_a_lying_header_does_not_fill_it(tmp_path: Path) -> None:
    (tmp_path / "a-ubyte").write_bytes(idx(np.zeros((3, 4, 5), np.uint8)))
    assert isinstance(read_idx(tmp_path / "a-ubyte").base, np.memmap)
    lie = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 2**31)
    (tmp_path / "lie.gz").write_bytes(gzip.compress(lie))
    with pytest.raises(UserError, match=r"its header says 9903520314283042199192993792"):
        read_idx(tmp_path / "lie.gz")


def test_idx_files_that_are_missing_or_no_images_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.path: .* holds no idx file"):
        open_data(Data(source="idx", path=str(tmp_path)))
    with pytest.raises(UserError, match=r"data\.path: .*none-ubyte cannot be read"):
        open_data(Data(path=str(tmp_path / "none-ubyte")))
    (tmp_path / "flat-ubyte").write_bytes(idx(np.zeros(5, np.uint8)))
    with pytest.raises(UserError, match=r"flat-ubyte: is uint8 of shape \(5,\); expected images"):
        open_data(Data(path=str(tmp_path / "flat-ubyte")))
    with pytest.raises(UserError, match=r"data\.label: names a column, but idx has none"):
        open_data(Data(path=str(tmp_path / "flat-ubyte"), label="x"))


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_fashion_mnist_from_the_system() -> None:
    pack = open_data(Data(source="fashion-mnist"))
    labels = np.asarray(pack.given["label"])
    assert np.bincount(labels[pack.train]).tolist() == [6000] * 10
    assert np.bincount(labels[pack.held_out]).tolist() == [1000] * 10
    assert pack.spec.conditions["label"].names[9] == "ankle boot"
    assert pack.images.mean() / 255 == pytest.approx(0.2862, abs=5e-4)  # the published mean of the images
    assert pack.fingerprint == "536ba0bf046a26c3f668bdfd3ff5101b"
    content = gzip.decompress((DEBIAN / "t10k-images-idx3-ubyte.gz").read_bytes())
    last = np.frombuffer(content[-784:], np.uint8).reshape(28, 28)
    np.testing.assert_array_equal(pack.images[pack.names.index("test/09999"), :, :, 0], last)
