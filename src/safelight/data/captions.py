"""Captions beside pictures, in their names, and tags in several orders."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from safelight.config import UserError
from safelight.data.entries import Entries
from safelight.data.folders import Contents
from safelight.data.images import blamed
from safelight.data.listing import suffix_of
from safelight.data.source import Items, Source, key
from safelight.data.table import TEXT, clean
from safelight.data.table_files import text_of
from safelight.terminal import plain

ENDINGS = (".txt", ".caption", ".json", ".cls")
FOLDERS = {"captions", "caption", "texts", "text", "txt", "tags", "prompts"}  # beside images/
NUMBERS = re.compile(r"[\d\s.,+\-eE]*")  # boxes or outlines, no words
KEYS = ("prompt", "description", "title")  # of a JSON file, where it has no text or caption
CAMERAS = {"img", "dsc", "dscf", "dscn", "pxl", "p", "image", "photo", "picture", "screenshot", "untitled"}
SETTINGS = re.compile(r"Steps: \d+, ")
NUMBERED = re.compile(r"[ _-]*(\(\d+\)|\d+)$")  # at the end of a file's name


def beside(contents: Contents) -> dict[str, list[str]]:
    """The files beside each image that may hold its captions: x.txt or x.png.txt, also in captions/."""
    if contents.config.rules == 1 or contents.config.captions not in ("auto", "sidecar"):
        return {}
    if not any(suffix_of(name) in ENDINGS for name in contents.listing.others):
        return {}
    images: dict[str, list[str]] = {}  # by what a file beside them may be called without its ending
    for image in contents.listing.images:
        stem = posixpath.splitext(image)[0]
        for called in (stem, image, _aside(stem, ("images", "image", "img"))):
            images.setdefault(called, []).append(image)
    loose = {called.lower(): near for called, near in images.items()}
    files: dict[str, list[str]] = {}
    for name in contents.listing.others:
        stem, ending = posixpath.splitext(name)
        if ending.lower() in ENDINGS:
            aside = _aside(stem, FOLDERS)
            near = images.get(stem, []) or loose.get(stem.lower(), [])
            if not near and aside != "captions:" + stem:
                near = images.get(aside, [])
            for image in near:
                files.setdefault(image, []).append(name)
    return files


def _aside(stem: str, folders: Collection[str]) -> str:
    """A name without the folders that part captions from images."""
    *above, last = stem.split("/")
    return "captions:" + "/".join([*(folder for folder in above if folder.lower() not in folders), last])


def with_captions(entries: Entries, contents: Contents) -> Entries:
    """The entries with captions as data.captions says, where a table has none. Raises UserError."""
    config = contents.config
    if config.captions == "none":
        return replace(entries, texts=())
    if config.captions == "name":
        named = [[text] if (text := of_name(file)) else [] for file in entries.files]
        silent = [file for file, words in zip(entries.files, named, strict=True) if not words]
        entries.notes.add_all("image whose name has no words", silent)
        return replace(entries, texts=named)
    files = {} if any(entries.texts) else beside(contents)
    if not files and config.captions == "sidecar":
        raise UserError(f"data.captions: {contents.path} has no .txt, .caption or .json beside an image")
    if not files and not entries.spare:
        return entries
    texts: list[Sequence[str]] = []
    labels: list[str | None] = []
    used: set[str] = set()
    read: set[str] = set()  # and said
    for place, image in enumerate(entries.files):
        image_texts: list[str] = []
        label = None
        for name in files.get(image, ()):
            captions, its = _read(contents, name)
            if name.lower().endswith(".txt") and all(NUMBERS.fullmatch(text) for text in captions):
                if captions:
                    entries.notes.add(".txt file of numbers", name, "boxes or outlines, which are not used")
                captions = []
                read.add(name)
            kept = without_settings(captions)
            if len(kept) < len(captions):
                entries.notes.add("caption with settings of a sampler", name, "its prompt alone is read")
            image_texts += [text for text in kept if text not in image_texts]
            label = label or its
            if captions or its:
                used.add(name)
        texts.append(image_texts or ([entries.spare[place]] if entries.spare else ()))
        labels.append(label)
    if used:
        missing = [file for file, captions in zip(entries.files, texts, strict=True) if not captions]
        if any(texts):
            entries.notes.add_all("image without a caption", missing)
    elif config.captions == "sidecar":
        raise UserError(f"data.captions: no file beside the images of {contents.path} holds words")
    if any(labels) and config.labels and config.label != "folder":
        entries = replace(entries, labels=labels)
    return replace(entries, texts=texts, used=entries.used | used | read)


def _read(contents: Contents, name: str) -> tuple[list[str], str | None]:
    """The captions in a file, and the class where it states one. Raises UserError."""
    try:
        with contents.tree.open(name) as file:
            content = file.read()
    except Exception as error:  # of the disk or of an archive
        raise UserError(f"{plain(name)}: cannot be read ({blamed(error, name)})") from error
    text = text_of(name, content)
    if name.lower().endswith(".cls"):
        return [], clean(text) or None
    if not name.lower().endswith(".json"):
        return [line for line in map(clean, text.splitlines()) if line], None
    try:
        known = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{plain(name)}: is not JSON ({plain(str(error))})") from error
    return of_json(known)


def of_json(known: Any) -> tuple[list[str], str | None]:
    """The captions and the class in a JSON value beside a picture: an object, a list of captions, or one."""
    if not isinstance(known, Mapping):
        cells = known if isinstance(known, list) else [known]
        return [clean(cell) for cell in cells if isinstance(cell, str) and clean(cell)], None
    texts = [value for field, value in known.items() if TEXT.fullmatch(str(field))]
    texts = texts or [known[field] for field in KEYS if field in known]
    captions = [clean(cell) for value in texts for cell in (value if isinstance(value, list) else [value])
                if isinstance(cell, str) and clean(cell)]  # fmt: skip
    if not captions and (tags := known.get("tags")):
        captions = [", ".join(map(clean, tags)) if isinstance(tags, list) else clean(tags)]
    label = next((known[field] for field in ("label", "class", "cls") if field in known), None)
    return captions, clean(label) if isinstance(label, str | int) and not isinstance(label, bool) else None


def of_name(file: str) -> str:
    """A file's name as words: a_red-fox (2).png is "a red fox"."""
    stem = NUMBERED.sub("", posixpath.splitext(posixpath.basename(file))[0])
    words = " ".join(re.sub(r"[_\-+]+", " ", stem).split())
    return "" if words.lower() in CAMERAS else words


def without_settings(lines: Sequence[str]) -> Sequence[str]:
    """The lines of a caption but for what AUTOMATIC1111's web UI writes behind a prompt."""
    if not any(SETTINGS.match(line) for line in lines):
        return lines
    ends = (
        place
        for place, line in enumerate(lines)
        if line.startswith("Negative prompt:") or SETTINGS.match(line)
    )
    return lines[: next(ends)]


def with_orders(source: Source, count: int, keep: int) -> Source:
    """The source with each caption's comma-separated tags in so many orders, the written one first.

    Of an image's captions one is drawn at random each time, so its order is a pure function of the step; the
    orders themselves are one of the caption's text and their number.
    """

    def shuffled() -> Items:
        items = source.items()
        return replace(items, texts=[[order for text in texts for order in orders(text, count, keep)]
                                     for texts in items.texts])  # fmt: skip

    return replace(source, key=key(source.key, "orders", count, keep), items=shuffled)


def orders(text: str, count: int, keep: int = 0) -> list[str]:
    """A caption's tags in `count` orders: as written, then shuffled behind the first `keep`."""
    from safelight.randomness import permutation  # it imports torch

    tags = [tag for tag in (part.strip() for part in text.split(",")) if tag]
    fixed, free = tags[:keep], tags[keep:]
    if len(free) < 2:
        return [text] * count
    drawn = [permutation(len(free), "tags", text, number) for number in range(1, count)]
    return [text, *(", ".join([*fixed, *(free[place] for place in order)]) for order in drawn)]


def used_by(files: Mapping[str, Collection[str]]) -> list[str]:
    """All files of a mapping from images."""
    return [name for names in files.values() for name in names]
