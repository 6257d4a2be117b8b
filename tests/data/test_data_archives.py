"""Tar archives, shards of WebDataset, zips within folders."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data.files import opened, save
from safelight.config import UserError


def tarred(path: Path, folder: Path, prefix: str = "") -> Path:
    with tarfile.open(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.add(file, prefix + file.relative_to(folder).as_posix(), recursive=False)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat/a.png", "cat/b.png", "dog/c.png"):
        save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_a_tar_archive_is_as_good_as_its_folder(tmp_path: Path, photos: Path) -> None:
    want = opened(photos)
    plain = tarred(tmp_path / "p.tar", photos, "photos/")
    packed = tmp_path / "q.tar.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        pack = opened(path)
        assert pack.names == want.names
        assert pack.fingerprint == want.fingerprint
        assert pack.conditions["label"].names == ("cat", "dog")
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"^\S+q\.tar\.gz: cannot be decompressed \([^;]*\); make it again$"):
        opened(packed)


def test_shards_are_one_data_set_with_their_captions_and_classes(tmp_path: Path, photos: Path) -> None:
    for shard, number in (("000", 0), ("001", 2)):
        with tarfile.open(tmp_path / f"s-{shard}.tar", "w") as archive:
            for key in (number, number + 1):
                picture = np.full((8, 8, 3), key * 9, np.uint8)
                content = {"png": save(tmp_path / "x.png", picture).read_bytes(), "txt": b"thing %d" % key,
                           "cls": b"%d" % (10 if key else 9)}  # fmt: skip
                for ending, data in content.items():
                    info = tarfile.TarInfo(f"{key:05d}.{ending}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    (tmp_path / "x.png").unlink()
    for file in sorted(photos.rglob("*.png")):
        file.unlink()
    pack = opened(tmp_path, held_out=0)
    assert pack.names == ["s-000/00000.png", "s-000/00001.png", "s-001/00002.png", "s-001/00003.png"]
    assert list(pack.texts) == [(f"thing {key}",) for key in range(4)]
    assert pack.conditions["label"].names == ("9", "10")
    assert pack.given["label"].tolist() == [0, 1, 1, 1]


def test_shards_of_train_and_val_are_the_split(tmp_path: Path, photos: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train-000", "train-001", "val-000"):
        tarred(data / f"{name}.tar", photos)
    pack = opened(data)
    assert len(pack.train) == 6
    assert [pack.names[item].split("/")[0] for item in pack.held_out] == ["val-000"] * 3
    assert pack.conditions["label"].names == ("cat", "dog")


def test_zips_in_a_folder_are_its_classes_and_are_passed_over_beside_pictures(
    tmp_path: Path, photos: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("cat", "dog"):
        with zipfile.ZipFile(data / f"{name}s.zip", "w") as archive:
            for file in sorted((photos / name).iterdir()):
                archive.write(file, f"{name}\\{file.name}" if name == "cat" else f"./{name}/{file.name}")
    pack = opened(data)
    assert pack.names == ["cats/a.png", "cats/b.png", "dogs/c.png"]
    assert pack.conditions["label"].names == ("cats", "dogs")
    assert pack.fingerprint == opened(photos).fingerprint
    save(data / "beside.png")
    pack = opened(data)
    assert pack.names == ["beside.png"]
    (note,) = pack.notes
    assert (note.kind, note.count, note.example) == (".zip file", 2, "cats.zip")
    assert "give it as data.path" in note.reason
