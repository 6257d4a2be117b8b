"""Clusters of images as their classes."""

from __future__ import annotations

import numpy as np
import pytest

from safelight.config import UserError, check
from safelight.data import Data, open_data
from safelight.data.clusters import cells, clusters


def blobs(each=30, side=12):
    """Three kinds of images: bright above, bright on the left, dark; with noise."""
    noise = np.random.default_rng(0).integers(0, 40, (3, each, side, side, 1))
    noise[0, :, : side // 2] += 200
    noise[1, :, :, : side // 2] += 200
    return noise.reshape(-1, side, side, 1).astype(np.uint8), np.repeat(np.arange(3), each)


def test_kinds_of_images_are_found():
    images, kinds = blobs()
    found = clusters(images, np.arange(0, 90, 2), 3)
    assert [len(set(found[kinds == kind].tolist())) for kind in range(3)] == [1, 1, 1]
    assert len(set(found.tolist())) == 3


def test_every_image_is_in_the_nearest_mean_of_its_cluster():
    images = np.random.default_rng(1).integers(0, 256, (60, 6, 6, 3), np.uint8)
    found, points = clusters(images, np.arange(60), 4), images.reshape(60, -1).astype(float)
    centres = np.stack([np.rint(points[found == number].mean(0)) for number in range(4)])
    distances = ((points[:, None] - centres) ** 2).sum(2)
    assert (distances.argmin(1) == found).all()


@pytest.mark.parametrize(
    ("shape", "cell", "size"), [((33, 20), 3, 11 * 6), ((40, 2), 3, 13), ((8, 8), 1, 64)]
)
def test_large_images_are_averaged_down(shape, cell, size):
    image = np.arange(np.prod(shape), dtype=np.int64).reshape(1, *shape, 1) % 256
    made = cells(image.astype(np.uint8))
    assert made.shape == (1, size)
    assert made[0, 0] == image[0, :cell, :cell].sum() // cell**2


def config(path, **keys):
    return check(Data, {"source": "arrays", "path": str(path), "held_out": 0.2, **keys}, "data")


def test_clusters_are_the_classes_of_the_pack_and_part_of_its_fingerprint(tmp_path):
    images, kinds = blobs()
    np.savez(tmp_path / "a.npz", images=images)
    plain, made = open_data(config(tmp_path / "a.npz")), open_data(config(tmp_path / "a.npz", clusters=3))
    assert (plain.described, made.described["label"]) == ({}, ("label", 3, ("0", "1", "2")))
    assert made.spec.classes == 3
    assert [len(set(made.given["label"][kinds == kind].tolist())) for kind in range(3)] == [1, 1, 1]
    again = open_data(config(tmp_path / "a.npz", clusters=3))
    assert made.fingerprint == again.fingerprint != plain.fingerprint
    with pytest.raises(UserError, match=r"clusters: 40 of \d+ images; set at most half as many"):
        open_data(config(tmp_path / "a.npz", clusters=40))


def test_images_with_classes_are_not_clustered(tmp_path):
    images, kinds = blobs()
    np.savez(tmp_path / "a.npz", images=images, labels=kinds)
    with pytest.raises(UserError, match=r"the images have classes; set data.labels=false"):
        open_data(config(tmp_path / "a.npz", clusters=3))
    assert open_data(config(tmp_path / "a.npz", clusters=3, labels=False)).spec.classes == 3
    with pytest.raises(UserError, match="clusters are of images of one size"):
        config(tmp_path, clusters=3, buckets=2, size=8)
