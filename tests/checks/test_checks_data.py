"""Checks of images, conditions and latents: each on data that have its fault, and on the same without."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch

from safelight.checks import augmentation, images
from safelight.data.space import Codec, Space
from safelight.data.stream import Stream
from subjects import codes, digits, subject, with_pack


def test_images_that_say_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    assert list(images._range(pixels)) == []
    flat = pixels.copy()
    flat[..., 1] = 7
    assert [finding.code for finding in images._range(flat)] == ["channel-constant"]
    assert [finding.code for finding in images._range(pixels // 16)] == ["image-range"]
    assert [finding.severity for finding in images._range(pixels[..., :1].repeat(3, -1))] == ["note"]


def test_copies_and_held_out_images_that_are_trained_on(tmp_path):
    pack = digits().pack
    digests = np.stack([np.arange(len(pack), dtype=np.uint64)] * 2, 1)
    digests[pack.train[1:100]] = digests[pack.train[0]]
    digests[pack.held_out[:50]] = digests[pack.train[0]]
    np.save(tmp_path / "digests.npy", digests)
    (tmp_path / "names.json").write_text(json.dumps([f"{number}.png" for number in range(len(pack))]))
    findings = {finding.code: finding for finding in images._copies(replace(pack, folder=tmp_path))}
    assert findings["images-copied"].measured.startswith("99 of ")
    assert findings["held-out-leaked"].measured.startswith("50 of ")
    assert {finding.severity for finding in findings.values()} == {"warning"}


def test_classes_that_are_hardly_drawn_and_conditions_that_are_rare():
    stream = digits()
    labels = np.where(np.asarray(stream.pack.given["label"]) == 9, 0, stream.pack.given["label"])
    assert codes(subject(stream=with_pack(stream, given={"label": labels})), "given") == {"class-balance"}
    covered = {"label": np.arange(len(stream.pack)) % 5 == 0}
    assert "condition-coverage" in codes(subject(stream=with_pack(stream, covered=covered)), "given")


def test_a_space_that_is_not_undone_or_of_another_scale():
    def codec(encode, decode):
        ones = torch.ones_like
        return Codec("test", "", 1, 1, lambda x: (encode(x), ones(x)), decode)

    def codes_of(space):
        stream = digits()
        checked = subject(stream=Stream(stream.pack, 0, 16, space=space))
        checked.spec = replace(checked.spec, shape=(4, 14, 14))  # so that it is not taken for pixels
        return codes(checked, "latents")

    sound = Space(codec(lambda x: x * 1.5, lambda z: z / 1.5), (-1.0,), (1.0,))
    assert codes_of(sound) == set()
    fed_otherwise = Space(codec(lambda x: (x + 1) / 2, lambda z: z), (0.0,), (2.0,))
    assert "round-trip" in codes_of(fed_otherwise)
    unscaled = Space(codec(lambda x: x * 20, lambda z: z / 20), (0.0,), (1.0,))
    assert codes_of(unscaled) == {"latent-scale"}


def test_the_turn_that_explains_an_image_is_found():
    before = torch.arange(9.0).view(1, 3, 3)
    assert augmentation._moves_between(before, before.flip(-1)) == {"mirrored, turned by 0 degrees"}
    assert augmentation._moves_between(before, torch.rot90(before, 1, (-2, -1))) == {
        "as it was, turned by 90 degrees"
    }
    assert augmentation._moves_between(before, before + 1) == set()
