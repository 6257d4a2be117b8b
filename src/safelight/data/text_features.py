"""The text condition: features of captions, from a file or from a text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from safelight.config import UserError
from safelight.data import columns
from safelight.data.columns import ConditionColumn
from safelight.data.npz import Array, described, open_arrays
from safelight.data.source import Items, Note, Notes, Progress, Source, key, stamp
from safelight.terminal import plain

if TYPE_CHECKING:  # it imports torch
    from safelight.language import TextEncoder

ENCODED = 256  # texts at once
SHOWN = 60  # characters of a caption in a note


def with_features(source: Source, path: str) -> Source:
    """The source with the text condition of data.text_features. Raises UserError where there is no file."""
    state = stamp(Path(path), "data.text_features")

    def with_text() -> Items:
        items = source.items()
        column = text_column(f"data.text_features: {path}", open_arrays(path), items.names, items.texts)
        return replace(items, columns={**items.columns, "text": column})

    return replace(source, key=key(source.key, state), items=with_text)


def with_encoder(source: Source, encoder: TextEncoder, progress: Progress | None = None) -> Source:
    """The source with its captions' features as text condition. Raises UserError where there are no captions.

    They are computed once, when the pack is made, and kept in it.
    """

    def with_text() -> Items:
        items = source.items()
        captions = [text for texts in items.texts for text in texts]
        if not captions:
            raise UserError(
                f"data.text_encoder: {plain(source.name)} has no captions; take it out of the recipe"
            )
        features = np.zeros((len(captions), encoder.size), np.float32)
        places: dict[str, list[int]] = {}  # captions that come again are encoded once
        for place, text in enumerate(captions):
            places.setdefault(text, []).append(place)
        texts = list(places)
        for start in range(0, len(texts), ENCODED):
            part = texts[start : start + ENCODED]
            for text, row in zip(part, encoder.encode(part), strict=True):
                features[places[text]] = row
            if progress:
                progress(f"features of captions ({encoder.name})", start + len(part), len(texts))
        counts = np.array([len(texts) for texts in items.texts], np.int64)
        column = columns.text(features, _starts(counts))
        notes = (*items.notes, *text_notes(encoder, texts, features[[places[text][0] for text in texts]]))
        return replace(items, columns={**items.columns, "text": column}, notes=notes)

    parts = (source.key, encoder.digest, encoder.rule) if encoder.rule else (source.key, encoder.digest)
    return replace(source, key=key(*parts), items=with_text)


def text_notes(encoder: TextEncoder, texts: Sequence[str], features: NDArray[np.float32]) -> Iterator[Note]:
    """What an encoder loses of different texts (n): those cut, those without content, those alike.

    features: (n, T), of the texts.
    """
    notes = Notes()
    name = encoder.name
    if encoder.longest:
        for text in texts:
            if len(text) > encoder.longest and encoder.tokens(text) > encoder.longest:  # a token a character
                reason = "only their beginning counts"
                notes.add(f"caption cut at the {encoder.longest} tokens of {name}", _start(text), reason)
    same: dict[bytes, str] = {}
    for text, row in zip(texts, features, strict=True):
        if not text.strip() or not row.any():
            notes.add(f"caption without a word for {name}", _start(text), "trained as one and the same text")
        elif (other := same.setdefault(row.tobytes(), text)) is not text:
            pair = f"{_start(other)!r} and {_start(text)!r}"
            notes.add(f"caption alike to another for {name}", pair, "their words that count are the same")
    return iter(notes)


def _start(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 10]} ... {text[-5:]}"


def text_column(
    where: str, arrays: Mapping[str, Array], names: Sequence[str], texts: Sequence[Sequence[str]]
) -> ConditionColumn:
    """The text condition of N items with M captions from arrays computed before.

    One array holds a row for each caption (M, T) or each image (N, T), images in the order of their sorted
    names, or several for each image (N, K, T). `features` (n, T) or (n, K, T) beside `names` (n,) belong
    to the images of those names; others have no text. Raises UserError.
    """
    features = check_features(where, arrays)
    each = features.shape[1] if features.ndim == 3 else 1
    rows = features.reshape(-1, features.shape[-1])
    if "names" in arrays:
        places = _places(where, arrays["names"], len(features), names)
        listed = (places[places >= 0][:, None] * each + np.arange(each)).ravel()
        return columns.text(rows[listed], _starts((places >= 0) * each))
    captions = np.array([len(item) for item in texts] or [0], np.int64)
    if features.ndim == 2 and len(features) == captions.sum():
        return columns.text(rows, _starts(captions))
    if len(features) != len(names):
        raise UserError(
            f"{where} has {len(features)} rows for {len(names)} images and {captions.sum()} captions"
        )
    return columns.text(rows, _starts(np.full(len(names), each)))


def check_features(where: str, arrays: Mapping[str, Array]) -> Array:
    """The features among arrays: (n, T) or (n, K, T), finite. Raises UserError."""
    features = arrays.get("features", arrays.get("", np.zeros(0)))
    if features.dtype.kind != "f" or features.ndim not in (2, 3) or 0 in features.shape:
        content = plain(described(arrays))[:200] or "nothing"
        raise UserError(
            f"{where} holds {content}; expected floating-point features of (images, T), (captions, T) or "
            "(images, K, T)"
        )
    if not np.isfinite(features).all():
        raise UserError(f"{where} holds numbers that are not finite")
    return features


def _places(where: str, listed: Array, count: int, names: Sequence[str]) -> NDArray[np.int64]:
    """The row of each item (N,), -1 where it is not listed."""
    rows = {str(name): row for row, name in enumerate(listed.astype(str).ravel())}
    if len(rows) != count:
        raise UserError(f"{where} has {len(rows)} different names for {count} features")
    places = np.array([rows.get(name, -1) for name in names], np.int64)
    if places.max() < 0:
        raise UserError(f"{where} names none of the images; they are called {plain(names[0])} and so on")
    return places


def _starts(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where each item's rows begin, and the last ends: (N + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
