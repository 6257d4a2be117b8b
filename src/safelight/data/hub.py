"""A data set of the Hugging Face Hub, or one that its library saved: pip install datasets.

Columns of images are the image and the mask, a ClassLabel or a column named label the class, and the rest
as in metadata.csv. Splits named train and test or validation are the official one. Nothing of the data
set is run: only its files are read, and images are decoded here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from safelight.config import UserError, install
from safelight.data import columns as condition
from safelight.data import table
from safelight.data.columns import ConditionColumn
from safelight.data.config import Data
from safelight.data.entries import file_items, split_by_name
from safelight.data.source import Items, Source, key
from safelight.data.table import Roles, Table
from safelight.data.tree import HubTree
from safelight.terminal import plain

if TYPE_CHECKING:
    from datasets import Dataset  # type: ignore[import-untyped, unused-ignore]


def hub(config: Data) -> Source:
    """The data set of data.path: downloaded once by `datasets`, into its own cache. Raises UserError."""
    splits = _load(config)
    files = {name: [file["filename"] for file in split.cache_files] for name, split in sorted(splits.items())}
    prints = tuple(splits[name]._fingerprint for name in files)
    slug = re.sub(r"[^\w.-]+", "-", config.place).strip("-")
    return Source(
        slug[-40:],
        key("hub", config.path, config.subset, config.revision, config.choices(), prints),
        lambda: _items(splits, HubTree(files), config),
    )


def _load(config: Data) -> dict[str, Dataset]:
    """The splits of the data set, by name."""
    try:
        from datasets import Dataset, load_dataset, load_from_disk
    except ImportError as error:
        raise UserError(f'data.source = "hub" needs the package datasets; run: {install("hub")}') from error
    path = config.place
    saved = any((Path(path) / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        more = {} if saved else {"name": config.subset, "revision": config.revision}
        loaded = (load_from_disk if saved else load_dataset)(path, **more)
    except Exception as error:  # of the library, of the network, and of whatever the files hold
        reason = plain(" ".join(str(error).split()))[:200] or type(error).__name__
        raise UserError(f"data.path: {path} cannot be loaded from the Hub ({reason})") from error
    loaded = {"all": loaded} if isinstance(loaded, Dataset) else loaded
    splits = {str(name): split for name, split in loaded.items()}
    if not splits or not all(split.cache_files for split in splits.values()):
        raise UserError(f"data.path: {path} holds nothing on disk; save it with save_to_disk")
    return splits


def _items(splits: Mapping[str, Dataset], tree: HubTree, config: Data) -> Items:
    from datasets import Image

    first = next(iter(splits.values()))
    images = [name for name, feature in first.features.items() if isinstance(feature, Image)]
    if not images:
        raise UserError(
            f"data.path: {config.place} has no column of images, only {', '.join(first.features)}"
        )
    places = [(name, row) for name in tree.files for row in range(len(splits[name]))]
    rows = _table(splits, tree, images)
    image = next((name for name in images if name not in (*table.MASK, config.mask)), images[0])
    roles = table.roles(rows, config, image)
    if roles.mask is not None and roles.mask not in images:
        raise UserError(f"data.mask: {roles.mask!r} is no column of images")
    digits = len(str(max(len(split) for split in splits.values())))
    names = [f"{split}/{row:0{digits}d}" for split, row in places]
    masked = rows.columns[roles.mask] if roles.mask else [False] * len(names)
    numbers, faults = table.numbers(rows, roles.attributes, roles.readers)
    if faults:
        raise UserError(plain(next(iter(faults.values()))))
    attributes = condition.attributes(numbers, roles.attributes) if roles.attributes else None
    items = file_items(
        tree, config, [f"{name}/{image}" for name in names],
        {"label": _label(first, rows, roles), "attributes": attributes},
        masks=[f"{name}/{roles.mask}" if mask else None for name, mask in zip(names, masked, strict=True)],
        texts=table.captions(rows, roles.texts),
        official=split_by_name([split for split, _ in places]),
    )  # fmt: skip
    return replace(items, names=names, groups=table.class_names(rows, roles.group) if roles.group else ())


def _table(splits: Mapping[str, Dataset], tree: HubTree, images: Sequence[str]) -> Table:
    """Every column that holds no images; of those, whether a cell has one."""
    columns: dict[str, list[Any]] = {}
    for name in tree.files:
        plain = splits[name].remove_columns([image for image in images if image in splits[name].features])
        for column in plain.features:
            columns.setdefault(column, []).extend(plain[column])
        for column in images:
            cells = splits[name].data.column(column)
            columns.setdefault(column, []).extend(cells.is_valid().to_pylist())
    where = [f"{name}, row {row}" for name in tree.files for row in range(len(splits[name]))]
    return Table(columns, where)


def _label(first: Dataset, rows: Table, roles: Roles) -> ConditionColumn | None:
    """The class of each row: by number where the library knows the names, otherwise by name."""
    from datasets import ClassLabel

    if roles.label is None:
        return None
    feature = first.features[roles.label]
    if isinstance(feature, ClassLabel):
        classes = [-1 if value is None else value for value in rows.columns[roles.label]]
        return condition.label(np.array(classes, np.int64), tuple(feature.names))
    return condition.label_by_name(table.class_names(rows, roles.label))
