"""Data: sources, packs that are decoded once, and batches as a function of the step.

Importing this is cheap; torch, Pillow and scikit-learn are imported where data are opened.
"""

from __future__ import annotations

import os
import stat
from importlib import import_module
from typing import TYPE_CHECKING

from safelight import files
from safelight.config import UserError
from safelight.data.config import EMBEDDED, Data

if TYPE_CHECKING:
    from safelight.data.pack import Pack
    from safelight.data.source import Progress, Source

__all__ = ["Data", "check_named", "find_source", "open_data"]


def open_data(config: Data, progress: Progress | None = None, processes: int | str | None = None) -> Pack:
    """The data as a pack: from the cache, or downloaded, decoded and packed now.

    progress: called with the work, how much of it is done, and of how much.
    processes: that decode, or where, see `fanout.pool`; by default one for each core, where that is worth it.
    Raises UserError naming the key or file to mend.
    """
    if config.buckets:
        from safelight.data.bucketed import open_buckets

        return open_buckets(find_source(config, progress), config, progress, processes)
    from safelight.data.packing import open_pack

    pack = open_pack(find_source(config, progress), config.held_out, config.skip_bad, progress, processes)
    if config.clusters:
        from safelight.data.clusters import with_clusters

        pack = with_clusters(pack, config.clusters)
    return pack


def find_source(config: Data, progress: Progress | None = None) -> Source:
    """Where the items come from, not yet decoded; downloads what is missing. Raises UserError."""
    source = _source(config, progress)
    if config.shuffle_tags:
        from safelight.data.captions import with_orders

        source = with_orders(source, config.shuffle_tags, config.keep_tags)
    if config.text_features:
        from safelight.data.text_features import with_features

        source = with_features(source, config.text_features)
    if config.text_encoder:
        from safelight.data.text_features import with_encoder
        from safelight.language import open_encoder

        source = with_encoder(source, open_encoder(config.text_encoder), progress)
    return source


def check_named(config: Data) -> None:
    """Raises UserError where a path is needed and none is given: a shipped recipe leaves it to its user."""
    if config.source in ("folder", "idx", "arrays", "hub") and not config.path:
        needed = "owner/name of the data set" if config.source == "hub" else "where the images are"
        raise UserError(f'data.source: "{config.source}" needs data.path, {needed}')


def _require_file(path: str) -> None:
    """Raises UserError for what is neither a file nor a folder: a pipe never answers, a device never ends."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # whoever opens it says what is wrong
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"data.path: {path} is {files.kind(mode)}; give a file or a folder")


def _source(config: Data, progress: Progress | None) -> Source:
    from safelight.data import arrays, digits, hub, idx, layouts

    columnless = {*EMBEDDED, "mnist", "fashion-mnist", "idx"} - {"faces"}
    if config.source in columnless and (column := config.column()):
        raise UserError(f"data.{column}: names a column, but {config.source} has none")
    check_named(config)
    if config.group and not (
        config.source == "folder" or (config.source == "hub" and config.grouped_by_column)
    ):
        raise UserError(
            f"data.group: {config.source} has none; expected a folder, or a column of a Hub data set"
        )
    if config.crop == "random" and config.source not in ("folder", "hub"):
        raise UserError(f'data.crop: "random" is for folders, archives and the Hub, not for {config.source}')
    if len(config.paths) > 1 and config.source != "folder":
        raise UserError(f"data.path: {config.source} takes one path; several are for folders and archives")
    if config.source != "hub":
        for path in config.paths:
            _require_file(path)
    match config.source:
        case "digits":
            return digits.digits(config)
        case "shapes" | "skylines" | "faces" | "tissue" as name:  # their draws are keyed, which imports torch
            drawn: Source = getattr(import_module(f"safelight.data.synthetic.{name}"), name)(config)
            return drawn
        case "mnist":
            return idx.published(idx.MNIST, config, progress)
        case "fashion-mnist":
            return idx.published(idx.FASHION_MNIST, config, progress)
        case "idx":
            return idx.idx(config)
        case "arrays":
            return arrays.arrays(config)
        case "hub":
            return hub.hub(config)
        case "folder":
            return layouts.folder(config)
