"""The COCO layout (Lin et al. 2014): images in folders, annotations/*.json beside them.

Every JSON file that lists images is read: captions become an image's texts, in their order; categories of
objects become its label where all its objects are of one category, and it has no label otherwise. Images
that no file lists are passed over. Where files are named for both train and val or test, those are the
official split. Boxes and outlines are not used.
"""

from __future__ import annotations

import codecs
import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from safelight.config import UserError
from safelight.data import columns
from safelight.data.config import Data
from safelight.data.entries import classes_by_folder, file_items
from safelight.data.images import blamed
from safelight.data.source import HELD_OUT, TRAIN, BadItem, Items
from safelight.data.table import clean
from safelight.data.tree import Listing, Tree
from safelight.terminal import plain

CHUNK = 1 << 20  # bytes read at once
LARGEST = 1 << 28  # characters of one element; more of what is not JSON is not waited for
SPACE = " \t\n\r"
NUMBER_GOES_ON = ("", ".", "e", "E", "+", "-")  # after what is held of it
Id = int | str
SPLIT = re.compile(r"(train|val|test)\w*$")  # in captions_train2014.json: train2014


def elements(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """(key, element) of every array at the top of a JSON object, in order; (key, value) of what is no array.

    One element at a time: COCO's annotations may outgrow the memory. By hand, as ijson's prefixes take memory
    with the square of the depth: 100 kB of brackets end the process. Raises ValueError for anything else.
    """
    text = _Text(file)
    for _ in text.members("{", "}"):
        key = text.value()
        if not isinstance(key, str):
            raise ValueError(f"a key is {key!r}"[:80])
        text.expect(":")
        if text.peek() != "[":
            yield key, text.value()
            continue
        for _ in text.members("[", "]"):
            yield key, text.value()


class _Text:
    """The text of a file from a place on; only as much as a value needs is in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._held, self._place, self._ended = file, "", 0, False
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            while self._place < len(self._held) and self._held[self._place] in SPACE:
                self._place += 1
            if self._place < len(self._held) or not self._fill():
                return self._held[self._place : self._place + 1]

    def expect(self, character: str) -> None:
        """Go past a character. Raises ValueError where it is another."""
        if (held := self.peek()) != character:
            raise ValueError(f"expected {character!r}, found {held!r}" if held else "is cut off")
        self._place += 1

    def members(self, opening: str, closing: str) -> Iterator[None]:
        """Go through an object or array: a turn for each member, which the caller goes past."""
        self.expect(opening)
        more = self.peek() != closing
        while more:
            yield
            more = self.peek() != closing
            if more:
                self.expect(",")
        self.expect(closing)

    def value(self) -> Any:
        """Go past a value, and return it."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._held, self._place)
            except json.JSONDecodeError:
                if len(self._held) > LARGEST or not self._fill():
                    raise
                continue
            if self._held[end : end + 1] in NUMBER_GOES_ON and self._fill():
                continue
            self._place = end
            return value

    def _fill(self) -> bool:
        """Hold twice as much; False at the end."""
        if self._ended:
            return False
        self._held = self._held[self._place :]
        self._place = 0
        content = self._file.read(max(CHUNK, len(self._held)))
        self._ended = not content
        self._held += self._utf8.decode(content, final=self._ended)
        return not self._ended


@dataclass
class _Image:
    """The annotations of an image."""

    split: str  # train2014
    captions: list[tuple[int, str]] = field(default_factory=list)  # annotation id, text
    categories: set[Id] = field(default_factory=set)


def by_coco(tree: Tree, listing: Listing, config: Data) -> Items:
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
    used = [images[file] for file in files]
    sides = [TRAIN if image.split.startswith("train") else HELD_OUT for image in used]
    official = all(image.split for image in used) and len(set(sides)) == 2
    single = [categories.get(next(iter(image.categories))) if len(image.categories) == 1 else None
              for image in used]  # fmt: skip
    label = classes_by_folder(files) if config.label == "folder" else columns.label_by_name(single)
    unlisted = Counter({"image that the annotations do not list": len(known.difference(files))})
    return file_items(
        tree, config, files, {"label": label if config.labels else None},
        texts=[[text for _, text in sorted(image.captions)] for image in used],
        official=np.array(sides, np.int8) if official else None,
        bad=[*listing.bad, *(f"{file} ({reason})" for file, reason in sorted(missing.items()))],
        passed_over=listing.passed_over + unlisted,
    )  # fmt: skip


def _read(
    tree: Tree, name: str, known: frozenset[str], images: dict[str, _Image], categories: dict[Id, str],
    missing: dict[str, str],
) -> None:  # fmt: skip
    """Add the content of an annotation file. Annotations may come before their images."""
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
                        order = element.get("id")
                        captions.append((number, order if isinstance(order, int) else len(captions), caption))
                    case "annotations", {
                        "image_id": int() | str() as number,
                        "category_id": int() | str() as kind,
                    }:
                        objects.add((number, kind))
                    case "categories", {"id": int() | str() as number, "name": str(label)}:
                        categories[number] = clean(label)
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
    for number, order, caption in captions:
        if number in by_number and (text := clean(caption)):
            by_number[number].captions.append((order, text))
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
