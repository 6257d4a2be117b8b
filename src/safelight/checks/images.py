"""The training images: their range, constant channels, copies, and images that are also held out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject
from safelight.data.pack import Pack

SECONDS = 5.0
FAST = True
SAMPLED = 1000  # images, evenly over the training set
NUMBERS = 2**26  # bytes that are read, at most
NARROW = 32  # grey levels
COPIES, LEAKED = 0.01, 0.01  # shares of the images above which it is more than a note

CONSTANT = Code(
    "channel-constant",
    "warning",
    "All pixels of a channel are equal in up to 1,000 training images. Three equal channels are a note.",
    "a constant channel costs capacity and carries nothing",
    "drop it: data.channels=1 for grey images saved as colour, no alpha channel",
)
RANGE = Code(
    "image-range",
    "error",
    "the smallest and largest pixel of up to 1,000 images are fewer than 32 grey levels apart",
    "images with few grey levels are nearly constant in [-1, 1]: the loss is small and the samples are blank",
    "scale the files to 0..255; arrays in [0, 1] were rounded to integers somewhere",
)
COPIED = Code(
    "images-copied",
    "warning",
    "Training images have equal digests. Below 1 % it is a note.",
    "copies are seen more often than the rest, and memorised",
    "remove them, or set data.without to all but one of each; `safelight data inspect` names some",
)
LEAKED_CODE = Code(
    "held-out-leaked",
    "warning",
    "Digests of held-out images, or their groups (data.group), equal those of training images. Below 1 % it "
    "is a note. Happens only where the data has its split from elsewhere, or copies lie in different groups: "
    "safelight keeps copies, or groups, together.",
    "held-out losses and evaluations are too good on images that were trained on",
    "remove the images from one side, or split by data.held_out, which keeps copies together; data.group "
    "keeps all images of a person or thing together",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Pixels of some training images, digests of all."""
    pack = subject.pack
    count = min(SAMPLED, max(16, NUMBERS // max(1, pack.images[0].size)), len(pack.train))
    chosen = pack.train[np.linspace(0, len(pack.train) - 1, count).astype(int)]
    yield from _range(np.stack([pack.images[item] for item in np.unique(chosen)]))
    yield from _copies(pack)


def _range(pixels: NDArray[np.uint8]) -> Iterator[Finding]:
    low, high = int(pixels.min()), int(pixels.max())
    if high - low < NARROW:
        yield RANGE.finding(f"pixels from {low} to {high} in {len(pixels):,} images", "most of 0 to 255")
        return
    flat = [channel for channel in range(pixels.shape[3]) if np.ptp(pixels[..., channel]) == 0]
    for channel in flat:
        value = int(pixels[0, 0, 0, channel])
        yield CONSTANT.finding(
            f"channel {channel} is {value} in every pixel of {len(pixels):,} images", "images that differ"
        )
    if pixels.shape[3] == 3 and not flat and bool((pixels == pixels[..., :1]).all()):
        yield CONSTANT.finding(
            f"all three channels of {len(pixels):,} images are equal", "colour, or one channel", "note"
        )


def _copies(pack: Pack) -> Iterator[Finding]:
    digests = _digests(pack)
    if digests is None:
        return
    train = digests[pack.train]
    copies = len(train) - len(np.unique(train))
    if copies:
        _, first, times = np.unique(train, return_index=True, return_counts=True)
        most = int(times.argmax())
        name = pack.names[pack.train[first[most]]]
        words = f"{copies:,} of {len(train):,} training images are copies of others"
        words += f"; {name} is there {times[most]:,} times"
        yield COPIED.finding(words, "none", None if copies > COPIES * len(train) else "note")
    shared = {"are also trained on": digests}
    if pack.groups is not None:
        shared["are of a group (data.group) that is also trained on"] = pack.groups
    for words, numbers in shared.items():
        leaked = int(np.isin(numbers[pack.held_out], numbers[pack.train]).sum())
        if leaked:
            few = leaked <= LEAKED * len(pack.held_out)
            words = f"{leaked:,} of {len(pack.held_out):,} held-out images {words}"
            yield LEAKED_CODE.finding(words, "none", "note" if few else None)


def _digests(pack: Pack) -> NDArray[np.uint64] | None:
    """(N,) half of every item's digest; two items share it by chance once in 2**64."""
    try:
        digests: NDArray[np.uint64] = np.load(pack.folder / "digests.npy", mmap_mode="r")
    except OSError:
        return None
    return np.asarray(digests[:, 0])
