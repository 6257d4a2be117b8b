"""A text encoder that needs no training: a text is the sum of a fixed random vector for each run of words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from safelight.randomness import key

VERSION = 1  # of the vectors
RULE = "unicode 2"  # by which texts become words; 1 knew no combining marks, no CJK and no emoji
SIZE = 256  # features
LONGEST = 4  # words of a run
SILENT = frozenset(("a", "an", "the", "of", "is", "are", "to", "and", "with"))
UNSPACED = (  # scripts without spaces between words: every character is a word
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai, Lao, Burmese, Khmer
    *((0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF)),  # Japanese syllables
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),  # Han
)
FLAGS = (0x1F1E6, 0x1F1FF)  # letters of flags, which come in pairs
SKIN = (0x1F3FB, 0x1F3FF)
JOINER, SHOWN_AS = "\u200d", "\ufe0e\ufe0f"  # of emoji; as text or as picture, which says nothing


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Features (n, SIZE) of unit length; zeros for a text without words.

    Two texts are as similar as the runs of up to four words they share (a Johnson-Lindenstrauss projection of
    their counts). Word order counts: "red circle left" and "circle left blue" differ in which of two circles
    is the red one.
    """
    features = np.zeros((len(texts), SIZE), np.float32)
    for row, text in enumerate(texts):
        for run in runs(text):
            features[row] += _direction(run)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, np.float32(1e-12)), np.float32)


def runs(text: str) -> list[str]:
    """Every run of one to LONGEST words, in lower case, words that say little left out."""
    words = [word for word in split(text) if word not in SILENT]
    return [" ".join(words[start : start + length])
            for length in range(1, LONGEST + 1) for start in range(len(words) - length + 1)]  # fmt: skip


def split(text: str) -> list[str]:
    """The words of a text in lower case and NFC: letters and digits with their combining marks.

    Every character of a script without spaces is a word, and every emoji, with all that is joined to it.
    """
    return list(_words(unicodedata.normalize("NFC", text.lower())))


def _words(text: str) -> Iterator[str]:
    word, last = "", "space"  # last: the kind of the character before: letter, alone, emoji, flag or space
    for character in text:
        kind = "mark" if character == JOINER else _kind(character)
        if character in SHOWN_AS or (kind == "mark" and last == "space"):
            continue
        joined = word.endswith(JOINER) if last == "emoji" else kind == last == "letter"
        if kind == "mark" or joined or (kind == last == "flag" and len(word) == 1):
            word += character
            continue
        if word.strip(JOINER):
            yield word.strip(JOINER)
        word, last = ("" if kind == "space" else character), kind
    if word.strip(JOINER):
        yield word.strip(JOINER)


def _kind(character: str) -> str:
    number = ord(character)
    if number >= 128:  # ASCII holds none of these
        category = unicodedata.category(character)
        if category.startswith("M") or SKIN[0] <= number <= SKIN[1]:
            return "mark"
        if FLAGS[0] <= number <= FLAGS[1]:
            return "flag"
        if category == "So":
            return "emoji"
        if any(first <= number <= last for first, last in UNSPACED) and character.isalnum():
            return "alone"
    return "letter" if character.isalnum() else "space"


@lru_cache(maxsize=100_000)
def _direction(run: str) -> NDArray[np.float32]:
    """A random vector of about unit length, by name."""
    chance = np.random.Generator(np.random.Philox(key=key("words", VERSION, run)))
    vector: NDArray[np.float32] = chance.standard_normal(SIZE, np.float32)
    return vector * np.float32(SIZE**-0.5)
