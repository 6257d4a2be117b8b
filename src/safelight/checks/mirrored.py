"""Whether mirrored images still are what their captions and classes say; whether there are enough of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject
from safelight.data.pack import Pack

SECONDS = 2.0
FAST = True
SIDES = re.compile(
    r"\b(left|right|leftmost|rightmost|clockwise|links|rechts|gauche|droite|izquierda|derecha)\b",
    re.IGNORECASE,
)
EITHER = re.compile(
    r"\b(all right|right (?:now|there|here|away)|left ?overs?|bill of rights)\b", re.IGNORECASE
)
NAMED = 0.01  # share of captions above which it is more than a note
TINY = 32  # training images below which nothing but these is learned
HASHED = 20_000  # images, at most
NEAR = 4  # bits of 64 that near copies differ in, at most
FLAT = 4  # grey levels between neighbours, on average, below which a hash says nothing

FLIP = Code(
    "flip-against-captions",
    "warning",
    "Training mirrors images (`data.flip`), and captions say left or right, or a class mirrored is another "
    "one (left and right, b and d). Below 1 % of the captions it is a note.",
    "a mirrored image under its old caption or class teaches that left and right are the same",
    "set data.flip=false",
)
FEW = Code(
    "few-images",
    "warning",
    "fewer than 32 images are trained on",
    "a generator of so few images repeats them",
    "add images, or expect copies",
)
NEAR_COPIES = Code(
    "near-copies",
    "note",
    "Images have difference hashes (Krawetz 2013) that are at most 4 of 64 bits apart, and are no copies. A"
    " warning where more than one in twenty held-out images has such a pair among those trained on. Where "
    "there are more pairs than images nothing is said: drawn images are all alike.",
    "near copies, such as frames of one film, are memorised, and make held-out losses too good",
    "keep one of each, or keep them on one side of the split",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Captions and classes against data.flip, the number of images, and perceptual hashes."""
    pack = subject.pack
    if any(view.mirrored for view in subject.streams(1).views.all):
        yield from _captions(pack)
        yield from _classes(pack)
    if len(pack.train) < TINY:
        yield FEW.finding(f"{len(pack.train)} images to train on", f"{TINY} or more, better thousands")
    yield from _near(pack)


def _captions(pack: Pack) -> Iterator[Finding]:
    if not pack.texts:
        return
    texts = [text for item in pack.train for text in pack.texts[item]]
    sided = [text for text in texts if SIDES.search(EITHER.sub("", text))]
    if sided:
        yield FLIP.finding(
            f"data.flip mirrors images, and {len(sided):,} of {len(texts):,} captions say left or "
            f"right, such as {sided[0][:80]!r}",
            "none, or no mirroring",
            None if len(sided) > NAMED * len(texts) else "note",
        )


def _classes(pack: Pack) -> Iterator[Finding]:
    """Pairs of classes that are each other with left and right exchanged."""
    swap = {"left": "right", "right": "left", "b": "d", "d": "b", "p": "q", "q": "p"}
    for kind, _, names in pack.described.values():
        if kind != "label":
            continue
        known = {name.lower() for name in names}
        for name in sorted(known):
            other = re.sub(r"[a-z]+", lambda word: swap.get(word[0], word[0]), name)
            if other != name and other in known:
                yield FLIP.finding(
                    f"data.flip mirrors images, and {name!r} mirrored is {other!r}", "no such classes"
                )
                return


def difference_hashes(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The difference hash (Krawetz 2013) of images (n, H, W, C): whether 9x8 means grow to the right.

    0 for images too flat to say.
    """
    grey = images.astype(np.float32).mean(-1)
    rows, columns = (np.linspace(0, grey.shape[axis], n + 1).astype(int)[:-1] for axis, n in ((1, 8), (2, 9)))
    height = np.diff(np.append(rows, grey.shape[1])).clip(1)
    width = np.diff(np.append(columns, grey.shape[2])).clip(1)
    cells = np.add.reduceat(np.add.reduceat(grey, rows, 1), columns, 2) / (height[:, None] * width)
    steps = np.diff(cells, axis=2)
    bits = np.packbits((steps > 0).reshape(len(images), 64), axis=1)
    hashes = bits.view("<u8")[:, 0]
    return np.where(np.abs(steps).mean((1, 2)) < FLAT, np.uint64(0), hashes).astype(np.uint64)


def near_pairs(hashes: NDArray[np.uint64], most: int = NEAR) -> NDArray[np.int64]:
    """Pairs (n, 2) of items whose hashes differ in at most so many bits, fewer than 8; 0 is like none.

    Two that differ in k bits share one of k + 1 parts, so that only items that share a part are compared.
    """
    pairs: set[tuple[int, int]] = set()
    edges = np.linspace(0, 64, most + 2).astype(int)
    for begin, end in pairwise(edges.tolist()):
        parts = (hashes >> np.uint64(begin)) & np.uint64((1 << (end - begin)) - 1)
        same: dict[int, list[int]] = defaultdict(list)
        for item in np.flatnonzero(hashes).tolist():
            same[int(parts[item])].append(item)
        for items in same.values():
            group = np.array(items[:1000])
            for place, item in enumerate(group[:-1]):
                rest = group[place + 1 :]
                near = rest[np.bitwise_count(hashes[rest] ^ hashes[item]) <= most]
                pairs |= {(int(item), int(other)) for other in near}
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def _near(pack: Pack) -> Iterator[Finding]:
    """Images that look alike and are no copies, and how many of them stand on both sides of the split."""
    if min(pack.images.shape[1:3]) < 9:
        return
    items = np.sort(np.concatenate([pack.train, pack.held_out]))[:HASHED]
    hashes = np.concatenate([difference_hashes(pack.images[items[start : start + 256]])
                             for start in range(0, len(items), 256)])  # fmt: skip
    pairs = items[near_pairs(hashes)]
    if not len(pairs) or len(pairs) > len(items):  # drawn things are all alike; nothing can be said
        return
    names, held = pack.names, set(pack.held_out.tolist())
    pairs = np.array(
        [pair for pair in pairs if not np.array_equal(pack.images[pair[0]], pack.images[pair[1]])]
    )
    if not len(pairs):
        return
    across = sum((int(first) in held) != (int(second) in held) for first, second in pairs)
    first = f"{names[pairs[0][0]]} and {names[pairs[0][1]]}"
    yield NEAR_COPIES.finding(
        f"{len(pairs):,} pairs of {len(items):,} images look alike, such as {first}; {across:,} pairs have "
        "one held out",
        "none",
        "warning" if across > max(1, 0.05 * len(held)) else "note",
    )
