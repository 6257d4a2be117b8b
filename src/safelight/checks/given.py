"""The conditions of the training images: how many have them, how evenly, and whether they say anything."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject
from safelight.data.pack import Pack

SECONDS = 5.0
FAST = True
ROWS = 4096  # drawn as training draws them
RARE, UNEVEN = 0.01, 0.1  # of an even share: told as a warning, as a note
HALF = 0.5
MASKS = 500
WIDE = 10.0  # spread of an attribute, or its distance from 0, above which a network sees little else

RARE_CLASS = Code(
    "class-balance",
    "warning",
    "a class that is hardly drawn is hardly learned",
    "add images of it, or draw the classes evenly",
)
FEW_GIVEN = Code(
    "condition-coverage",
    "warning",
    "images without all of their conditions are trained on as if they had none",
    "complete the metadata, or leave the condition out of [data]",
)
SAYS_NOTHING = Code(
    "condition-constant",
    "warning",
    "a condition that is the same for every image cannot be followed",
    "leave it out of [data]",
)
OUT_OF_SCALE = Code(
    "condition-scale",
    "warning",
    "numbers far from 1 drown the others in the layer that takes them",
    "scale the column to [0, 1], or to mean 0 and spread 1",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Each kind of condition in turn."""
    pack = subject.pack
    for name, covered in pack.covered.items():
        share = float(covered[pack.train].mean())
        if share < 1:
            yield FEW_GIVEN.found(
                f"{name}: {share:.1%} of {len(pack.train):,} training images have it", "all of them",
                severity=None if share < HALF else "note",
            )  # fmt: skip
    if len(pack.covered) > 1:
        alone = min(float(own[pack.train].mean()) for own in pack.covered.values())
        both = float(pack.present[pack.train].mean())
        if both < HALF * alone:
            yield FEW_GIVEN.found(
                f"{both:.1%} of the training images have all of {', '.join(pack.covered)}",
                f"about {alone:.1%}, as many as have the rarest of them",
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
        yield RARE_CLASS.found(
            f"class {title} is {shares[least]:.2%} of {len(items):,} rows as training draws them, the most "
            f"frequent {shares.max():.1%}",
            f"near {1 / size:.1%} each",
            severity=None if shares[least] * size < RARE else "note",
        )


def _masks(pack: Pack) -> Iterator[Finding]:
    _, size, names = pack.described["mask"]
    items = pack.train[pack.covered["mask"][pack.train]]
    items = items[np.linspace(0, len(items) - 1, min(MASKS, len(items))).astype(int)] if len(items) else items
    if not len(items):
        return
    counts = np.zeros(256, np.int64)
    for item in items:
        counts += np.bincount(np.asarray(pack.given["mask"][item]).ravel(), minlength=256)
    missing = [names[number] if names else str(number) for number in range(size) if not counts[number]]
    if missing:
        yield RARE_CLASS.found(
            f"no pixel of {len(items):,} masks is of class {', '.join(missing[:3])}", "some of every class"
        )
    if np.count_nonzero(counts) == 1:
        yield SAYS_NOTHING.found(
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
        yield SAYS_NOTHING.found(
            f"{name}: {', '.join(flat[:3])} is the same for every image", "values that differ"
        )
    far = [title for title, mean, spread in zip(titles, means, spreads, strict=True)
           if max(abs(mean), spread) > WIDE]  # fmt: skip
    if far and name == "attributes":
        place = list(titles).index(far[0])
        yield OUT_OF_SCALE.found(
            f"{name}: {far[0]} has mean {means[place]:.3g} and spread {spreads[place]:.3g}", "about 1"
        )
