"""The COCO layout (Lin et al. 2014): images in folders, annotations/*.json beside them.

Every JSON file that lists images is read: captions become an image's texts, in their order; the category of
its objects becomes its label where there is one alone, and it has no label otherwise. Outlines of objects
become a mask, numbered by category from 1 and 0 elsewhere; beside masks, labels are kept only where every
image has one. Images that no file lists are passed over. Where files are named for both train and val or
test, those are the official split. Boxes are not used.
"""

from __future__ import annotations

import codecs
import json
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

import numpy as np

from safelight.config import UserError
from safelight.data.cache import cache_dir
from safelight.data.entries import TEST_NAMES, Entries
from safelight.data.folders import Contents, by_folder
from safelight.data.images import blamed
from safelight.data.json_stream import CHUNK, elements
from safelight.data.masks import OUTLINES, is_outline
from safelight.data.source import HELD_OUT, TRAIN, BadItem, key
from safelight.data.table import clean
from safelight.data.tree import Tree
from safelight.terminal import plain

Id = int | str
BESIDE = re.compile(r".*\.coco\.json|annotations\.json|instances\w*\.json", re.IGNORECASE)
SPLIT = re.compile(r"(train|val|test)\w*$")  # in captions_train2014.json: train2014


@dataclass
class _Image:
    """The annotations of an image."""

    split: str  # train2014
    size: str = "0x0"  # height x width, where it is stated
    captions: list[tuple[int, str]] = field(default_factory=list)  # annotation id, text
    categories: set[Id] = field(default_factory=set)
    outlines: list[tuple[Id, int]] = field(default_factory=list)  # category, place in the file of outlines


@dataclass
class _Read:
    """What annotation files say. Outlines go to a file at once: they may outgrow the memory."""

    outlines: IO[bytes]
    images: dict[str, _Image] = field(default_factory=dict)
    categories: dict[Id, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    by_folder: bool = True  # whether train/ and valid/ that hold the annotation files are the split
    boxes: list[str] = field(default_factory=list)  # images of objects that have no outline


def coco_files(contents: Contents) -> list[str]:
    """The annotation files: annotations/*.json, or *.coco.json and its like beside the images."""
    listing = contents.listing
    if listing.annotations or contents.config.rules == 1:
        return listing.annotations
    return [
        name
        for name in listing.others
        if BESIDE.fullmatch(posixpath.basename(name)) and _lists_images(contents.tree, name)
    ]


def _lists_images(tree: Tree, name: str) -> bool:
    """Whether the beginning of a file looks like COCO's."""
    try:
        with tree.open(name) as file:
            head = file.read(CHUNK).removeprefix(codecs.BOM_UTF8).lstrip()
    except Exception:  # whoever reads it says what is wrong
        return False
    return head.startswith(b"{") and any(
        word in head for word in (b'"images"', b'"annotations"', b'"categories"')
    )


def by_coco(contents: Contents) -> Entries | None:
    """The images that annotation files list; None where there is no such file.

    Raises UserError where those cannot be understood.
    """
    tree, listing, config = contents.tree, contents.listing, contents.config
    names = coco_files(contents)
    if not names:
        return None
    known = frozenset(listing.images)
    path = cache_dir("outlines") / f"{key(contents.path, listing.digest, names)[:24]}.jsonl"
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            read = _Read(file, by_folder=config.rules > 1)
            for name in names:
                _read(tree, name, known, read)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    images, categories = read.images, read.categories
    if not images:
        where = ", ".join(names) or "annotations/*.json"
        raise UserError(f"{plain(where)[:200]}: lists no image that is there; expected COCO's annotations")
    files = sorted(images)
    used = [images[file] for file in files]
    sides = [TRAIN if image.split.startswith("train") else HELD_OUT for image in used]
    official = all(image.split for image in used) and len(set(sides)) == 2
    single = [categories.get(next(iter(image.categories))) if len(image.categories) == 1 else None
              for image in used]  # fmt: skip
    entries = Entries(
        files, single if config.labels else (), "numbers" if config.rules > 1 else "whole",
        texts=[[text for _, text in sorted(image.captions)] for image in used],
        sides=np.array(sides, np.int8) if official else None,
        bad=[*listing.bad, *(f"{file} ({reason})" for file, reason in sorted(read.missing.items()))],
        used=frozenset(names),
    )  # fmt: skip
    if config.labels and config.label == "folder":
        labels = by_folder(contents, files)
        entries = replace(entries, labels=labels.labels, order=labels.order)
    entries.notes.add_all("image that the annotations do not list", sorted(known.difference(files)))
    entries.notes.add_all("image of objects without outlines", sorted(read.boxes), "boxes are not used")
    if config.rules > 1 and config.mask is None and any(image.outlines for image in used):
        _paint(entries, used, categories, str(path))
    else:
        path.unlink(missing_ok=True)
    return entries


def _paint(entries: Entries, used: Sequence[_Image], categories: dict[Id, str], path: str) -> None:
    """Masks of the outlines, and labels only where every image has one."""
    order = sorted(categories, key=_order)
    classes = {category: number for number, category in enumerate(order, 1)}
    for image in used:
        image.outlines = [outline for outline in image.outlines if outline[0] in classes]
    entries.masks = [
        f"{OUTLINES}{image.size}:{','.join(f'{classes[kind]}@{at}' for kind, at in image.outlines)}:{file}"
        for file, image in zip(entries.files, used, strict=True)
    ]
    entries.outlines = path
    entries.mask_names = ("background", *(categories[category] for category in order))
    mixed = [file for file, image in zip(entries.files, used, strict=True) if len(image.categories) > 1]
    if mixed and entries.labels and not all(entries.labels):
        entries.notes.add_all("image of several categories", mixed, "masks hold them; labels are left out")
        entries.labels = ()


def _order(number: Id) -> tuple[int, str]:
    return (number, "") if isinstance(number, int) else (0, number)


def _read(tree: Tree, name: str, known: frozenset[str], read: _Read) -> None:
    """Add the content of an annotation file. Annotations may come before their images."""
    match = SPLIT.search(posixpath.basename(name).removesuffix(".json"))
    split = match.group() if match else ""
    root = posixpath.dirname(posixpath.dirname(name)) if _is_annotations(name) else posixpath.dirname(name)
    if not split and read.by_folder and posixpath.basename(root).lower() in ("train", *TEST_NAMES):
        split = posixpath.basename(root).lower()
    files: dict[Id, tuple[str, str]] = {}
    captions: list[tuple[Id, int, str]] = []
    objects: set[tuple[Id, Id]] = set()
    outlines: list[tuple[Id, Id, int]] = []
    try:
        with tree.open(name) as file:
            for section, element in elements(file):
                match section, element:
                    case "images", {"id": int() | str() as number, "file_name": str(file_name)}:
                        files[number] = file_name, _size(element)
                    case "annotations", {"image_id": int() | str() as number, "caption": str(caption)}:
                        order = element.get("id")
                        captions.append((number, order if isinstance(order, int) else len(captions), caption))
                    case "annotations", {
                        "image_id": int() | str() as number,
                        "category_id": int() | str() as kind,
                    }:
                        objects.add((number, kind))
                        if is_outline(element.get("segmentation")):
                            outlines.append((number, kind, read.outlines.tell()))
                            read.outlines.write(json.dumps(element["segmentation"]).encode() + b"\n")
                    case "categories", {"id": int() | str() as number, "name": str(label)}:
                        read.categories[number] = clean(label)
                    case (("images" | "annotations" | "categories"), dict()):
                        if section == "images" or "image_id" not in element:
                            raise BadItem(
                                f"an element of {section} lacks its id or file name: {element!r}"[:120]
                            )
    except Exception as error:  # of the disk, of an archive, or of what is no JSON
        raise UserError(f"{plain(name)}: is not COCO's annotations ({blamed(error, name)})") from error
    by_number = {}
    for number, (file_name, size) in files.items():
        path = _find(file_name, split, root, known)
        if path is None:
            read.missing[file_name] = f"{name} lists it, but it is not there"
        else:
            by_number[number] = read.images.setdefault(path, _Image(split))
            by_number[number].size = size
    for number, order, caption in captions:
        if number in by_number and (text := clean(caption)):
            by_number[number].captions.append((order, text))
    for number, category in objects:
        if number in by_number:
            by_number[number].categories.add(category)
    drawn = {number for number, _, _ in outlines}
    for number in {number for number, _ in objects} - drawn:
        if number in by_number:
            read.boxes.append(files[number][0])
    for number, category, place in outlines:
        if number in by_number:
            by_number[number].outlines.append((category, place))


def _is_annotations(name: str) -> bool:
    return posixpath.basename(posixpath.dirname(name)).lower() == "annotations"


def _size(image: dict[str, Any]) -> str:
    height, width = image.get("height"), image.get("width")
    good = all(type(side) is int and 0 < side < 1 << 15 for side in (height, width))
    return f"{height}x{width}" if good else "0x0"


def _find(file_name: str, split: str, root: str, known: frozenset[str]) -> str | None:
    """The image of that name, in the folders where COCO and its followers keep them."""
    for folder in ("", split, "images", f"images/{split}", f"{split}/images"):
        path = posixpath.normpath(posixpath.join(root, folder, file_name))
        if path in known:
            return path
    return None
