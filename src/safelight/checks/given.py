"""The conditions of the training images: how many have them, how evenly, and whether they differ."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject
from safelight.data.pack import Pack

SECONDS = 5.0
FAST = True
ROWS = 4096  # drawn as training draws them
RARE, UNEVEN = 0.01, 0.1  # of an even share: below, a warning, a note
HALF = 0.5
MASKS = 500
WIDE = 10.0  # spread of an attribute, or its distance from 0, above which a network sees little else

RARE_CLASS = Code(
    "class-balance",
    "warning",
    "In up to 4,096 rows as training draws them, the rarest class has less than a hundredth of an even "
    "share; less than a tenth is a note. For masks: a class that no pixel has.",
    "a class that is rarely drawn is hardly learned",
    "add images of it, or draw the classes evenly",
)
FEW_GIVEN = Code(
    "condition-coverage",
    "warning",
    "Some training images lack a condition. Above half of them have it: a note. Also, far fewer images have"
    " all conditions than have the rarest.",
    "images that lack a condition are trained on as if they had none at all",
    "complete the metadata, or leave the condition out of [data]",
)
SAYS_NOTHING = Code(
    "condition-constant",
    "warning",
    "A column of attributes, or all pixels of 500 masks, have a single value",
    "a condition that is the same for every image cannot be learned",
    "leave it out of [data]",
)
OUT_OF_SCALE = Code(
    "condition-scale",
    "warning",
    "the mean or standard deviation of a column of attributes is beyond 10",
    "large numbers drown the others in the layer that takes them",
    "scale the column to [0, 1], or to mean 0 and standard deviation 1",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Each kind of condition in turn."""
    pack = subject.pack
    shares = {name: float(covered[pack.train].mean()) for name, covered in pack.covered.items()}
    for name, share in shares.items():
        if share < 1:
            yield FEW_GIVEN.finding(
                f"{name}: {share:.1%} of {len(pack.train):,} training images have it",
                "all of them",
                None if share < HALF else "note",
            )
    if len(shares) > 1:
        least = min(shares.values())
        all_of_them = float(pack.present[pack.train].mean())
        if all_of_them < HALF * least:
            yield FEW_GIVEN.finding(
                f"{all_of_them:.1%} of the training images have all of {', '.join(shares)}",
                f"about {least:.1%}, as many as have the rarest of them",
            )
    if "label" in pack.given:
        yield from _classes(subject, pack)
    if "mask" in pack.given:
        yield from _masks(pack)
    for name in ("attributes", "text"):
        if name in pack.given:
            yield from _vectors(pack, name)


def _classes(subject: Subject, pack: Pack) -> Iterator[Finding]:
    """As training draws them, which may be more even than the data."""
    _, size, names = pack.described["label"]
    count = min(ROWS, max(len(pack.train), 1))
    items = subject.streams(count).items(0, range(count))
    items = items[pack.covered["label"][items]]
    if not len(items) or size < 2:
        return
    shares = np.bincount(np.asarray(pack.given["label"])[items], minlength=size) / len(items)
    least = int(shares.argmin())
    if shares[least] * size < UNEVEN:
        title = names[least] if names else str(least)
        yield RARE_CLASS.finding(
            f"class {title} is {shares[least]:.2%} of {len(items):,} rows as training draws them, the most "
            f"frequent {shares.max():.1%}",
            f"near {1 / size:.1%} each",
            None if shares[least] * size < RARE else "note",
        )


def _masks(pack: Pack) -> Iterator[Finding]:
    size, names = pack.mask_classes, pack.described["mask"][2]
    items = pack.train[pack.covered["mask"][pack.train]]
    if not len(items):
        return
    items = items[np.linspace(0, len(items) - 1, min(MASKS, len(items))).astype(int)]
    counts = np.zeros(256, np.int64)
    for item in items:
        counts += np.bincount(pack.mask_numbers(item).ravel(), minlength=256)
    missing = [names[number] if names else str(number) for number in range(size) if not counts[number]]
    if missing:
        yield RARE_CLASS.finding(
            f"no pixel of {len(items):,} masks is of class {', '.join(missing[:3])}", "some of every class"
        )
    if np.count_nonzero(counts) == 1:
        yield SAYS_NOTHING.finding(
            f"all pixels of {len(items):,} masks are of one class", "classes that differ"
        )


def _vectors(pack: Pack, name: str) -> Iterator[Finding]:
    values = np.asarray(pack.given[name][: 100 * ROWS])
    if name == "attributes":
        values = np.asarray(pack.given[name])[pack.train[pack.covered[name][pack.train]]]
    if not len(values):
        return
    means, spreads = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    titles = pack.described[name][2] or tuple(map(str, range(values.shape[1])))
    flat = [title for title, spread in zip(titles, spreads, strict=True) if spread < 1e-6]
    if flat and (name == "attributes" or len(flat) == len(titles)):
        yield SAYS_NOTHING.finding(
            f"{name}: {', '.join(flat[:3])} is the same for every image", "values that differ"
        )
    far = np.flatnonzero(np.maximum(abs(means), spreads) > WIDE)
    if len(far) and name == "attributes":
        place = int(far[0])
        yield OUT_OF_SCALE.finding(
            f"{name}: {titles[place]} has mean {means[place]:.3g} and spread {spreads[place]:.3g}", "about 1"
        )
