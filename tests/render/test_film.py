"""Films as files: every frame once, in order, in every format."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from safelight.config import UserError
from safelight.render.film import frame, save_film

GREYS = [20 * number for number in range(12)]


def frames():
    return (frame(np.full((1, 16, 16, 1), grey, np.uint8)) for grey in GREYS)


def test_a_frame_is_the_images_enlarged_with_words_in_a_corner():
    made = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    plain, worded = np.asarray(frame(made)), np.asarray(frame(made, "step 1,000"))
    assert plain.shape[0] % 2 == plain.shape[1] % 2 == 0
    scale = (plain.shape[1] + 2) // 2 // 30
    np.testing.assert_array_equal(plain[: 20 * scale : scale, : 30 * scale : scale], made[0])
    right = plain[: 20 * scale : scale, 30 * scale + 2 :: scale][:, :30]
    np.testing.assert_array_equal(right, made[1])
    changed = np.argwhere((plain != worded).any(-1))
    assert changed[:, 0].min() > plain.shape[0] * 0.85
    assert changed[:, 1].max() < plain.shape[1] * 0.5


@pytest.mark.parametrize(("count", "wide"), [(1, 1), (3, 2), (8, 4), (10, 5), (12, 4)])
def test_a_frame_has_few_empty_places(count, wide):
    picture = frame(np.full((count, 32, 32, 1), 255, np.uint8))
    scale = picture.info["enlarged"]
    assert picture.width // (32 * scale) == wide


def test_a_webp_of_enlarged_pictures_is_exact(tmp_path):
    made = np.random.default_rng(0).integers(0, 256, (4, 10, 16, 16, 3), dtype=np.uint8)
    save_film((frame(images) for images in made), tmp_path / "film.webp", 10)
    with Image.open(tmp_path / "film.webp") as film:
        for number, images in enumerate(made):
            film.seek(number)
            np.testing.assert_array_equal(np.asarray(film.convert("RGB")), np.asarray(frame(images)))


def test_large_images_are_not_enlarged():
    assert frame(np.zeros((1, 600, 400, 1), np.uint8)).size == (400, 600)


def test_mp4_holds_every_frame_in_order(tmp_path):
    import av

    save_film(frames(), tmp_path / "film.mp4", 60)
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.codec_context.pix_fmt) == (60, "yuv420p")
        means = [picture.to_ndarray(format="rgb24").mean() for picture in container.decode(stream)]
    assert len(means) == 12
    assert np.abs(np.array(means) - GREYS).max() < 4


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_animations_hold_every_frame_in_order(tmp_path, ending):
    save_film(frames(), tmp_path / f"film.{ending}", 10)
    with Image.open(tmp_path / f"film.{ending}") as film:
        assert film.n_frames == 12
        means = []
        for number in range(12):
            film.seek(number)
            means.append(np.asarray(film.convert("L")).mean())
    assert np.abs(np.array(means) - GREYS).max() < 4


def test_a_folder_holds_the_frames_exactly(tmp_path):
    save_film(frames(), tmp_path / "film", 10)
    paths = sorted((tmp_path / "film").iterdir())
    assert [int(np.asarray(Image.open(path)).min()) for path in paths] == GREYS
    with pytest.raises(UserError, match="exists and holds files"):
        save_film(frames(), tmp_path / "film", 10)


def test_what_breaks_off_leaves_nothing_behind(tmp_path):
    def broken():
        yield from list(frames())[:3]
        raise RuntimeError("lamp")

    for name in ("film.mp4", "film.gif", "film"):
        with pytest.raises(RuntimeError, match="lamp"):
            save_film(broken(), tmp_path / name, 10)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"film\.avi: unknown output type; use \.mp4"):
        save_film(frames(), tmp_path / "film.avi", 10)
