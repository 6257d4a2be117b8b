"""The COCO layout (Lin et al. 2014): images in folders, annotations/*.json beside them.

Every JSON file that lists images is read: captions become an image's texts, in their order; categories of
objects become its label where all its objects are of one category, and it has no label otherwise. Images
that no file lists are passed over. Where files are named for both train and val or test, those are the
official split. Boxes and outlines are not used.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from safelight.config import UserError
from safelight.data import condition
from safelight.data.config import Data
from safelight.data.entries import Entries, classes_by_folder
from safelight.data.jsonstream import elements
from safelight.data.reader import blamed
from safelight.data.source import HELD_OUT, TRAIN, BadItem
from safelight.data.tree import Listing, Tree
from safelight.terminal import plain

Id = int | str
SPLIT = re.compile(r"(train|val|test)\w*$")  # in captions_train2014.json: train2014


@dataclass
class _Image:
    """What the annotations say of one image."""

    split: str  # train2014
    captions: list[tuple[int, str]] = field(default_factory=list)  # annotation id, text
    categories: set[Id] = field(default_factory=set)


def by_coco(tree: Tree, listing: Listing, config: Data) -> Entries:
    """The images that annotation files list. Raises UserError where those cannot be understood."""
    images: dict[str, _Image] = {}
    categories: dict[Id, str] = {}
    missing: dict[str, str] = {}
    known = frozenset(listing.images)
    for name in listing.annotations:
        _read(tree, name, known, images, categories, missing)
    if not images:
        where = ", ".join(listing.annotations) or "annotations/*.json"
        raise UserError(f"{plain(where)[:200]}: lists no image that is there; expected COCO's annotations")
    files = sorted(images)
    found = [images[file] for file in files]
    sides = [TRAIN if image.split.startswith("train") else HELD_OUT for image in found]
    official = all(image.split for image in found) and len(set(sides)) == 2
    only = [
        categories.get(next(iter(image.categories))) if len(image.categories) == 1 else None
        for image in found
    ]
    label = classes_by_folder(files) if config.label == "folder" else condition.label_by_name(only)
    unlisted = Counter({"image that the annotations do not list": len(known.difference(files))})
    return Entries(
        files=files,
        label=label if config.labels else None,
        texts=[[text for _, text in sorted(image.captions)] for image in found],
        official=np.array(sides, np.int8) if official else None,
        bad=[*listing.bad, *(f"{file} ({reason})" for file, reason in sorted(missing.items()))],
        passed_over=listing.passed_over + unlisted,
    )


def _read(
    tree: Tree,
    name: str,
    known: frozenset[str],
    images: dict[str, _Image],
    categories: dict[Id, str],
    missing: dict[str, str],
) -> None:
    """Take in one annotation file. Annotations may stand before the images they speak of."""
    match = SPLIT.search(posixpath.basename(name).removesuffix(".json"))
    split = match.group() if match else ""
    root = posixpath.dirname(posixpath.dirname(name))
    files: dict[Id, str] = {}
    captions: list[tuple[Id, int, str]] = []
    objects: set[tuple[Id, Id]] = set()
    try:
        with tree.open(name) as file:
            for section, element in elements(file):
                match section, element:
                    case "images", {"id": int() | str() as number, "file_name": str(file_name)}:
                        files[number] = file_name
                    case "annotations", {"image_id": int() | str() as number, "caption": str(caption)}:
                        own = element.get("id")
                        captions.append((number, own if isinstance(own, int) else len(captions), caption))
                    case "annotations", {
                        "image_id": int() | str() as number,
                        "category_id": int() | str() as category,
                    }:
                        objects.add((number, category))
                    case "categories", {"id": int() | str() as number, "name": str(label)}:
                        categories[number] = _clean(label)
                    case (("images" | "annotations" | "categories"), dict()):
                        if section == "images" or "image_id" not in element:
                            raise BadItem(
                                f"an element of {section} lacks its id or file name: {element!r}"[:120]
                            )
    except Exception as error:  # of the disk, of an archive, or of what is no JSON
        raise UserError(f"{plain(name)}: is not COCO's annotations ({blamed(error, name)})") from error
    by_number = {}
    for number, file_name in files.items():
        path = _find(file_name, split, root, known)
        if path is None:
            missing[file_name] = f"{name} lists it, but it is not there"
        else:
            by_number[number] = images.setdefault(path, _Image(split))
    for number, own, caption in captions:
        if number in by_number and (text := _clean(caption)):
            by_number[number].captions.append((own, text))
    for number, category in objects:
        if number in by_number:
            by_number[number].categories.add(category)


def _find(file_name: str, split: str, root: str, known: frozenset[str]) -> str | None:
    """The image of that name, in the folders where COCO and its followers keep them."""
    for folder in ("", split, "images", f"images/{split}", f"{split}/images"):
        path = posixpath.normpath(posixpath.join(root, folder, file_name))
        if path in known:
            return path
    return None


def _clean(text: str) -> str:
    return text.strip().encode("utf-8", "replace").decode()
