from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.files import opened, save
from safelight.config import UserError
from safelight.data import archives


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def picture(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (level, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("prefix", ["", "photos/", "./photos/"])
def test_an_archive_is_as_good_as_its_folder(tmp_path: Path, prefix: str) -> None:
    for name in ("train/猫/a.png", "train/dog/b.png", "test/dog/c.png", "train/dog/.hidden.png"):
        save(tmp_path / "photos" / name)
    want = opened(tmp_path / "photos")
    pack = opened(zipped(tmp_path / "photos", tmp_path / "p.zip", prefix))
    assert pack.names == want.names == ["test/dog/c.png", "train/dog/b.png", "train/猫/a.png"]
    assert pack.fingerprint == want.fingerprint
    assert pack.conditions["label"].names == ("dog", "猫")
    assert [pack.names[item] for item in pack.held_out] == ["test/dog/c.png"]


def test_what_windows_leaves_beside_the_one_folder_does_not_hide_its_classes(tmp_path: Path) -> None:
    for name in ("cat/a.png", "dog/b.png"):
        save(tmp_path / "photos" / name)
    path = zipped(tmp_path / "photos", tmp_path / "p.zip", "photos/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Thumbs.db", "x")
        archive.writestr("photos/@eaDir/cat/a.png", picture(3))
    pack = opened(path)
    assert pack.names == ["cat/a.png", "dog/b.png"]
    assert pack.conditions["label"].names == ("cat", "dog")


def test_metadata_and_masks_in_an_archive(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.png")
    save(tmp_path / "photos" / "m" / "a.png", np.full((8, 8), 1, np.uint8))
    (tmp_path / "photos" / "metadata.csv").write_text("file_name,mask,hair\na.png,m/a.png,.5\n")
    pack = opened(zipped(tmp_path / "photos", tmp_path / "p.zip"))
    assert pack.given["attributes"].tolist() == [[0.5]]
    assert (pack.given["mask"] == 1).all()


def test_several_processes_read_one_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for level in range(200):
            archive.writestr(f"{level:03d}.png", picture(level))
    from safelight.data import open_data
    from safelight.data.config import Data

    pack = open_data(Data(path=str(tmp_path / "p.zip")), processes=2)
    assert pack.images[:, 0, 0, 0].tolist() == list(range(200))


def test_members_that_lie_outside_or_are_damaged_or_too_large_are_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.png", picture(1))
        archive.writestr("../../etc/evil.png", picture(2))
        archive.writestr("damaged.png", picture(3))
        archive.writestr("huge.png", bytes(5000))
    content = path.read_bytes()
    path.write_bytes(content.replace(picture(3), picture(3)[:-30] + bytes(30)))
    monkeypatch.setattr(archives, "MAX_FILE", 4000)
    with pytest.raises(UserError, match=r"3 of 4") as error:
        opened(path)
    for part in ("../../etc/evil.png (lies outside", "damaged.png (Bad CRC-32", "huge.png (unpacks to"):
        assert part in str(error.value)
    assert opened(path, skip_bad=True).names == ["good.png"]


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04 not really", b"<html>"])
def test_what_is_no_archive_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"p\.zip: is not a whole zip archive") as error:
        opened(tmp_path / "p.zip")
    assert "\n" not in str(error.value)


def test_a_file_of_another_kind_says_what_can_be_given(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png is not a folder; give a folder, a \.zip, an \.npz"):
        opened(tmp_path / "a.png")
