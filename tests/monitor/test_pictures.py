"""What samples tell beside real images, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safelight.monitor.sample_statistics import (
    copies,
    coverage,
    drift,
    features,
    nearest_class,
    noise,
    reaction,
    spread,
)


@pytest.fixture
def real():
    return np.random.default_rng(0).integers(0, 256, (120, 8, 8, 3), dtype=np.uint8)


def test_features_of_small_images_are_their_pixels(real):
    assert torch.equal(features(real), torch.from_numpy(real).permute(0, 3, 1, 2).flatten(1).float() / 255)


def test_the_spread_is_the_mean_distance_within_a_group():
    x = torch.tensor([[0.0], [1.0], [5.0], [5.5]])
    assert spread(x, torch.tensor([0, 0, 1, 1])) == pytest.approx(0.75)
    assert spread(x, torch.zeros(4, dtype=torch.int64)) == pytest.approx((1 + 5 + 5.5 + 4 + 4.5 + 0.5) / 6)


def test_images_cover_themselves_and_one_image_covers_little(real):
    x = features(real)
    assert coverage(x, x) == 1.0
    assert coverage(x, x[:1].repeat(len(x), 1)) < 0.2
    assert np.isnan(coverage(x[:3], x))


def test_the_drift_from_black_to_white_is_one(real):
    black, white = np.zeros((4, 8, 8, 3), np.uint8), np.full((4, 8, 8, 3), 255, np.uint8)
    assert drift(black, white) == pytest.approx(1.0)
    assert drift(real, real) == 0.0
    assert drift(black, np.full_like(white, 51)) == pytest.approx(0.2)


def test_copies_are_found_and_fresh_images_are_none(real):
    x = features(real)
    fresh = features(np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8))
    assert copies(x[:20] + 1e-3, x) == 1.0
    assert copies(fresh, x) == 0.0


def test_the_nearest_class_of_an_image_is_its_own(real):
    labels = torch.arange(len(real)) % 7
    assert torch.equal(nearest_class(features(real), features(real), labels), labels)


def test_images_that_do_not_change_with_their_condition_do_not_react(real):
    assert reaction(real[:8], real[:8]) == 0.0
    assert reaction(real[:8], real[8:16]) == pytest.approx(1.0, abs=0.2)  # unrelated ones


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("factor", [1, 4])
def test_noise_is_its_share_in_how_images_differ(share, factor):
    """Smooth images plus white noise of a share of the variance; or both as a latent's pixels are decoded."""
    random = np.random.default_rng(2)

    def smooth(seed):
        x = np.random.default_rng(seed).normal(size=(200, 6, 6, 1))
        x = x.repeat(4, axis=1).repeat(4, axis=2)
        return x / x.std()

    def picture(x):
        x = x.repeat(factor, axis=1).repeat(factor, axis=2)
        return np.clip(128 + 30 * x, 0, 255).astype(np.uint8)

    white = random.normal(size=(200, 24, 24, 1))
    mixed = picture(np.sqrt(1 - share) * smooth(1) + np.sqrt(share) * white)
    assert noise(mixed, picture(smooth(0)), factor) == pytest.approx(share, abs=0.04)


def test_images_that_are_alike_but_for_rounding_are_no_noise(real):
    smooth = real[:40, :4, :4].repeat(4, axis=1).repeat(4, axis=2)
    alike = 100 + np.random.default_rng(3).integers(0, 2, smooth.shape, dtype=np.uint8)
    assert noise(alike, smooth) < 0.05
    assert noise(np.full_like(smooth, 7), smooth) == 0.0
    assert np.isnan(noise(real, np.full_like(real, 7)))
