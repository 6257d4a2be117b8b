"""Reels: what was written is read, whatever happened meanwhile."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from safelight.config import UserError
from safelight.store import frames
from safelight.store.frames import ReelReader, ReelWriter


def pictures(step: int, channels: int = 3) -> dict[str, np.ndarray]:
    made = np.random.default_rng(step)
    return {
        specimen: made.integers(0, 256, (12, 20, channels), dtype=np.uint8) for specimen in ("0.3", "40.5")
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_come_back_as_they_were(tmp_path: Path, channels):
    writer = ReelWriter(tmp_path, 1)
    for step in (0, 5, 10):
        writer.append(step, pictures(step, channels))
    writer.close()
    reel = ReelReader(tmp_path)
    assert reel.steps("40.5") == [0, 5, 10]
    assert (5, "0.3") in reel
    assert (5, "0.4") not in reel
    for step in (10, 0):
        for specimen, picture in pictures(step, channels).items():
            np.testing.assert_array_equal(reel.read(step, specimen), picture)
    with pytest.raises(UserError, match=r"no picture of 0\.4 at step 5"):
        reel.read(5, "0.4")


def test_a_torn_picture_was_never_there_and_the_next_session_takes_it_again(tmp_path: Path):
    writer = ReelWriter(tmp_path, 1)
    for step in (0, 5, 10):
        writer.append(step, pictures(step))
    writer.close()
    (path,) = frames.files(tmp_path, frames.REEL)
    path.write_bytes(path.read_bytes()[:-7])
    assert ReelReader(tmp_path).steps("0.3") == [0, 5]
    again = ReelWriter(tmp_path, 2)
    for step in (5, 10, 15):
        again.append(step, pictures(step))
    again.close()
    reel = ReelReader(tmp_path)
    assert reel.steps("0.3") == [0, 5, 10, 15]
    np.testing.assert_array_equal(reel.read(10, "0.3"), pictures(10)["0.3"])


def test_a_damaged_picture_is_named_and_the_rest_still_plays(tmp_path: Path):
    writer = ReelWriter(tmp_path, 1)
    for step in (0, 5, 10):
        writer.append(step, pictures(step))
    writer.close()
    (path,) = frames.files(tmp_path, frames.REEL)
    place = frames.scan(path).places[1]
    data = bytearray(path.read_bytes())
    data[place.offset + 9] ^= 1
    path.write_bytes(data)
    reel = ReelReader(tmp_path)
    with pytest.raises(UserError, match="the frame of step 5 is damaged"):
        reel.read(5, "0.3")
    np.testing.assert_array_equal(reel.read(10, "40.5"), pictures(10)["40.5"])


def test_other_specimens_begin_another_file(tmp_path: Path):
    writer = ReelWriter(tmp_path, 1)
    writer.append(0, pictures(0))
    writer.append(5, {"0.9": pictures(5)["0.3"]})
    writer.close()
    assert len(frames.files(tmp_path, frames.REEL)) == 2
    reel = ReelReader(tmp_path)
    assert (reel.steps("0.3"), reel.steps("0.9")) == ([0], [5])


def test_a_full_disk_leaves_no_half_picture(tmp_path: Path):
    def full(stage: str) -> None:
        if stage == "films.append" and filling:
            raise OSError(errno.ENOSPC, "No space left on device")

    filling: list[bool] = []
    writer = ReelWriter(tmp_path, 1, full)
    writer.append(0, pictures(0))
    filling.append(True)
    with pytest.raises(UserError, match="the disk is full"):
        writer.append(5, pictures(5))
    filling.clear()
    writer.append(10, pictures(10))
    writer.close()
    assert ReelReader(tmp_path).steps("0.3") == [0, 10]
