"""Every layout of a folder has to survive every quirk, with what it says and nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import data.mask_layouts  # noqa: F401 (registers its layouts)
from data.folder_layouts import LAYOUTS
from data.folder_maker import COUNT, Maker, Said, mask
from data.folder_quirks import QUIRKS
from safelight.data import find_source
from safelight.data.config import Data
from safelight.data.source import HELD_OUT, Items


def items_of(path: Path | list[Path], **keys: object) -> Items:
    where = [str(each) for each in path] if isinstance(path, list) else str(path)
    return find_source(Data.model_validate({"path": where, **keys})).items()


def check(items: Items, said: Said) -> None:
    """Everything that the layout says, and nothing else, of every picture."""
    assert not list(items.bad)
    pixels = [items.reader.read(item) for item in range(len(items.names))]
    numbers = [(int(each.image[0, 0, 0]) - 20) // 30 for each in pixels]
    assert sorted(numbers) == list(range(COUNT))
    label = items.columns.get("label")
    if said.labels:
        assert label is not None
        assert [label.names[place] for place in label.values] == [said.labels[number] for number in numbers]
        assert label.names == (said.order or tuple(sorted({name for name in said.labels if name})))
    elif not said.masked:  # objects of one category may be a label too
        assert label is None
    wanted = [said.captions[number] if said.captions else () for number in numbers]
    assert [tuple(each) for each in items.texts] == (wanted if said.captions else [])
    assert (items.masks is not None) == said.masked
    if said.masked:
        for number, each in zip(numbers, pixels, strict=True):
            np.testing.assert_array_equal(each.mask, np.where(mask(number), 1, said.over))
    attributes = items.columns.get("attributes")
    assert (attributes.names if attributes else ()) == tuple(said.attributes)
    for place, values in enumerate(said.attributes.values()):
        assert attributes is not None
        got = attributes.values[:, place]
        np.testing.assert_allclose(got, [values[number] for number in numbers], rtol=1e-6)
    if said.held_out:
        assert items.official is not None
        held = [number for number, side in zip(numbers, items.official, strict=True) if side == HELD_OUT]
        assert sorted(held) == sorted(said.held_out)
    else:
        assert items.official is None
    weights = getattr(items, "weights", None)
    if said.weights:
        assert weights is not None
        assert [float(weight) for weight in weights] == [said.weights[number] for number in numbers]
    else:
        assert weights is None


TABLE = [
    (layout, quirk)
    for layout, quirk in itertools.product(LAYOUTS, QUIRKS)
    if not (layout == "web_dataset" and quirk.startswith(("zipped", "as_tar")))
]  # an archive in another


@pytest.mark.parametrize(("layout", "quirk"), TABLE)
def test_what_a_folder_says_is_read(tmp_path: Path, layout: str, quirk: str) -> None:
    manner, after = QUIRKS[quirk]
    maker = Maker(tmp_path / "photos", **manner)
    maker.folder.mkdir()
    said = LAYOUTS[layout](maker)
    check(items_of(after(maker.folder), **said.keys), said)


def test_the_table_is_large_enough() -> None:
    assert len(TABLE) >= 400
