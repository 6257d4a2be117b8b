"""From pixels to the space that is trained in, and back: round trip, scale and shift."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.probes import NotApplicable
from safelight.checks.bench.subject import Subject

SECONDS = 15.0
FAST = False
FEW = 4
LOST = 0.2  # of the pixels' variance: about 0.45 of their spread
LEAST, MOST = 0.5, 2.0  # standard deviation of latents
SHIFT = 0.5

ROUND_TRIP = Code(
    "round-trip",
    "error",
    "four images through `Space.from_pixels` and back lose more than 20 % of their variance",
    "encoding and decoding loses the image, and no sample can be better than that",
    "feed the autoencoder the range it was trained on, and undo scale and shift before decoding",
)
SCALE = Code(
    "latent-scale",
    "error",
    "the standard deviation of a batch of latents, as the method gets them, is outside 0.5 to 2",
    "noise levels are made for latents of standard deviation 1: those that matter here are not trained",
    "normalise the latents by their measured mean and standard deviation",
)
SHIFTED = Code(
    "latent-shift",
    "warning",
    "the mean of a channel of the latents is more than half a standard deviation from 0",
    "samples start from noise of mean 0: a shift has to be learned at the highest noise",
    "subtract the measured mean of each channel",
)


def check(subject: Subject) -> Iterator[Finding]:
    """A few images into the space and back; the spread of a batch in it."""
    stream = subject.streams(1)
    items = stream.pack.train[:FEW]
    pixels = np.stack([stream.pack.images[item] for item in items]).astype(np.float64)
    back = stream.space.to_pixels(stream.pick(items).x).astype(np.float64)
    if back.shape != pixels.shape:
        yield ROUND_TRIP.finding(f"images of {back.shape[1:]} come back", f"{pixels.shape[1:]}")
        return
    lost = float(((back - pixels) ** 2).mean() / max(pixels.var(), 1e-9))
    if lost > LOST:
        yield ROUND_TRIP.finding(
            f"{lost:.0%} of the pixels' variance is lost in encoding and decoding",
            f"below {LOST:.0%}",
        )
    if subject.spec.shape == (pixels.shape[3], *pixels.shape[1:3]):
        return  # pixels themselves; images.py checks their range
    x = subject.batch(max(FEW, subject.rows)).x
    if len(x) < FEW:
        raise NotApplicable("a batch is too small to measure latents on")
    spread, mean = float(x.std()), x.mean((0, 2, 3))
    if not LEAST < spread < MOST:
        yield SCALE.finding(f"latents have standard deviation {spread:.3g}", f"about 1, {LEAST} to {MOST}")
    elif float(mean.abs().max()) > SHIFT * spread:
        channel = int(mean.abs().argmax())
        yield SHIFTED.finding(f"channel {channel} has mean {float(mean[channel]):.3g}", "about 0")
