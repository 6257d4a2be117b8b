"""From folders and archives to items: every layout is a function from what is there to entries, or None."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from safelight.config import UserError, nearest
from safelight.data import captions
from safelight.data.archives import Archive
from safelight.data.by_table import by_table, tables
from safelight.data.coco import by_coco, coco_files
from safelight.data.config import Data
from safelight.data.entries import Entries, joined, to_items
from safelight.data.folders import Contents, by_folder, by_kohya
from safelight.data.listing import ARCHIVES, SUFFIXES, TABLES, suffix_of
from safelight.data.masks import MaskTree
from safelight.data.pairs import by_pair
from safelight.data.source import Items, Notes, Source, key
from safelight.data.tree import ArchivesTree, FolderTree, JoinedTree, describe, open_tree
from safelight.terminal import plain

LAYOUTS: Mapping[str, Callable[[Contents], Entries | None]] = {  # in the order in which they are tried
    "metadata": by_table,
    "coco": by_coco,
    "pairs": by_pair,
    "kohya": by_kohya,
    "classes": by_folder,
}
WORDS = {"metadata": "a table", "coco": "COCO annotations", "pairs": "pairs of images and masks",
         "kohya": "kohya's folders", "classes": "folders of images"}  # fmt: skip
OLD = ("metadata", "coco", "classes")  # known to the rules of safelight 0.1


def folder(config: Data) -> Source:
    """The images below data.path, or below each of several paths. Raises UserError where there are none."""
    several = [find(path, config) for path in config.paths]
    if len(several) == 1:
        (contents,) = several
        name = Path(contents.path).name
        name = name[: -len(suffix_of(name))] if suffix_of(name) in ARCHIVES else name
        notes = [*contents.listing.notes]
        return Source(
            name or "folder", _key(contents), lambda: to_items(contents.tree, config, read(contents)), notes
        )
    prefixes: dict[str, Contents] = {}
    for contents in several:
        name = base = Path(contents.path).name or "folder"
        while name in prefixes:
            name = f"{base}-{len(prefixes) + 1}"
        prefixes[name] = contents

    def items() -> Items:
        parts = {name: read(contents) for name, contents in prefixes.items()}
        trees = {name: MaskTree(contents.tree, parts[name].outlines) for name, contents in prefixes.items()}
        if isinstance(config.weights, tuple):
            total = sum(len(part.files) for part in parts.values())
            for part, share in zip(parts.values(), config.weights, strict=True):
                part.weights = [share * total / max(1, len(part.files))] * len(part.files)
        return to_items(JoinedTree(trees), config, joined(parts))

    notes = [replace(note, example=f"{name}/{note.example}") for name, contents in prefixes.items()
             for note in contents.listing.notes]  # fmt: skip
    parts = [(name, _key(contents)) for name, contents in prefixes.items()]
    return Source("-".join(prefixes)[:40], key("folders", parts, config.weights), items, notes)


def find(path: str, config: Data) -> Contents:
    """The folder or archive at a path, listed. Raises UserError where it holds no image."""
    tree: FolderTree | ArchivesTree | Archive = open_tree(path, config.follow_links)
    listing = tree.scan() if config.rules > 1 else tree.scan().without_extras()
    archives = [name for name in listing.others if suffix_of(name) in ARCHIVES]
    if not listing.images and archives and isinstance(tree, FolderTree) and config.rules > 1:
        tree = ArchivesTree(tree.root, tree.follow_links, archives)
        listing = tree.scan()
    if not listing.images:
        bad = f" ({listing.bad[0]})" if listing.bad else ""
        for name in listing.others:
            listing.notes.add(f"{suffix_of(name)} file", name)
        there = ", ".join(map(str, [*listing.notes][:3]))
        hub = "; data.source=hub reads images in Parquet" if ".parquet" in there else ""
        kinds = " ".join(SUFFIXES)
        there = f"; there are {there}{hub}" if there else ""
        raise UserError(f"data.path: {path} holds no image{bad}; looked for {kinds}{there}")
    contents = Contents(path, tree, listing, config)
    if config.layout == "metadata" and not (tables(contents) or listing.metadata):
        raise UserError(f"data.layout: {path} has no metadata.csv or metadata.jsonl; set data.layout=auto")
    if config.layout == "coco" and not coco_files(contents):
        raise UserError(f"data.layout: {path} has no annotations/*.json; set data.layout=auto")
    read_tables = config.layout in ("auto", "metadata") and tables(contents)
    if (column := config.column()) and not read_tables:
        used = WORDS[
            ("coco" if coco_files(contents) else "classes") if config.layout == "auto" else config.layout
        ]
        what = "names the table" if column == "table" else "names a column"
        raise UserError(
            f"data.{column}: {what}, but {path} has no metadata.csv or metadata.jsonl that is used ({used})"
        )
    return contents


def read(contents: Contents) -> Entries:
    """The entries of the layout that the recipe states, or the first that is there. Raises UserError."""
    config = contents.config
    names = [*LAYOUTS] if config.rules > 1 else OLD
    for name in names if config.layout == "auto" else [config.layout]:
        entries = LAYOUTS[name](contents)
        if entries is not None:
            break
    else:
        raise UserError(f"data.layout: {contents.path} has no {WORDS[config.layout]}; set data.layout=auto")
    entries.layout = WORDS[name]
    if config.rules > 1:
        entries.notes.extend(contents.asides)
        _look_alike(entries)
        entries = _weighted(captions.with_captions(entries, contents), contents)
    if config.group:
        _group(entries, contents)
    for file in contents.listing.others:
        if file not in entries.used:
            suffix = suffix_of(file)
            entries.notes.add(f"{suffix} file", file, _hint(suffix, config))
    if entries.sides is not None:
        entries.layout += ", split as they say"
    first = min(entries.used, key=lambda file: (suffix_of(file) not in TABLES, file), default="")
    more = f" and {len(entries.used) - 1:,} more" if len(entries.used) > 1 else ""
    entries.layout += f" ({first}{more})" if first else ""
    return entries


def _look_alike(entries: Entries) -> None:
    """Note classes that differ in nothing but case and space."""
    alike: dict[str, set[str]] = {}
    for name in {label for label in entries.labels if label is not None}:
        alike.setdefault(" ".join(name.casefold().split()), set()).add(name)
    for names in alike.values():
        if len(names) > 1:
            listed = ", ".join(map(repr, sorted(names)))
            entries.notes.add(
                "classes unlike in case or space alone", listed, "each is a class by itself", len(names)
            )


def _group(entries: Entries, contents: Contents) -> None:
    """Give the entries the groups that data.group states. Raises UserError for none or just one."""
    group = str(contents.config.group)
    if group == "folder":
        entries.groups = [file.rpartition("/")[0] or None for file in entries.files]
    elif "(" in group:
        matches = [re.search(group, file) for file in entries.files]
        entries.groups = [match and ("\0".join(part or "" for part in match.groups())) for match in matches]
    different = {name for name in entries.groups if name is not None}
    if not different or (len(different) == 1 and None not in entries.groups):
        what = "one group" if different else "no group"
        example = f"such as {plain(entries.files[0])}" if entries.files else ""
        raise UserError(f"data.group: {group!r} finds {what} among {len(entries.files):,} images, {example}")
    alone = [file for file, name in zip(entries.files, entries.groups, strict=True) if name is None]
    entries.notes.add_all("image of no group", alone, "data.group says nothing of it; it is split by itself")


def _weighted(entries: Entries, contents: Contents) -> Entries:
    """The entries with the weights of folders that data.weights names. Raises UserError."""
    stated = contents.config.weights
    if not isinstance(stated, dict):
        return entries
    folders = {
        "/".join(file.split("/")[:depth]) for file in entries.files for depth in range(1, file.count("/") + 1)
    }
    short = {folder.rpartition("/")[2] for folder in folders}
    for folder in stated:
        if folder.strip("/") not in folders | short:
            raise UserError(
                f"data.weights: {contents.path} has no folder {folder!r}{nearest(folder, folders)}"
            )

    def weight(file: str) -> float:
        inside = f"/{file}"
        return float(
            np.prod([number for folder, number in stated.items() if f"/{folder.strip('/')}/" in inside])
        )

    before = entries.weights or [1.0] * len(entries.files)
    return replace(
        entries, weights=[old * weight(file) for old, file in zip(before, entries.files, strict=True)]
    )


def _hint(suffix: str, config: Data) -> str:
    if suffix in captions.ENDINGS and config.captions in ("auto", "sidecar"):
        return "not beside a picture of its name"
    if suffix in ARCHIVES:
        return "archives are read where no picture lies beside them; give it as data.path"
    if suffix in (".csv", ".tsv", ".jsonl", ".parquet"):
        return "data.table names the table to read"
    return ""


def _key(contents: Contents) -> str:
    """The key of what is read there: as it was before, where the rules of today find nothing more."""
    config, listing = contents.config, contents.listing
    checked = (config.attribute_range, config.need_attributes)
    more = {"which attributes": checked} if any(checked) else {}  # where unset, the keys of older packs
    old = "metadata" if listing.metadata else "coco" if listing.annotations else "classes"
    chosen = old if config.layout == "auto" else config.layout
    parts: list[object] = [chosen, config.choices(**more), str(describe(contents.tree)), listing.digest]
    if config.rules == 1 or (config.layout == "classes" and not _more(contents)):
        return key("folder", *parts)
    extra = [*tables(contents), *captions.used_by(captions.beside(contents)), *coco_files(contents)]
    others = [name for name in extra if name in listing.others]
    named = listing.metadata or listing.annotations or others
    if named or _more(contents):
        parts += [config.rules, listing.digest_of(set(others))]
    if config.mask_classes == 2:
        parts.append("white")  # is a class, if there is nothing else beside black
    return key("folder", *parts)


def _more(contents: Contents) -> bool:
    """Whether names of folders and files say more today than they did to safelight 0.1."""
    names = [name for name in LAYOUTS if name not in ("metadata", "coco")]
    chosen = (
        names
        if contents.config.layout in LAYOUTS.keys() - {*names} or contents.config.layout == "auto"
        else [contents.config.layout]
    )
    contents = replace(contents, asides=Notes())  # what is said now would be said again
    entries = next(entries for name in chosen if (entries := LAYOUTS[name](contents)) is not None)
    older = by_folder(replace(contents, config=contents.config.model_copy(update={"rules": 1})))
    rows = [
        (list(known.files), list(known.masks), len(set(known.weights)) > 1 and list(known.weights),
         None if known.sides is None else known.sides.tolist(),
         [(name, column.names, column.values.tolist()) for name, column in known.conditions().items()])
        for known in (entries, older)
    ]  # fmt: skip
    return rows[0] != rows[1]
