"""Images in a folder or a zip archive: which layout they are in, and how classes follow from subfolders."""

from __future__ import annotations

from pathlib import Path

from safelight.config import UserError
from safelight.data.coco import by_coco
from safelight.data.config import Data
from safelight.data.entries import Entries, classes_by_folder, items_of, split_by_folder
from safelight.data.metadata import by_metadata
from safelight.data.source import Items, Source, key
from safelight.data.tree import SUFFIXES, Listing, Tree, open_tree

LAYOUTS = {"classes": "class folders", "metadata": "metadata beside the images", "coco": "COCO annotations"}


def folder(config: Data) -> Source:
    """The images below data.path. Raises UserError where there are none."""
    assert config.path is not None
    tree = open_tree(config.path, config.follow_links)
    listing = tree.scan()
    if not listing.images:
        bad = f" ({listing.bad[0]})" if listing.bad else ""
        kinds = " ".join(SUFFIXES)
        raise UserError(f"data.path: {config.path} holds no image{bad}; looked for {kinds}")
    chosen = layout(config, listing)
    choices = config.model_dump(
        include={"size", "channels", "labels", "label", "attributes", "mask", "mask_classes", "text"}
    )
    if config.attribute_range or config.need_attributes:  # of older packs' keys there is nothing to say
        choices["which attributes"] = (config.attribute_range, config.need_attributes)
    parts = (chosen, sorted(choices.items()), str(tree.describe()), listing.digest)
    name = Path(config.path).name.removesuffix(".zip") or "folder"
    return Source(name, key("folder", *parts), lambda: items(tree, listing, config))


def items(tree: Tree, listing: Listing, config: Data) -> Items:
    """The images of a listing with all that is known of them. Raises UserError."""
    match layout(config, listing):
        case "metadata":
            entries = by_metadata(tree, listing, config)
        case "coco":
            entries = by_coco(tree, listing, config)
        case _:
            entries = by_subfolder(listing, config)
    if not entries.files:
        first = f", first {entries.bad[0]}" if entries.bad else ""
        raise UserError(f"data.path: {config.path}: none of the images named there can be taken{first}")
    return items_of(tree, entries, config)


def layout(config: Data, listing: Listing) -> str:
    """The layout asked for, or the one that is there. Raises UserError where the two disagree."""
    there = "metadata" if listing.metadata else "coco" if listing.annotations else "classes"
    chosen = there if config.layout == "auto" else config.layout
    if chosen == "metadata" and not listing.metadata:
        raise UserError(
            f"data.layout: {config.path} has no metadata.csv or metadata.jsonl; set data.layout=auto"
        )
    if chosen == "coco" and not listing.annotations:
        raise UserError(f"data.layout: {config.path} has no annotations/*.json; set data.layout=auto")
    if chosen != "metadata" and (column := config.column()):
        raise UserError(
            f"data.{column}: names a column, but {config.path} has no metadata.csv or metadata.jsonl "
            f"that is used ({LAYOUTS[chosen]})"
        )
    return chosen


def by_subfolder(listing: Listing, config: Data) -> Entries:
    """Every image, with the first subfolder as its class."""
    below, sides = split_by_folder(listing.images)
    label = classes_by_folder(below) if config.labels else None
    return Entries(listing.images, label, official=sides, bad=listing.bad, passed_over=listing.passed_over)
