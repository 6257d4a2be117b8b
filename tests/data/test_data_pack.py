from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from safelight.config import UserError
from safelight.data import open_data
from safelight.data.config import Data
from safelight.data.pack import Pack, load, split
from safelight.data.source import UNDECIDED

MakePack = Callable[..., Pack]
Pictures = NDArray[np.uint8]

PHOTOS = np.random.default_rng(3).integers(0, 256, (200, 4, 4, 3), np.uint8)
PACK_FILES = ["digests.npy", "images.npy", "manifest.json", "names.json", "official.npy"]
PACK_AND_DIE = """
import os, signal, sys
from safelight.data import Data, open_data

def progress(what, done, total):
    if done >= 150:
        os.kill(os.getpid(), signal.SIGKILL)

open_data(Data(path=sys.argv[1]), progress, int(sys.argv[2]))
"""


def write_photos(folder: Path) -> None:
    folder.mkdir()
    for index, pixels in enumerate(PHOTOS):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")


def pack_folders(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache" / "packs").iterdir() if path.is_dir()]


def sides(pack: Pack) -> dict[bytes, bool]:
    """Whether each picture is held out."""
    held = set(pack.held_out.tolist())
    return {image.tobytes(): item in held for item, image in enumerate(np.asarray(pack.images))}


def test_what_goes_in_comes_out(make_pack: MakePack, pictures: Pictures) -> None:
    labels = [index % 3 if index % 5 else None for index in range(len(pictures))]
    pack = make_pack(pictures, labels)
    np.testing.assert_array_equal(pack.images, pictures)
    assert pack.present.tolist() == [label is not None for label in labels]
    assert pack.given["label"].tolist() == [label or 0 for label in labels]
    assert pack.names == [f"{index:04d}" for index in range(len(pictures))]
    assert not pack.images.flags.writeable


def test_a_pack_is_made_once(make_pack: MakePack, pictures: Pictures) -> None:
    first = make_pack(pictures)
    before = (first.folder / "images.npy").stat()
    again = make_pack(pictures, held_out=0.5)  # the share is no reason to decode again
    assert (again.folder / "images.npy").stat() == before
    assert again.fingerprint == first.fingerprint
    assert len(again.held_out) > len(first.held_out)


def test_the_fingerprint_sees_pixels_labels_sides_and_order(make_pack: MakePack, pictures: Pictures) -> None:
    labels = [index % 3 for index in range(len(pictures))]
    pixel = pictures.copy()
    pixel[100, 3, 2, 1] ^= 1
    fingerprints = [
        make_pack(pictures, labels).fingerprint,
        make_pack(pixel, labels).fingerprint,
        make_pack(pictures, [*labels[:-1], 3]).fingerprint,
        make_pack(pictures, [*labels[:-1], None]).fingerprint,
        make_pack(pictures).fingerprint,
        make_pack(pictures, labels, [True] + [False] * 199).fingerprint,
        make_pack(pictures[::-1].copy(), labels[::-1]).fingerprint,
        make_pack(pictures.reshape(200, 5, 6, 3), labels).fingerprint,
    ]
    assert len(set(fingerprints)) == len(fingerprints)


def test_sides_stay_when_items_are_added(make_pack: MakePack, pictures: Pictures) -> None:
    some, every = sides(make_pack(pictures[50:150])), sides(make_pack(pictures))
    assert some.items() <= every.items()
    assert 5 < sum(every.values()) < 40


def test_a_larger_share_keeps_what_was_held_out(make_pack: MakePack, pictures: Pictures) -> None:
    small, large = make_pack(pictures, held_out=0.1), make_pack(pictures, held_out=0.3)
    assert set(small.held_out) < set(large.held_out)


def test_copies_lie_on_one_side(make_pack: MakePack, pictures: Pictures) -> None:
    pack = make_pack(np.repeat(pictures, 3, 0), held_out=0.3)
    held = np.isin(np.arange(600), pack.held_out).reshape(200, 3)
    assert (held.all(1) | ~held.any(1)).all()
    assert 0 < held.sum() < 600


def test_an_official_split_is_obeyed(make_pack: MakePack, pictures: Pictures) -> None:
    pack = make_pack(pictures, sides=[index < 7 for index in range(200)])
    assert sorted(pack.held_out) == list(range(7))
    assert pack.train.tolist() == list(range(7, 200))


def test_held_out_items_are_in_an_order_that_additions_keep(make_pack: MakePack, pictures: Pictures) -> None:
    few, many = make_pack(pictures[:100], held_out=0.3), make_pack(pictures, held_out=0.3)
    assert [item for item in many.held_out if item < 100] == few.held_out.tolist()
    assert few.held_out.tolist() != sorted(few.held_out)


@pytest.mark.parametrize("share", [1e-12, 0.1, 1 - 1e-12])
def test_both_sides_have_one_of_two_different_items(
    make_pack: MakePack, pictures: Pictures, share: float
) -> None:
    for first in range(0, 20, 2):
        pack = make_pack(pictures[first : first + 2], held_out=share)
        assert len(pack.train) == len(pack.held_out) == 1


def test_a_share_of_nothing_and_copies_of_one_hold_out_nothing(
    make_pack: MakePack, pictures: Pictures
) -> None:
    assert not len(make_pack(pictures, held_out=0).held_out)
    assert len(make_pack(pictures[[0, 0, 0]], held_out=1e-12).train) == 3


def test_the_share_is_met_on_many_items() -> None:
    digests = np.random.default_rng(0).integers(0, 2**64, (100_000, 2), np.uint64)
    held = split(digests, np.full(len(digests), UNDECIDED, np.int8), 0.1)
    assert held.mean() == pytest.approx(0.1, abs=0.004)


@pytest.mark.parametrize("damage", ["manifest.json", "images.npy", "digests.npy", "cut", "format", "garbage"])
def test_a_damaged_pack_is_made_again(make_pack: MakePack, pictures: Pictures, damage: str) -> None:
    pack = make_pack(pictures)
    manifest = pack.folder / "manifest.json"
    if damage == "cut":
        os.truncate(pack.folder / "images.npy", 1000)
    elif damage == "format":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 0}))
    elif damage == "garbage":
        manifest.write_text("[]")
    else:
        (pack.folder / damage).unlink()
    assert load(pack.folder, 0.1) is None
    again = make_pack(pictures)
    assert again.fingerprint == pack.fingerprint
    np.testing.assert_array_equal(again.images, pictures)


def test_a_full_disk_is_told_before_hours_are_spent(
    make_pack: MakePack, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs 0\.0 GB, and 0\.0 GB are free.*SAFELIGHT_CACHE"):
        make_pack(pictures)


def test_a_cache_that_cannot_be_made_names_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SAFELIGHT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be made .*SAFELIGHT_CACHE"):
        open_data(Data())


def test_an_interrupted_packing_goes_on_where_it_was(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    config = Data(path=str(tmp_path / "photos"))

    def interrupt(what: str, done: int, total: int) -> None:
        if done == 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_data(config, interrupt)
    (partial,) = pack_folders(tmp_path)
    assert partial.suffix == ".partial"
    seen: list[int] = []
    pack = open_data(config, lambda what, done, total: seen.append(done))
    assert seen == list(range(128, 201))  # two blocks of 64 were done
    np.testing.assert_array_equal(pack.images, PHOTOS)
    assert pack_folders(tmp_path) == [pack.folder]
    assert sorted(path.name for path in pack.folder.iterdir()) == PACK_FILES


def test_a_killed_packing_is_never_read_and_goes_on(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    command = [sys.executable, "-c", PACK_AND_DIE, str(tmp_path / "photos"), "1"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (partial,) = pack_folders(tmp_path)
    assert partial.suffix == ".partial"
    assert load(partial, 0.1) is None

    seen: list[int] = []
    pack = open_data(Data(path=str(tmp_path / "photos")), lambda what, done, total: seen.append(done))
    assert seen[0] == 128
    np.testing.assert_array_equal(pack.images, PHOTOS)


def test_several_processes_killed_with_their_parent_go_on_too(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    command = [sys.executable, "-c", PACK_AND_DIE, str(tmp_path / "photos"), "2"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    seen: list[int] = []
    config = Data(path=str(tmp_path / "photos"))
    pack = open_data(config, lambda what, done, total: seen.append(done), processes=2)
    assert seen[0] >= 128  # what was told as done is done
    assert seen[-1] == 200
    np.testing.assert_array_equal(pack.images, PHOTOS)


@pytest.mark.parametrize("damage", ["zeros", "torn", "record", "garbage"])
def test_what_did_not_reach_the_disk_is_decoded_again(tmp_path: Path, damage: str) -> None:
    write_photos(tmp_path / "photos")
    command = [sys.executable, "-c", PACK_AND_DIE, str(tmp_path / "photos"), "1"]
    subprocess.run(command, check=False)
    (partial,) = pack_folders(tmp_path)
    records = partial / "blocks.jsonl"
    if damage == "zeros":  # a power cut: the record was written, the rows were not
        with (partial / "images.npy").open("r+b") as file:
            file.seek(128 + 70 * PHOTOS[0].size)
            file.write(bytes(PHOTOS[0].size))
    elif damage == "torn":
        os.truncate(partial / "images.npy", 1000)
    elif damage == "record":
        os.truncate(records, records.stat().st_size - 5)
    else:
        records.write_bytes(b"\xff\x00" + records.read_bytes())
    seen: list[int] = []
    pack = open_data(Data(path=str(tmp_path / "photos")), lambda what, done, total: seen.append(done))
    assert seen[0] == {"zeros": 64, "torn": 0, "record": 64, "garbage": 0}[damage]
    np.testing.assert_array_equal(pack.images, PHOTOS)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_cache_that_is_deleted_meanwhile_is_one_clear_line(tmp_path: Path, processes: int) -> None:
    write_photos(tmp_path / "photos")

    def delete(what: str, done: int, total: int) -> None:
        shutil.rmtree(tmp_path / "cache" / "packs", ignore_errors=True)

    with pytest.raises(
        UserError, match=r"partial: cannot be written \(No such file.*SAFELIGHT_CACHE"
    ) as error:
        open_data(Data(path=str(tmp_path / "photos")), delete, processes)
    assert "\n" not in str(error.value)


def test_other_processes_run_nothing_of_the_folder_they_are_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos")
    (tmp_path / "photos" / "json.py").write_text("open('fired', 'w')")
    monkeypatch.chdir(tmp_path / "photos")
    open_data(Data(path="."), processes=2)
    assert not (tmp_path / "photos" / "fired").exists()


def test_a_process_that_dies_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path / "photos")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    config = Data(path=str(tmp_path / "photos"))
    with pytest.raises(UserError, match=r"a decoding process ended unexpectedly \(exit code 1\)"):
        open_data(config, processes=2)


def test_whoever_comes_second_waits_and_finds_the_pack(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    config = Data(path=str(tmp_path / "photos"))
    packed_by: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        second: list[Future[Pack]] = []

        def first_progress(what: str, done: int, total: int) -> None:
            if not second:  # half way through the first packing; the lock is on the file, as for processes
                second.append(pool.submit(open_data, config, lambda *_: packed_by.append("second")))
            packed_by.append("first")

        first = open_data(config, first_progress)
        assert second[0].result(timeout=30).folder == first.folder
    assert packed_by == ["first"] * (len(PHOTOS) + 1)  # once at the start
    np.testing.assert_array_equal(first.images, PHOTOS)


def test_an_edited_picture_of_the_same_size_and_time_is_found(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path := tmp_path / "a.bmp")
    before, status = open_data(Data(path=str(tmp_path), size=8)).fingerprint, path.stat()
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_data(Data(path=str(tmp_path), size=8)).fingerprint != before
